"""The records of all runs of a home, one small JSON file each.

Belongs here: saving, finding and deleting run records, and where a run's files lie. Not here: what a run does.

    <runs>/<run_id>/run.json            the record
    <runs>/<run_id>/frozen/0000.parquet the frozen slices (the warehouse's)
    <runs>/<run_id>/journal/0000.jsonl  a slice's journal
    <runs>/<run_id>/journal/0000.published how much of the journal is published
    <runs>/<run_id>/journal/0000.spent  what the slice's journal cost, so that it need not be read again
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from batch_llm.errors import JournalError
from batch_llm.journal.base import Entry, RunRecord, RunState
from batch_llm.journal.local import LocalJournal, read_journal

__all__ = ["LocalRunStore"]

LEFTOVER_S = 86_400.0  # a freeze takes minutes at most


class LocalRunStore:
    """Run records and journals under one folder."""

    def __init__(self, runs_dir: Path) -> None:
        """``runs_dir``: the folder; made when the first record is saved."""
        self.runs_dir = runs_dir

    def save(self, record: RunRecord) -> None:
        """Write the record, whole or not at all."""
        folder = self.runs_dir / record.run_id
        folder.mkdir(parents=True, exist_ok=True)
        data = orjson.dumps(dataclasses.asdict(record), default=str, option=orjson.OPT_INDENT_2)
        temporary = folder / f"run.json.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / "run.json")

    def get(self, run_id: str) -> RunRecord:
        """The record of a run. Raises `JournalError` when there is none."""
        path = self.runs_dir / run_id / "run.json"
        try:
            return _record(orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            raise JournalError(f"no run {run_id} in {self.runs_dir}") from None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise JournalError(f"{path} is not a run record: {error}") from error

    def all(self, job_name: str | None = None) -> list[RunRecord]:
        """All records, newest first; of one job when named."""
        found = [self.get(path.parent.name) for path in self.runs_dir.glob("*/run.json")]
        wanted = [record for record in found if job_name is None or record.job["name"] == job_name]
        return sorted(wanted, key=lambda record: (record.created_at, record.run_id), reverse=True)

    def latest(self, job_name: str) -> RunRecord | None:
        """The job's newest record."""
        records = self.all(job_name)
        return records[0] if records else None

    def delete(self, run_id: str) -> None:
        """Erase the record and everything that lies beside it."""
        shutil.rmtree(self.runs_dir / run_id, ignore_errors=True)

    def journal(self, run_id: str, slice_number: int) -> LocalJournal:
        """Open a slice's journal for writing. Raises `JournalBusy` when another process has it."""
        return LocalJournal(self.journal_path(run_id, slice_number))

    def entries(self, run_id: str, slice_number: int) -> Iterator[Entry]:
        """A slice's entries, read only."""
        return read_journal(self.journal_path(run_id, slice_number))

    def spent(self, run_id: str, slice_number: int) -> tuple[int, str] | None:
        """See `RunStore.spent`."""
        path = self.journal_path(run_id, slice_number)
        try:
            size, usd = path.with_suffix(".spent").read_text().split()
            return (int(size), usd) if int(size) == path.stat().st_size else None
        except (FileNotFoundError, ValueError):
            return None

    def save_spent(self, run_id: str, slice_number: int, spent_usd: str) -> None:
        """See `RunStore.save_spent`."""
        path = self.journal_path(run_id, slice_number)
        if path.exists():
            path.with_suffix(".spent").write_text(f"{path.stat().st_size} {spent_usd}")

    def mark_published(self, run_id: str, slice_number: int) -> None:
        """See `RunStore.mark_published`."""
        path = self.journal_path(run_id, slice_number)
        if path.exists():
            path.with_suffix(".published").write_text(str(path.stat().st_size))

    def is_published(self, run_id: str, slice_number: int) -> bool:
        """See `RunStore.is_published`."""
        path = self.journal_path(run_id, slice_number)
        size = path.stat().st_size if path.exists() else 0
        marked = path.with_suffix(".published")
        return size == (int(marked.read_text() or 0) if marked.exists() else 0)

    def sweep(self) -> None:
        """See `RunStore.sweep`."""
        for folder in self.runs_dir.iterdir() if self.runs_dir.is_dir() else ():
            without_record = folder.is_dir() and not (folder / "run.json").exists()
            if without_record and time.time() - folder.stat().st_mtime > LEFTOVER_S:
                shutil.rmtree(folder, ignore_errors=True)

    def journal_path(self, run_id: str, slice_number: int) -> Path:
        """Where a slice's journal lies."""
        return self.runs_dir / run_id / "journal" / f"{slice_number:04d}.jsonl"


def _record(data: dict[str, Any]) -> RunRecord:
    for name in ("key", "columns", "slice_rows", "supersedes"):
        data[name] = tuple(data[name])
    for name in ("created_at", "finished_at"):
        data[name] = datetime.fromisoformat(data[name]) if data[name] else None
    data["state"] = RunState(data["state"])
    return RunRecord(**data)
