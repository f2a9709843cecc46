"""How a run stands, from its stored rows and journals.

Belongs here: adding up published counters, and what the answers cost that only journals have yet, with what was planned
beside them. Not here: counting rows (warehouse.published), planning (planned.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from decimal import Decimal

import orjson

from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.events import PlanFigures, RunSummary
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import JobParts
from batch_llm.engine.planned import Planned, keep_learned
from batch_llm.engine.rows import Rows
from batch_llm.errors import ErrorClass, OutputError
from batch_llm.journal.base import EntryKind, RunRecord
from batch_llm.statement_costs import bill_of
from batch_llm.warehouse.base import StatusCounts, Warehouse

__all__ = ["cost_so_far", "fingerprint", "journalled_cost", "plan_figures", "rows_by_model", "summarise", "total"]


def total(counts: Iterable[StatusCounts]) -> StatusCounts:
    """The sum of some counters; a cost is known when any is."""
    seen = list(counts)
    costs = [one.cost_usd for one in seen if one.cost_usd is not None]
    return StatusCounts(
        rows=sum(one.rows for one in seen),
        ok=sum(one.ok for one in seen),
        failed=sum(one.failed for one in seen),
        pending=sum(one.pending for one in seen),
        cached=sum(one.cached for one in seen),
        attempts=sum(one.attempts for one in seen),
        input_tokens=sum(one.input_tokens for one in seen),
        output_tokens=sum(one.output_tokens for one in seen),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        cost_unknown_rows=sum(one.cost_unknown_rows for one in seen),
    )


def journalled_cost(parts: JobParts, judge: AnyJudge, record: RunRecord, numbers: Iterable[int]) -> StatusCounts:
    """What the answers in the journals of slices cost, each at the price it was paid at. Blocking.

    Of the counters only those that `cost_so_far` tells it by: the sum of the known costs, and how many calls it is of.
    """
    answerers = parts.answerers(judge, record)
    settled_usd, known, unknown = Decimal(0), 0, 0
    for number in numbers:
        rows = Rows(answerers, record.slice_rows[number])
        for entry in parts.runs.entries(record.run_id, number):
            rows.apply(entry, entry.place)
            if entry.kind is EntryKind.ANSWER and rows.last_cost_nano is not None:
                known += 1
            elif entry.kind in (EntryKind.ANSWER, EntryKind.LOST):
                unknown += 1
        settled_usd += rows.settled_usd
    return StatusCounts(attempts=known + unknown, cost_usd=settled_usd if known else None)


def cost_so_far(stored: StatusCounts) -> Decimal | None:
    """What these rows cost: nothing where nothing was asked, whatever the price; None where nobody knows."""
    if stored.cost_usd is None and not stored.attempts and not stored.cost_unknown_rows:
        return Decimal(0)
    return stored.cost_usd


def fingerprint(counts: Mapping[int, StatusCounts]) -> str:
    """A hash of a run's stored counters: two processes that see the same one see the same rows."""
    told = [[number, *(str(value) for value in astuple(counts[number]))] for number in sorted(counts)]
    return hashlib.blake2b(orjson.dumps(told), digest_size=16).hexdigest()


def summarise(
    parts: JobParts, record: RunRecord, counts: Mapping[int, StatusCounts], meter: Meter, stopped: str | None = None
) -> RunSummary:
    """The run's summary; rows of slices that are not published yet are pending. Blocking.

    What this process learned is kept with it.
    """
    plan = keep_learned(parts, record)
    all_rows = sum(record.slice_rows)
    stored = total(counts.values())
    failed_by_class = _failed_by_class(parts, record) if stored.failed else {}
    return RunSummary(
        job=parts.declared.job.name,
        kind=parts.declared.job.kind,
        run_id=record.run_id,
        rows=all_rows,
        ok=stored.ok,
        failed=stored.failed,
        pending=all_rows - stored.ok - stored.failed,
        cached=stored.cached,
        requests=meter.requests,
        attempts=stored.attempts,
        input_tokens=stored.input_tokens,
        output_tokens=stored.output_tokens,
        cost_usd=cost_so_far(stored),
        cost_unknown_rows=stored.cost_unknown_rows,
        wall_s=round(meter.elapsed_s(), 3),
        output=parts.output,
        stopped=stopped,
        partition=record.partition,
        planned_cost_usd=None if plan is None else plan.cost_usd,
        planned=None if plan is None else plan_figures(plan),
        failed_by_class=failed_by_class,
        warehouse=bill_of(parts.runs.statements(record.run_id)),
        rows_by_model=rows_by_model(parts.warehouse, record),
        throttled=meter.errors[ErrorClass.RATE_LIMITED.value],
    )


def rows_by_model(warehouse: Warehouse, record: RunRecord) -> dict[str, int]:
    """provider/model: its ok rows among the published ones, of a job with `fallback`; empty for others. Blocking."""
    if not record.job.get("fallback"):
        return {}
    names, found = ("llm_provider", "llm_model"), Counter[str]()
    try:
        for batch in warehouse.rows(f"run:{record.run_id}", columns=names, where="llm_status = 'ok'"):
            providers, models = (batch.column(name).to_pylist() for name in names)
            found.update(f"{provider}/{model}" for provider, model in zip(providers, models, strict=True))
    except OutputError:  # nothing is published yet
        return {}
    return dict(sorted(found.items()))


def plan_figures(plan: Planned) -> PlanFigures:
    """What a summary tells of the plan."""
    return PlanFigures(
        plan.rows,
        plan.cost_low_usd,
        plan.cost_high_usd,
        plan.input_tokens,
        plan.output_tokens,
        plan.output_from,
        plan.after_answers,
        plan.first_cost_usd,
    )


def _failed_by_class(parts: JobParts, record: RunRecord) -> dict[str, int]:
    found: dict[str, int] = {}
    batches = parts.warehouse.rows(f"run:{record.run_id}", columns=["llm_error_class"], where="llm_status = 'failed'")
    for batch in batches:
        for name in batch.column(0).to_pylist():
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))
