"""Erasing runs that are older than somebody wants them kept.

Belongs here: which runs are old enough and may go, and the order of erasing. Not here: how a warehouse or a store
erases, when this happens (`RunStore.sweep`, cli/forget.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from batch_llm.errors import JournalError, JournalUnreachable, SliceBusy
from batch_llm.journal.base import RunRecord, RunState, RunStore

__all__ = ["Retention", "erase_expired", "expired"]


def _now() -> datetime:
    return datetime.now(UTC)


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


def erase_expired(runs: RunStore, retention: Retention, job_name: str | None = None) -> list[str]:
    """Erase these runs wholly: journals, frozen slices, work tables, record; the ids. Output tables stay.

    A run that somebody works on is passed over, and so is one that a `retry` reopened in this moment.
    """
    erased = []
    for run_id in expired(runs.all(), retention, job_name):
        try:
            with runs.alone(run_id):
                if run_id not in expired(runs.all(), retention):
                    continue
                retention.erase_tables(run_id)  # first: the record that leads here goes last
                runs.delete(run_id)
        except JournalUnreachable:
            raise
        except (SliceBusy, JournalError):
            continue  # somebody works on it, or erased it meanwhile
        erased.append(run_id)
    return erased
