"""``batch-llm status``: where the jobs of this home stand.

Belongs here: counting a run's rows from stored rows and journals, wording it. Not here: a running process's own
progress (board.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from batch_llm.cli.jobs import declared_in, known_run, open_home
from batch_llm.cli.speech import arguments, bill_in_words, print_json, say, table, usd

if TYPE_CHECKING:
    from batch_llm.journal.base import RunRecord, RunStore
    from batch_llm.journal.last_words import LastWords
    from batch_llm.statement_costs import WarehouseBill
    from batch_llm.warehouse.base import StatusCounts
    from batch_llm.wiring import Store

__all__ = ["RunStatus", "print_status", "status_of"]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One job's newest run; the keys of ``status --json``. ok + failed + pending = rows."""

    job: str
    run_id: str
    state: str  # running | planned (nothing was asked yet) | stopped | finished | superseded
    rows: int
    queued: int  # pending rows that nobody has asked yet
    in_flight: int | None  # sent and not answered; None while a run without a budget is going: it notes no intent
    answered: int  # pending rows with an answer in the journal, which is not published yet
    ok: int
    failed: int
    cached: int
    pending: int  # rows without a published result
    slices: int
    slices_published: int
    cost_usd: Decimal | None  # of the published rows and of the answers in journals
    parked_until: datetime | None  # nothing parks a run yet
    warehouse: WarehouseBill | None  # what the run's statements cost so far; None: the warehouse bills nothing
    reason: str | None  # why it left rows pending, an error class; None: it runs, was killed, or nothing is pending
    partition: str | None  # the date partition that it is over; None: all of the input
    rows_by_model: dict[str, int]  # of a job with `fallback`: provider/model: ok rows that are published


@dataclass(frozen=True, slots=True)
class _Stored:
    """The published rows of a slice whose journal has grown since, as far as they still stand."""

    answered: int = 0  # rows that this run answered: its journal has them as well
    carried_ok: int = 0  # rows that an earlier run answered: the journal says nothing of them
    carried_failed: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class _Open:
    """How a slice stands that is not published, or not as its journal has it by now; each row is counted once.

    What became of the rows that this run asked, the journal says; which answers are published, the stored rows.
    """

    journal: LastWords
    stored: _Stored = _Stored()

    @property
    def ok(self) -> int:
        """Rows with a published answer that stands."""
        return self.stored.carried_ok + self._published

    @property
    def answered(self) -> int:
        """Rows with an answer that is not published yet."""
        return self.journal.answered - self._published

    @property
    def failed(self) -> int:
        """Rows that ended without an answer."""
        return self.stored.carried_failed + self.journal.failed

    @property
    def _published(self) -> int:
        return min(self.stored.answered, self.journal.answered)


def print_status(reference: str | None, partition: str | None, *, json: bool) -> None:
    """``batch-llm status [JOB]``: one job as one object, all jobs as a list."""
    if reference is not None:
        run = known_run(reference, partition)
        found = [status_of(run.store, run.record)]
    else:
        store = open_home()
        found = [status_of(store, record) for record in _newest_of_each(store.runs)]
    if json:
        print_json(asdict(found[0]) if reference is not None else [asdict(one) for one in found])
    elif found:
        say(_in_words(found))
        for one in found:
            if one.warehouse is not None:
                say(f"{one.run_id}: warehouse {bill_in_words(one.warehouse)}")
            if one.state == "stopped":
                say(f"{one.run_id}: {_how_it_goes_on(one)}")
            if one.rows_by_model:
                shown = ", ".join(f"{model} {rows:,}" for model, rows in one.rows_by_model.items())
                say(f"{one.run_id}: answered by {shown}")
    else:
        say("No job has run in this home yet. Try: batch-llm demo")


def status_of(store: Store, record: RunRecord) -> RunStatus:
    """Count a run's rows: stored rows first, journals for what is not published."""
    from batch_llm.engine.summary import rows_by_model, total
    from batch_llm.statement_costs import bill_of

    numbers = range(len(record.slice_rows))
    grown = [number for number in numbers if not store.runs.is_published(record.run_id, number)]
    published = store.warehouse.published(record.run_id)  # after that look: what is published meanwhile is told here
    stored = total(counts for number, counts in published.items() if number not in grown)
    left = [number for number in numbers if number in grown or number not in published]
    opened = [_open(store, record, number, is_stored=number in published) for number in left]
    going = record.state.value == "planned" and store.runs.is_at_work(record.run_id)
    ok, failed = stored.ok + sum(one.ok for one in opened), stored.failed + sum(one.failed for one in opened)
    answered, pending = sum(one.answered for one in opened), sum(record.slice_rows) - ok - failed
    in_flight = sum(one.journal.sent for one in opened) if going else 0
    reason = _reason(store, record) if stored.pending and not going and not grown else None
    begun = record.state.value == "planned" and (published or any(one.journal.noted for one in opened))
    return RunStatus(
        job=record.job["name"],
        run_id=record.run_id,
        state="running" if going else "stopped" if begun or reason is not None else record.state.value,
        rows=sum(record.slice_rows),
        queued=pending - answered - in_flight,
        in_flight=None if going and not any(one.journal.notes_intent for one in opened) else in_flight,
        answered=answered,
        ok=ok,
        failed=failed,
        cached=stored.cached + sum(one.stored.cached for one in opened),
        pending=pending,
        slices=len(record.slice_rows),
        slices_published=len(published),
        cost_usd=_cost(stored, store, record, left),
        parked_until=None,
        reason=reason,
        warehouse=bill_of(store.runs.statements(record.run_id)),
        partition=record.partition,
        rows_by_model=rows_by_model(store.warehouse, record),
    )


def _newest_of_each(runs: RunStore) -> list[RunRecord]:
    newest: dict[str, RunRecord] = {}
    for record in runs.all():
        newest.setdefault(record.job["name"], record)
    return list(newest.values())


def _open(store: Store, record: RunRecord, number: int, *, is_stored: bool) -> _Open:
    from batch_llm.journal.last_words import last_words

    journal = last_words([store.runs.entries(record.run_id, number)])
    return _Open(journal, _stored(store, record, number)) if is_stored else _Open(journal)


def _stored(store: Store, record: RunRecord, number: int) -> _Stored:
    """Read what is published of a slice. Failures of earlier runs do not stand once the slice is retried."""
    rows: Counter[tuple[str, bool]] = Counter()  # status, of this run: rows
    columns, cached = ("llm_status", "llm_run_id", "llm_cached"), 0
    for batch in store.warehouse.rows(f"run:{record.run_id}", columns=columns, slice_number=number):
        for status, run_id, was_cached in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            rows[status, run_id == record.run_id] += 1
            cached += bool(was_cached) or run_id != record.run_id
    failed = rows["failed", False]
    if failed and any(entry.kind.value == "retried" for entry in store.runs.entries(record.run_id, number)):
        cached, failed = cached - failed, 0
    return _Stored(rows["ok", True], rows["ok", False], failed, cached)


def _cost(stored: StatusCounts, store: Store, record: RunRecord, left: list[int]) -> Decimal | None:
    """The cost of published slices, with that of the answers in the journals of those left; None: nobody knows."""
    from batch_llm import wiring
    from batch_llm.engine.summary import cost_so_far, total
    from batch_llm.errors import ConfigurationError

    begun = [number for number in left if store.runs.size(record.run_id, number)]
    if not begun:
        return cost_so_far(stored)
    try:
        journals = wiring.planner(store.settings, declared_in(record)).journalled_cost(record, begun)
    except ConfigurationError:  # the model is not in the providers file any more
        return None
    return cost_so_far(total([stored, journals]))


def _reason(store: Store, record: RunRecord) -> str | None:
    batches = store.warehouse.rows(
        f"run:{record.run_id}", columns=["llm_error_class"], where="llm_status = 'pending'", limit=1
    )
    for batch in batches:
        for value in batch.column(0).to_pylist():
            return None if value is None else str(value)
    return None


def _how_it_goes_on(one: RunStatus) -> str:
    from batch_llm.engine.retry import RULES

    advice = next((rule.advice for name, rule in RULES.items() if name.value == one.reason), "run it again")
    named = arguments(one.job, one.partition)
    return f"stopped with {one.pending:,} rows pending; {advice}: batch-llm run {named} (what is paid is kept)"


def _in_words(found: list[RunStatus]) -> str:
    headers = ["job", "run", "state", "rows", "ok", "failed", "pending", "cached", "answered", "slices", "cost", "why"]
    rows = [
        [
            one.job,
            one.run_id,
            one.state,
            f"{one.rows:,}",
            f"{one.ok:,}",
            f"{one.failed:,}",
            f"{one.pending:,}",
            f"{one.cached:,}",
            f"{one.answered:,}",
            f"{one.slices_published}/{one.slices}",
            usd(one.cost_usd),
            one.reason or "",
        ]
        for one in found
    ]
    return table(headers, rows)
