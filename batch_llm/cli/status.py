"""``batch-llm status``: where the jobs of this home stand.

Belongs here: counting a run's rows from stored rows and journals, wording it. Not here: a running process's own
progress (board.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from batch_llm.cli.jobs import declared_in, known_run, open_home
from batch_llm.cli.speech import arguments, bill_in_words, print_json, say, table, usd

if TYPE_CHECKING:
    from batch_llm.journal.base import RunRecord, RunStore
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
    answered: int  # answers in the journal of slices that are not published yet
    ok: int
    failed: int
    cached: int
    pending: int  # rows without a published result
    slices: int
    slices_published: int
    cost_usd: Decimal | None  # of the published rows and of the answers in journals
    parked_until: datetime | None  # nothing parks a run yet
    warehouse: WarehouseBill | None  # what the run's statements cost so far; None: the warehouse bills nothing
    reason: str | None  # why rows are pending, an error class; None: its process was killed, or nothing is pending
    partition: str | None  # the date partition that it is over; None: all of the input
    rows_by_model: dict[str, int]  # of a job with `fallback`: provider/model: ok rows that are published


@dataclass(frozen=True, slots=True)
class _Unpublished:
    """What the journals say of slices that are not published."""

    answered: int = 0
    failed: int = 0
    sent: int = 0
    notes_intent: bool = False

    @property
    def noted(self) -> int:
        """Rows that something was done for."""
        return self.answered + self.failed + self.sent


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
    """Count a run's rows: stored rows first, journals for the slices that are not published."""
    from batch_llm.engine.summary import rows_by_model, total
    from batch_llm.statement_costs import bill_of

    published = store.warehouse.published(record.run_id)
    stored = total(published.values())
    open_slices = [number for number in range(len(record.slice_rows)) if number not in published]
    journal = _unpublished(store.runs, record, open_slices)
    going = record.state.value == "planned" and store.runs.is_at_work(record.run_id)
    failed = stored.failed + journal.failed
    pending = sum(record.slice_rows) - stored.ok - failed
    in_flight = journal.sent if going else 0
    reason = _reason(store, record) if stored.pending else None
    begun = record.state.value == "planned" and (journal.noted or published)
    return RunStatus(
        job=record.job["name"],
        run_id=record.run_id,
        state="running" if going else "stopped" if begun or reason is not None else record.state.value,
        rows=sum(record.slice_rows),
        queued=pending - journal.answered - in_flight,
        in_flight=None if going and not journal.notes_intent else in_flight,
        answered=journal.answered,
        ok=stored.ok,
        failed=failed,
        cached=stored.cached,
        pending=pending,
        slices=len(record.slice_rows),
        slices_published=len(published),
        cost_usd=_cost(stored, store, record, open_slices),
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


def _unpublished(runs: RunStore, record: RunRecord, slices: list[int]) -> _Unpublished:
    """Fold the last word on each row of these slices; answers are not judged here."""
    counts = {"answer": 0, "failed": 0, "sent": 0}
    notes_intent = False
    for number in slices:
        last: dict[int, str] = {}
        for entry in runs.entries(record.run_id, number):
            last[entry.row] = entry.kind.value
            notes_intent = notes_intent or entry.kind.value == "sent"
        for kind in counts:
            counts[kind] += sum(value == kind for value in last.values())
    return _Unpublished(counts["answer"], counts["failed"], counts["sent"], notes_intent)


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
