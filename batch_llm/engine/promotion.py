"""Bringing a run's published rows into the output table.

Belongs here: whether they may go, and the run's end. Not here: the SQL (warehouse).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from batch_llm.engine.events import RunSummary
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import JobParts
from batch_llm.engine.summary import summarise, total
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.warehouse.base import StatusCounts

__all__ = ["blocked_by_check", "promote"]


def blocked_by_check(parts: JobParts, counts: StatusCounts) -> str | None:
    """Why the job's own check keeps these rows out of the output table; None when it does not."""
    checks = parts.declared.job.checks
    if checks.max_failed_share is None or not checks.block_promotion or not counts.rows:
        return None
    share = counts.failed / counts.rows
    if share <= checks.max_failed_share:
        return None
    return (
        f"{counts.failed} of {counts.rows} rows failed ({share:.2%}), more than checks.max_failed_share "
        f"({checks.max_failed_share:.2%}): the output table was left alone. `retry` the failed rows, or raise the check"
    )


async def promote(
    parts: JobParts,
    record: RunRecord,
    counts: Mapping[int, StatusCounts],
    meter: Meter,
    stopped: str | None = None,
) -> RunSummary:
    """Promote unless the job's check forbids it; a run without pending rows is finished then. Repeatable."""
    stored = total(counts.values())
    blocked = blocked_by_check(parts, stored)
    if blocked is None and (counts or not record.slice_rows):
        await asyncio.to_thread(
            parts.warehouse.promote, record.run_id, parts.output, record.key, parts.declared.job.output.mode
        )
    if blocked is None and not stored.pending:
        finished = replace(record, state=RunState.FINISHED, finished_at=parts.clock.now())
        await asyncio.to_thread(parts.runs.save, finished)
    summary = await asyncio.to_thread(summarise, parts, record, counts, meter, stopped)
    return replace(summary, blocked=blocked)
