"""Bringing a run's published rows into the output table.

Belongs here: whether they may go, and the run's end. Not here: the SQL (warehouse).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from batch_llm.engine.events import RunSummary
from batch_llm.engine.meter import Meter
from batch_llm.engine.output import check_owner
from batch_llm.engine.parts import JobParts
from batch_llm.engine.summary import fingerprint, summarise, total
from batch_llm.errors import OutputError, WarehouseRefused
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.warehouse.base import Mode, StatusCounts

__all__ = ["blocked_by_check", "has_grown", "promote"]


@dataclass(frozen=True, slots=True)
class _End:
    """How bringing a run in went."""

    counts: Mapping[int, StatusCounts]
    blocked: str | None = None
    elsewhere: bool = False


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


def has_grown(parts: JobParts, record: RunRecord) -> bool:
    """Whether a journal of the run holds more than what is published: a process was killed in between, or is at it."""
    return any(not parts.runs.is_published(record.run_id, number) for number in range(len(record.slice_rows)))


async def promote(parts: JobParts, record: RunRecord, meter: Meter, stopped: str | None = None) -> RunSummary:
    """Promote unless the job's check forbids it; a run without pending rows is finished then. Repeatable.

    One process at a time does this for a run. When another one has brought in exactly these rows since ``record`` was
    read, there is nothing left to do.
    """
    end = await asyncio.to_thread(_end, parts, record)
    summary = await asyncio.to_thread(summarise, parts, record, end.counts, meter, stopped)
    return replace(summary, blocked=end.blocked, ended_elsewhere=end.elsewhere)


def _refuse_anothers(parts: JobParts) -> None:
    """An output that another job has made since this run began stays as it is."""
    try:
        check_owner(parts)
    except OutputError as error:
        raise WarehouseRefused(str(error)) from error


def _end(parts: JobParts, record: RunRecord) -> _End:
    runs, run_id = parts.runs, record.run_id
    with runs.ending(run_id):
        counts = parts.warehouse.published(run_id)
        stored, rows = total(counts.values()), fingerprint(counts)
        blocked = blocked_by_check(parts, stored)
        if runs.get(run_id).ended_as == rows != record.ended_as:
            return _End(counts, blocked, elsewhere=True)
        all_there = all(number in counts for number in range(len(record.slice_rows)))
        ended: dict[str, Any] = {"ended_as": rows}
        if blocked is None and (counts or not record.slice_rows):
            _refuse_anothers(parts)
            parts.warehouse.promote(run_id, parts.output, record.key, _mode(parts, all_there))
            at = parts.clock.now().isoformat(timespec="microseconds")
            ended["promoted"] = f"{at} {parts.warehouse.output_version(parts.output)}"
        if blocked is None and all_there and not stored.pending and not has_grown(parts, record):
            ended |= {"state": RunState.FINISHED, "finished_at": max(parts.clock.now(), record.created_at)}
        runs.change(run_id, **ended)
        return _End(counts, blocked)


def _mode(parts: JobParts, all_there: bool) -> Mode:
    """How the rows go in. A row of a slice that is not published yet has a key of the run too, and must not be lost."""
    mode = parts.declared.job.output.mode
    return mode if all_there or mode != "replace" else "upsert"
