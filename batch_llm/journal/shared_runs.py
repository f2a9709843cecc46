"""The records and journals of runs in an object store, shared by any number of machines.

Belongs here: which objects a run has, and the copies and locks on this machine. Not here: how a journal is shipped
(shipped.py), what a run does. The folder on this machine is a working copy: all of it but what was not shipped yet can
be made again from the store.

    <store>/<run_id>/run.json             the record: a run is there when this is
    <store>/<run_id>/frozen/0000.parquet  the frozen slices, and manifest.json
    <store>/<run_id>/journal/0000/..      see slice_objects.py
    <store>/<run_id>/statements/<figures> what a statement of the warehouse cost, all of it in the name
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from batch_llm.errors import JournalBusy, JournalError, JournalUnreachable, SliceBusy
from batch_llm.folders import private_folder
from batch_llm.journal.base import Entry, RunRecord
from batch_llm.journal.locks import locked
from batch_llm.journal.object_store import ObjectStore
from batch_llm.journal.records import RECORD, StoredRecords, read_record, record_bytes
from batch_llm.journal.redis_leases import Lease, RedisLeases
from batch_llm.journal.retention import Retention, erase_expired
from batch_llm.journal.runs import LocalRunStore
from batch_llm.journal.segments import chain_end, newest_epoch
from batch_llm.journal.shipped import ShippedJournal, ShippingTimes
from batch_llm.journal.slice_objects import SliceListing, SliceObjects
from batch_llm.statement_costs import StatementCost

__all__ = ["SharedRunStore"]

POLL_S: Final = 0.2  # between two tries for a lease that somebody has
LISTED_S: Final = 1.0  # a listing of a run is believed so long: `is_published` is asked for each of its slices
LEFTOVER: Final = timedelta(days=1)

_log = logging.getLogger(__name__)


class SharedRunStore:
    """Run records and journals in an object store, with their working copies under one folder of this machine.

    See `RunStore` for what its methods promise. Each may raise `JournalUnreachable`.
    """

    def __init__(
        self,
        store: ObjectStore,
        runs_dir: Path,
        leases: RedisLeases,
        *,
        retention: Retention | None = None,
        times: ShippingTimes | None = None,
    ) -> None:
        """``runs_dir``: the working copies; made when the first is needed."""
        self.runs_dir = runs_dir
        self._store = store
        self._leases = leases
        self._local = LocalRunStore(runs_dir)
        self._records = StoredRecords(store.url)
        self._retention = retention
        self._times = times or ShippingTimes()
        self._open: WeakValueDictionary[tuple[str, int], ShippedJournal] = WeakValueDictionary()
        self._listed: dict[str, tuple[float, dict[int, dict[str, int]]]] = {}

    # -- records ---------------------------------------------------------------------------------------------------

    def save(self, record: RunRecord) -> None:
        """See `RunStore.save`; with the frozen slices, when they are not in the store yet."""
        run_id = record.run_id
        frozen = self.runs_dir / run_id / "frozen"
        if frozen.is_dir():
            there = self._store.names(f"{run_id}/frozen")
            for file in sorted(frozen.iterdir()):
                name = f"{run_id}/frozen/{file.name}"
                if there.get(name) != file.stat().st_size:
                    self._store.put_file(name, file)
        self._store.put(f"{run_id}/{RECORD}", record_bytes(record))
        self._local.save(record)

    def change(self, run_id: str, **fields: Any) -> RunRecord:
        """See `RunStore.change`."""
        with self._run_locked(run_id, "changing"):
            record = dataclasses.replace(self._record(run_id), **fields)
            self._store.put(f"{run_id}/{RECORD}", record_bytes(record))
            self._local.save(record)
        return record

    def get(self, run_id: str) -> RunRecord:
        """See `RunStore.get`; a run of another machine gets its record and frozen slices here."""
        record = self._record_here(run_id)
        self._frozen_here(record)
        return record

    def all(self, job_name: str | None = None) -> list[RunRecord]:
        """See `RunStore.all`."""
        names = [f"{folder}/{RECORD}" for folder in self._store.folders()]
        found = self._store.get_many(names).items()
        return self._records.of(job_name, ((name.removesuffix(f"/{RECORD}"), data) for name, data in found))

    def latest(self, job_name: str) -> RunRecord | None:
        """See `RunStore.latest`; its frozen slices are here afterwards."""
        records = self.all(job_name)
        return self.get(records[0].run_id) if records else None

    def delete(self, run_id: str) -> None:
        """See `RunStore.delete`: in the store first, the record there last."""
        names = list(self._store.names(run_id))
        self._store.delete(name for name in names if name != f"{run_id}/{RECORD}")
        self._listed.pop(run_id, None)
        self._local.delete(run_id)
        self._store.delete([f"{run_id}/{RECORD}"] if f"{run_id}/{RECORD}" in names else [])

    def sweep(self) -> None:
        """See `RunStore.sweep`; also copies of runs that another machine erased."""
        if self._retention is not None:
            erase_expired(self, self._retention)
        there = self._store.folders()
        standing = self._store.get_many(f"{folder}/{RECORD}" for folder in there)
        for folder in there:
            if f"{folder}/{RECORD}" not in standing:
                self._sweep_store(folder)
        for copy in self.runs_dir.iterdir() if self.runs_dir.is_dir() else ():
            if (copy / RECORD).exists() and f"{copy.name}/{RECORD}" not in standing:
                self._sweep_copy(copy)
        self._local.erase_leftovers(lambda copy: f"{copy.name}/{RECORD}" in standing)

    def _sweep_copy(self, copy: Path) -> None:
        """Erase the copy of a run that is not in the store any more."""
        try:
            with self._local.alone(copy.name):
                self._local.delete(copy.name)
        except SliceBusy:
            pass
        except JournalError as error:
            if (copy / RECORD).exists():  # else another process was faster
                _log.warning("%s", error)

    def _sweep_store(self, folder: str) -> None:
        """Erase what a killed start left in the store."""
        names = list(self._store.names(folder))
        changed_at = [self._store.changed_at(name) for name in names]
        limit = datetime.now(UTC) - LEFTOVER
        if names and all(at is not None and at.astimezone(UTC) < limit for at in changed_at):
            self._store.delete(names)

    def _record(self, run_id: str) -> RunRecord:
        data = self._store.get(f"{run_id}/{RECORD}")
        if data is None:
            raise JournalError(f"no run {run_id} in {self._store.url}; was it forgotten?")
        return read_record(data, f"{run_id}/{RECORD}")

    def _record_here(self, run_id: str) -> RunRecord:
        """The record as it is stored; its copy is on this machine, with the folder that the locks are in."""
        record = self._record(run_id)
        if self._local.has(record):
            return record
        self._local.save(record)
        return record

    def _frozen_here(self, record: RunRecord) -> None:
        """The frozen slices of a run are on this machine; whole or not at all."""
        folder = self.runs_dir / record.run_id
        if not (folder / "frozen").exists():
            private_folder(folder)
            partial = Path(tempfile.mkdtemp(dir=folder, prefix="frozen-partial-"))
            try:
                for name in self._store.names(f"{record.run_id}/frozen"):
                    self._store.get_file(name, partial / name.rpartition("/")[2])
                if any(partial.iterdir()):
                    with suppress(FileExistsError, OSError):  # another process of this machine was faster
                        partial.rename(folder / "frozen")
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    # -- locks: this machine's, then the lease ---------------------------------------------------------------------

    @contextmanager
    def starting(self, job_name: str) -> Iterator[None]:
        """See `RunStore.starting`."""
        with self._local.starting(job_name), self._leased(f"{job_name}.starting"):
            yield

    @contextmanager
    def at_work(self, run_id: str) -> Iterator[None]:
        """See `RunStore.at_work`."""
        self.get(run_id)
        with self._local.at_work(run_id), self._leased(f"{run_id}/at_work", shared=True):
            self._record(run_id)  # it may have been erased while this waited
            yield

    @contextmanager
    def alone(self, run_id: str) -> Iterator[None]:
        """See `RunStore.alone`."""
        self._record_here(run_id)
        with self._local.alone(run_id):
            lease = self._leases.acquire(f"{run_id}/at_work")
            if lease is None:
                raise SliceBusy(
                    f"run {run_id} is being worked on by another machine; stop that first, or wait for its end "
                    f"(a machine that died is forgotten after {self._leases.ttl_s:g} s)"
                )
            try:
                yield
            finally:
                lease.release()

    def is_at_work(self, run_id: str) -> bool:
        """See `RunStore.is_at_work`."""
        return self._local.is_at_work(run_id) or self._leases.is_held(f"{run_id}/at_work", elsewhere=True)

    def ending(self, run_id: str) -> AbstractContextManager[Any]:
        """See `RunStore.ending`."""
        return self._run_locked(run_id, "ending")

    @contextmanager
    def _run_locked(self, run_id: str, name: str) -> Iterator[None]:
        self._record_here(run_id)
        with self._local.lock_of(run_id, name), self._leased(f"{run_id}/{name}"):
            self._record(run_id)
            yield

    @contextmanager
    def _leased(self, name: str, *, shared: bool = False) -> Iterator[Lease]:
        """Hold a lease, waiting for others who do; this machine's lock is held already."""
        while (lease := self._leases.acquire(name, shared=shared)) is None:
            time.sleep(POLL_S)
        try:
            yield lease
        finally:
            lease.release()

    # -- journals --------------------------------------------------------------------------------------------------

    def is_busy(self, run_id: str, slice_number: int) -> bool:
        """See `RunStore.is_busy`."""
        here = self._local.is_busy(run_id, slice_number)
        return here or self._leases.is_held(_lease_name(run_id, slice_number), elsewhere=True)

    def worker(self, run_id: str, slice_number: int) -> int | None:
        """See `RunStore.worker`; None when it is on another machine."""
        return self._local.worker(run_id, slice_number) if self._local.is_busy(run_id, slice_number) else None

    def journal(self, run_id: str, slice_number: int) -> ShippedJournal:
        """See `RunStore.journal`; its copy on this machine is brought up to date first."""
        self.get(run_id)
        objects = self._objects(run_id, slice_number)
        with self._copying(objects), ExitStack() as failed:
            if self._local.is_busy(run_id, slice_number):
                self._local.journal(run_id, slice_number).close()  # raises `JournalBusy`, which names the process
            lease = self._leases.acquire(_lease_name(run_id, slice_number))
            if lease is None:
                raise JournalBusy(f"slice {slice_number:04d} of run {run_id} is being worked on by another machine")
            failed.callback(lease.release)
            segments = objects.listing().segments
            lease.advance(newest_epoch(segments) + 1)
            objects.catch_up(segments)
            local = self._local.journal(run_id, slice_number)
            journal = ShippedJournal(local, objects, lease, self._times)
            failed.pop_all()
        self._open[run_id, slice_number] = journal
        return journal

    def entries(self, run_id: str, slice_number: int) -> Iterator[Entry]:
        """See `RunStore.entries`; of a slice that another machine works on, what it has shipped."""
        objects = self._objects(run_id, slice_number)
        if not self._local.is_busy(run_id, slice_number) and self._slices(run_id).get(slice_number):
            with self._copying(objects):
                if not self._local.is_busy(run_id, slice_number):
                    objects.catch_up(objects.listing().segments)
        return self._local.entries(run_id, slice_number)

    def entries_at(self, run_id: str, slice_number: int, places: Sequence[int]) -> list[Entry | None]:
        """See `RunStore.entries_at`; only of journals that this machine has a copy of."""
        return self._local.entries_at(run_id, slice_number, places)

    def size(self, run_id: str, slice_number: int) -> int:
        """See `RunStore.size`."""
        here = self._local.size(run_id, slice_number)
        if self._local.is_busy(run_id, slice_number):
            return here
        shipped = self._objects(run_id, slice_number).shipped().size
        return max(here, chain_end(self._listing(run_id, slice_number).segments) + max(0, here - shipped))

    def spent(self, run_id: str, slice_number: int) -> tuple[int, str] | None:
        """See `RunStore.spent`."""
        known = self._listing(run_id, slice_number).spent
        return known if known is not None and known[0] == self.size(run_id, slice_number) else None

    def save_spent(self, run_id: str, slice_number: int, spent_usd: str) -> None:
        """See `RunStore.save_spent`; it only saves reading, so a store that fails is no reason to fail."""
        size = self.size(run_id, slice_number)
        with suppress(JournalUnreachable):
            if size:
                self._mark(run_id, slice_number, "spent", f"{size}-{spent_usd}")

    def note_statement(self, run_id: str, cost: StatementCost) -> None:
        """See `RunStore.note_statement`."""
        with suppress(JournalUnreachable):
            self._store.put(f"{run_id}/statements/{cost.as_text()}", b"")

    def statements(self, run_id: str) -> list[StatementCost]:
        """See `RunStore.statements`; what the store does not tell now is left out."""
        with suppress(JournalUnreachable):
            names = self._store.names(f"{run_id}/statements")
            known = (StatementCost.from_text(name.rpartition("/")[2]) for name in names)
            return list({cost.job_id: cost for cost in known if cost is not None}.values())
        return []

    def mark_published(self, run_id: str, slice_number: int) -> None:
        """See `RunStore.mark_published`; the journal is whole in the store then, in one object."""
        journal = self._open.get((run_id, slice_number))
        if journal is not None:
            journal.ship()
        size = self.size(run_id, slice_number)
        if size:
            self._patiently(lambda: self._mark(run_id, slice_number, "published", str(size)))
        if journal is not None:
            with suppress(JournalUnreachable):  # many objects are as good as one
                journal.compact()

    def is_published(self, run_id: str, slice_number: int) -> bool:
        """See `RunStore.is_published`."""
        return self.size(run_id, slice_number) == self._listing(run_id, slice_number).published_bytes

    def _patiently(self, call: Callable[[], None]) -> None:
        """Call again while the store does not answer, as long as a run waits for it."""
        until = time.monotonic() + self._times.patience_s
        while True:
            try:
                return call()
            except JournalUnreachable:
                if time.monotonic() > until:
                    raise
            time.sleep(self._times.first_wait_s)

    def _mark(self, run_id: str, slice_number: int, kind: str, text: str) -> None:
        self._objects(run_id, slice_number).mark(kind, text)
        self._listed.pop(run_id, None)

    def _objects(self, run_id: str, slice_number: int) -> SliceObjects:
        path = self._local.journal_path(run_id, slice_number)
        return SliceObjects(self._store, f"{run_id}/journal/{slice_number:04d}", path)

    def _listing(self, run_id: str, slice_number: int) -> SliceListing:
        return SliceListing.of(self._slices(run_id).get(slice_number, {}))

    def _slices(self, run_id: str) -> dict[int, dict[str, int]]:
        """The objects of each slice of a run."""
        at, found = self._listed.get(run_id, (0.0, {}))
        if not at or time.monotonic() - at > LISTED_S:
            at, found = time.monotonic(), {}
            for name, size in self._store.names(f"{run_id}/journal").items():
                _, number, own = name.rsplit("/", 2)
                found.setdefault(int(number), {})[own] = size
            self._listed[run_id] = at, found
        return found

    @contextmanager
    def _copying(self, objects: SliceObjects) -> Iterator[None]:
        """Held while a slice's copy on this machine is changed or opened."""
        private_folder(objects.path.parent)
        with locked(objects.path.with_suffix(".copying")):
            yield


def _lease_name(run_id: str, slice_number: int) -> str:
    return f"{run_id}/{slice_number:04d}"
