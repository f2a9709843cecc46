"""The records of all runs of a home, one small JSON file each.

Belongs here: saving, finding and deleting run records, and where a run's files lie. Not here: what a run does.

    <runs>/<run_id>/run.json            the record
    <runs>/<run_id>/frozen/0000.parquet the frozen slices (the warehouse's)
    <runs>/<run_id>/journal/0000.jsonl  a slice's journal
    <runs>/<run_id>/journal/0000.published how much of the journal is published
    <runs>/<run_id>/journal/0000.spent  what the slice's journal cost, so that it need not be read again
    <runs>/<run_id>/journal/0000.worker the process that writes the journal, for messages
    <runs>/<run_id>/statements          what statements of the warehouse cost, a line each; figures only
    <runs>/<run_id>/at_work             locked by everybody who works on the run; their process numbers, for messages
    <runs>/<run_id>/ending, changing    locked while the run is promoted, while its record is changed
    <runs>/<job>.starting               locked while somebody decides which run of the job is next
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from batch_llm.errors import ConfigurationError, JournalError, JournalRefused, SliceBusy
from batch_llm.folders import private_folder, remove_tree, sync_to_disk
from batch_llm.journal.base import Entry, RunRecord
from batch_llm.journal.disk import Reserve, disk_error
from batch_llm.journal.local import LocalJournal, read_entries, read_journal, worker_of
from batch_llm.journal.locks import is_locked, locked, passing_lock
from batch_llm.journal.records import RECORD, StoredRecords, read_record, record_bytes
from batch_llm.journal.retention import Retention, erase_expired
from batch_llm.statement_costs import StatementCost

__all__ = ["LocalRunStore"]

LEFTOVER_S = 86_400.0  # a freeze takes minutes at most
ALONE_TRIES = 10  # `is_at_work` takes the lock for some microseconds: not to be mistaken for somebody at work
ALONE_DELAY_S = 0.02
STORED = "every answer that came is stored"

_log = logging.getLogger(__name__)


class LocalRunStore:
    """Run records and journals under one folder."""

    def __init__(self, runs_dir: Path, retention: Retention | None = None) -> None:
        """``runs_dir``: the folder, made when the first record is saved. ``retention``: None keeps runs for ever."""
        self.runs_dir = runs_dir
        self._retention = retention
        self._reserve = Reserve(runs_dir)
        self._records = StoredRecords(str(runs_dir))

    def save(self, record: RunRecord) -> None:
        """Write the record, whole or not at all."""
        folder = self.runs_dir / record.run_id
        try:
            private_folder(folder)
            is_new = not (folder / RECORD).exists()
            _write_whole(folder / RECORD, record_bytes(record), durable=True)
            if is_new:
                sync_to_disk(self.runs_dir)
        except OSError as error:
            raise disk_error(error, "save the run's record", folder, STORED) from error

    def change(self, run_id: str, **fields: Any) -> RunRecord:
        """See `RunStore.change`."""
        with self._run_locked(run_id, "changing"):
            record = dataclasses.replace(self.get(run_id), **fields)
            self.save(record)
        return record

    def get(self, run_id: str) -> RunRecord:
        """The record of a run. Raises `JournalError` when there is none."""
        found = self._found(run_id)
        if found is None:
            raise JournalError(f"no run {run_id} in {self.runs_dir}")
        return found

    def has(self, record: RunRecord) -> bool:
        """Whether this very record is stored."""
        try:
            return (self.runs_dir / record.run_id / RECORD).read_bytes() == record_bytes(record)
        except FileNotFoundError:
            return False

    def all(self, job_name: str | None = None) -> list[RunRecord]:
        """See `RunStore.all`."""
        return self._records.of(job_name, self._stored())

    def latest(self, job_name: str) -> RunRecord | None:
        """The job's newest record."""
        records = self.all(job_name)
        return records[0] if records else None

    def delete(self, run_id: str) -> None:
        """See `RunStore.delete`; the locks go last, so that nobody takes them while there is a record."""
        folder = self.runs_dir / run_id
        inside = [each for each in folder.glob("*/") if each.name != RECORD]
        refused = [_refused(remove_tree, each) for each in inside]  # as much as possible goes
        if not any(refused):
            refused = [_refused(Path.unlink, folder / RECORD) or _refused(remove_tree, folder)]
        for error in filter(None, refused):
            raise error

    @contextmanager
    def starting(self, job_name: str) -> Iterator[None]:
        """See `RunStore.starting`."""
        with ExitStack() as held:
            try:
                held.enter_context(passing_lock(self.runs_dir / f"{job_name}.starting"))
            except OSError as error:
                raise ConfigurationError(
                    f"{self.runs_dir} cannot be written: {error.strerror}; make that possible or set BATCH_LLM_HOME"
                ) from error
            yield

    @contextmanager
    def at_work(self, run_id: str) -> Iterator[None]:
        """See `RunStore.at_work`."""
        with self._run_locked(run_id, "at_work", shared=True) as file:
            with suppress(OSError):  # only for messages
                os.write(file, f"{os.getpid()}\n".encode())
            yield

    @contextmanager
    def alone(self, run_id: str) -> Iterator[None]:
        """See `RunStore.alone`."""
        with ExitStack() as held:
            for _ in range(ALONE_TRIES):
                try:
                    file = held.enter_context(self._run_locked(run_id, "at_work", wait=False))
                    break
                except BlockingIOError:
                    time.sleep(ALONE_DELAY_S)
            else:
                by_whom = self._by_whom(run_id)
                raise SliceBusy(f"run {run_id} is being worked on{by_whom}; stop that first, or wait for its end")
            os.ftruncate(file, 0)
            yield

    def is_at_work(self, run_id: str) -> bool:
        """See `RunStore.is_at_work`."""
        return is_locked(self.runs_dir / run_id / "at_work")

    def ending(self, run_id: str) -> AbstractContextManager[Any]:
        """See `RunStore.ending`."""
        return self._run_locked(run_id, "ending")

    def lock_of(self, run_id: str, name: str) -> AbstractContextManager[Any]:
        """Hold a lock of the run's by name, such as ``changing``; waits for others who do. Raises like `at_work`."""
        return self._run_locked(run_id, name)

    def is_busy(self, run_id: str, slice_number: int) -> bool:
        """See `RunStore.is_busy`."""
        return is_locked(self.journal_path(run_id, slice_number))

    def worker(self, run_id: str, slice_number: int) -> int | None:
        """See `RunStore.worker`."""
        return worker_of(self.journal_path(run_id, slice_number))

    def journal(self, run_id: str, slice_number: int) -> LocalJournal:
        """Open a slice's journal for writing. Raises `JournalBusy` when another process has it."""
        return LocalJournal(self.journal_path(run_id, slice_number), self._reserve)

    def entries(self, run_id: str, slice_number: int) -> Iterator[Entry]:
        """A slice's entries, read only."""
        return read_journal(self.journal_path(run_id, slice_number))

    def entries_at(self, run_id: str, slice_number: int, places: Sequence[int]) -> list[Entry | None]:
        """See `RunStore.entries_at`."""
        return read_entries(self.journal_path(run_id, slice_number), places)

    def size(self, run_id: str, slice_number: int) -> int:
        """See `RunStore.size`."""
        path = self.journal_path(run_id, slice_number)
        return path.stat().st_size if path.exists() else 0

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
        with suppress(OSError):  # a full disk: the journal itself is read again then
            _write_whole(path.with_suffix(".spent"), f"{path.stat().st_size} {spent_usd}".encode())

    def mark_published(self, run_id: str, slice_number: int) -> None:
        """See `RunStore.mark_published`."""
        path = self.journal_path(run_id, slice_number)
        if path.exists():
            try:
                _write_whole(path.with_suffix(".published"), str(path.stat().st_size).encode())
            except OSError as error:
                what = f"note that slice {slice_number} is published"
                raise disk_error(error, what, path.parent, f"{STORED}, and the slice is published again") from error

    def is_published(self, run_id: str, slice_number: int) -> bool:
        """See `RunStore.is_published`."""
        size = self.size(run_id, slice_number)
        marked = self.journal_path(run_id, slice_number).with_suffix(".published")
        return size == (int(marked.read_text() or 0) if marked.exists() else 0)

    def note_statement(self, run_id: str, cost: StatementCost) -> None:
        """See `RunStore.note_statement`."""
        path = self.runs_dir / run_id / "statements"
        with suppress(OSError):
            private_folder(path.parent)
            with path.open("ab", buffering=0) as file:  # one write: lines of several processes do not mix
                file.write(f"{cost.as_text()}\n".encode())

    def statements(self, run_id: str) -> list[StatementCost]:
        """See `RunStore.statements`."""
        try:
            lines = (self.runs_dir / run_id / "statements").read_text("utf-8", "replace").splitlines()
        except OSError:
            return []
        known = (StatementCost.from_text(line) for line in lines)
        return list({cost.job_id: cost for cost in known if cost is not None}.values())

    def sweep(self) -> None:
        """See `RunStore.sweep`; and runs that ended longer ago than they are to be kept."""
        if self._retention is not None:
            erase_expired(self, self._retention)
        self.erase_leftovers(_spared)

    def erase_leftovers(self, is_kept: Callable[[Path], bool]) -> None:
        """Erase folders without a record that nobody touched for a day, but for those that are to be kept."""
        for folder in self.runs_dir.iterdir() if self.runs_dir.is_dir() else ():
            try:
                is_left = folder.is_dir() and not (folder / RECORD).exists()
                if not is_left or time.time() - folder.stat().st_mtime <= LEFTOVER_S:
                    continue
            except OSError:  # another process swept it, or it is not ours to look into
                continue
            if not is_kept(folder) and (error := _refused(remove_tree, folder)):
                _log.warning("%s", error)

    def journal_path(self, run_id: str, slice_number: int) -> Path:
        """Where a slice's journal lies."""
        return self.runs_dir / run_id / "journal" / f"{slice_number:04d}.jsonl"

    def _found(self, run_id: str) -> RunRecord | None:
        path = self.runs_dir / run_id / RECORD
        stored = _read(path)
        return None if stored is None else read_record(stored, str(path))

    def _stored(self) -> Iterator[tuple[str, bytes | OSError]]:
        for path in self.runs_dir.glob(f"*/{RECORD}"):
            stored = _read(path)
            if stored is not None:  # else it was forgotten since
                yield path.parent.name, stored

    @contextmanager
    def _run_locked(self, run_id: str, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
        """Hold one of a run's locks. Raises `JournalError` when the run is not there (any more)."""
        with ExitStack() as held:
            try:
                file = held.enter_context(locked(self.runs_dir / run_id / name, shared=shared, wait=wait))
            except FileNotFoundError:
                raise JournalError(f"no run {run_id} in {self.runs_dir}; was it forgotten?") from None
            except PermissionError as error:
                place = self.runs_dir / run_id / name
                raise JournalRefused(f"{place} cannot be locked: {error.strerror}; have its owner allow it") from error
            yield file

    def _by_whom(self, run_id: str) -> str:
        """The processes that said they work on the run and still live; nothing when that is not known."""
        with suppress(FileNotFoundError):
            noted = dict.fromkeys((self.runs_dir / run_id / "at_work").read_text().split())
            living = [pid for pid in noted if pid.isdigit() and _lives(int(pid))]
            return f" by process {' and '.join(living)}" if living else ""
        return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace a file; whoever reads it meanwhile sees the old or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_to_disk(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> bytes | OSError | None:
    """What a file holds, or why that cannot be said; None when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error


def _refused(remove: Callable[[Path], None], path: Path) -> JournalRefused | None:
    """Why something of a run stays, although it was to be erased; None when it is gone."""
    try:
        remove(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return JournalRefused(
            f"{path} (with all that is in it) cannot be erased: {error.strerror or error}. It may hold answers still: "
            "have its owner allow it, or erase it, and then do the same again"
        )
    return None


def _spared(folder: Path) -> bool:
    """Whether a folder without a record holds answers, which are paid; the user hears of it."""
    if not any(path.stat().st_size for path in folder.glob("journal/*.jsonl")):
        return False
    _log.warning("%s holds answers, and its record (%s) is gone: restore that, or remove the folder", folder, RECORD)
    return True
