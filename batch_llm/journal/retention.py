"""Erasing runs that are older than somebody wants them kept.

Belongs here: which runs are old enough and may go, and the order of erasing. Not here: how a warehouse or a store
erases, when this happens (`RunStore.sweep`, cli/forget.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from batch_llm.errors import (
    BatchLLMError,
    JournalError,
    JournalRefused,
    JournalUnreachable,
    SliceBusy,
    WarehouseRefused,
)
from batch_llm.journal.base import RunRecord, RunState, RunStore

__all__ = ["Retention", "erase_expired", "expired"]

_log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


def _tell(run_id: str, error: BatchLLMError) -> None:
    _log.warning("run %s is older than runs are to be kept, and is not erased: %s", run_id, error)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long runs that ended are kept."""

    days: float
    erase_tables: Callable[[str], None]  # drops a run's frozen slices and published work tables: `Warehouse.forget`
    now: Callable[[], datetime] = _now


def expired(records: list[RunRecord], retention: Retention, job_name: str | None = None) -> list[str]:
    """The runs that ended more than ``retention.days`` ago, oldest first.

    Not one that is unfinished, nor one whose paid answers an unfinished run takes over.
    """
    limit = retention.now() - timedelta(days=retention.days)
    needed = {run_id for record in records if record.state is RunState.PLANNED for run_id in record.supersedes}
    return [
        record.run_id
        for record in sorted(records, key=lambda record: record.created_at)
        if record.state is not RunState.PLANNED
        and (record.finished_at or record.created_at) < limit
        and record.run_id not in needed
        and job_name in (None, record.job["name"])
    ]


def erase_expired(
    runs: RunStore,
    retention: Retention,
    job_name: str | None = None,
    cannot: Callable[[str, BatchLLMError], None] = _tell,
) -> list[str]:
    """Erase these runs wholly: journals, frozen slices, work tables, record; the ids. Output tables stay.

    A run that somebody works on is passed over, and so is one that a `retry` reopened in this moment. ``cannot`` hears
    of each that is too old and stays, wholly or in part, and why; the others are erased all the same. A record of the
    job that cannot be read is a reason: that run may need the answers of these.
    """
    erased: list[str] = []
    records = runs.all()
    job_of = {record.run_id: record.job["name"] for record in records}
    for run_id in expired(records, retention, job_name):
        with ExitStack() as alone:
            try:
                alone.enter_context(runs.alone(run_id))
            except JournalUnreachable:
                raise
            except JournalRefused as error:
                cannot(run_id, error)
                continue
            except (SliceBusy, JournalError):
                continue  # somebody works on it, or erased it meanwhile
            try:
                if run_id in expired(runs.all(job_of[run_id]), retention):
                    retention.erase_tables(run_id)  # first: the record that leads here goes last
                    runs.delete(run_id)
                    erased.append(run_id)
            except JournalUnreachable:
                raise
            except (JournalError, WarehouseRefused) as error:
                cannot(run_id, error)
    return erased
