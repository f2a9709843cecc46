"""Run records as they are stored: JSON, one to a run.

Belongs here: writing and reading the JSON, what one that cannot be read means for all others. Not here: where it lies
(runs.py, shared_runs.py).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import orjson

from batch_llm.errors import JournalError, JournalRefused
from batch_llm.journal.base import RunRecord, RunState

__all__ = ["RECORD", "StoredRecords", "read_record", "record_bytes"]

RECORD: Final = "run.json"
ENDING_PARTS: Final = 3  # of a run's id, behind the job's name: day, time, chance

_log = logging.getLogger(__name__)


class StoredRecords:
    """The records of one place, among which some may be damaged; of each of those it tells once."""

    def __init__(self, place: str) -> None:
        """``place``: a folder or URL, for messages."""
        self._place = place
        self._told: set[str] = set()

    def of(self, job_name: str | None, stored: Iterable[tuple[str, bytes | OSError]]) -> list[RunRecord]:
        """The records of a job, or of all, newest first. ``stored``: each run's id, and what was read.

        Raises `JournalRefused` for one of that job which cannot be read: its answers would be paid again, its rows told
        wrong. Such a one of another job is passed over, with a warning: jobs find each other's answers by an index.
        """
        found = []
        for run_id, data in stored:
            try:
                found.append(read_record(data, f"{self._place}/{run_id}/{RECORD}"))
            except JournalError as error:
                mend = f"restore it, or move {self._place}/{run_id} away: what only it has is paid again then"
                if _job_of(run_id) == job_name:
                    raise JournalRefused(f"{error}; {mend}") from error
                self._tell(run_id, f"{error}; its run is passed over here, and stops its own job; {mend}")
        wanted = [record for record in found if job_name in (None, record.job["name"])]
        return sorted(wanted, key=lambda record: (record.created_at, record.run_id), reverse=True)

    def _tell(self, run_id: str, message: str) -> None:
        if run_id not in self._told:
            self._told.add(run_id)
            _log.warning("%s", message)


def record_bytes(record: RunRecord) -> bytes:
    """A record as it is stored."""
    return orjson.dumps(dataclasses.asdict(record), default=str, option=orjson.OPT_INDENT_2)


def read_record(stored: bytes | OSError, place: str) -> RunRecord:
    """The record that was stored. Raises `JournalError`, which names the ``place``, for anything else."""
    if isinstance(stored, OSError):
        raise JournalError(f"{place} cannot be read: {stored.strerror}") from stored
    try:
        data = orjson.loads(stored)
        for name in ("key", "columns", "slice_rows", "supersedes"):
            data[name] = tuple(data[name])
        for name in ("created_at", "finished_at"):
            data[name] = datetime.fromisoformat(data[name]) if data[name] else None
        data["state"] = RunState(data["state"])
        record = RunRecord(**data)
        if record.created_at.tzinfo is None or not isinstance(record.job["name"], str):
            raise ValueError("it is not known when it began, or of which job it is")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise JournalError(f"{place} is not a run record: {error}") from error
    return record


def _job_of(run_id: str) -> str:
    """The job whose name a run's id begins with."""
    return run_id.rsplit("-", ENDING_PARTS)[0]
