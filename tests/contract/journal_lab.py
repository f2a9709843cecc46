"""Machines with a store of journals: one folder of this machine, or an S3 that several share.

Belongs here: what the journal's contract tests share. Not here: assertions.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from batch_llm.journal.base import Entry, EntryKind, RunRecord, RunState, RunStore
from batch_llm.journal.object_store import ObjectStore
from batch_llm.journal.redis_leases import RedisLeases
from batch_llm.journal.runs import LocalRunStore
from batch_llm.journal.shared_runs import SharedRunStore
from batch_llm.journal.shipped import ShippingTimes

__all__ = ["FAST", "RUN", "WRITER", "Machine", "answer", "record", "rows"]

RUN = "job-20260304-050607-abcd"
FAST = ShippingTimes(ship_after_s=0.05, patience_s=0.5, first_wait_s=0.05)

# appends until it is killed; says after each entry that it is stored, after each `sync_every` that they are synced
WRITER = """
import os, sys
from pathlib import Path
from tests.contract.journal_lab import Machine, answer
folder, store, redis, start, sync_every = sys.argv[1:]
machine = Machine(Path(folder), store or None, redis or None)
journal = machine.runs().journal("job-20260304-050607-abcd", 0)
row = int(start)
while True:
    journal.append(answer(row, b"x" * (row % 700)))
    print("stored", row, flush=True)
    if row % int(sync_every) == int(sync_every) - 1:
        journal.sync()
        print("synced", row, flush=True)
    row += 1
"""


@dataclass(frozen=True)
class Machine:
    """A folder with the runs of one machine; ``store`` and ``redis`` are shared with others, or None."""

    folder: Path
    store: str | None = None
    redis: str | None = None
    ttl_s: float = 30.0
    times: ShippingTimes | None = None

    def runs(self) -> RunStore:
        """What a new process on the machine opens; the run is there."""
        runs = self._opened()
        if not any(each.run_id == RUN for each in runs.all()):
            frozen = self.folder / RUN / "frozen"
            frozen.mkdir(parents=True, exist_ok=True)
            (frozen / "0000.parquet").write_bytes(b"rows")
            runs.save(record())
        return runs

    def _opened(self) -> RunStore:
        if self.store is None or self.redis is None:
            return LocalRunStore(self.folder)
        leases = RedisLeases(self.redis, self.store, self.folder, ttl_s=self.ttl_s)
        return SharedRunStore(ObjectStore(self.store), self.folder, leases, times=self.times)

    def other(self, name: str) -> Machine:
        """Another machine on the same store."""
        return replace(self, folder=self.folder.parent / name)

    def lose(self) -> None:
        """Its disk is gone."""
        shutil.rmtree(self.folder)


def record(run_id: str = RUN, **fields: object) -> RunRecord:
    """A run of one slice."""
    made = RunRecord(
        run_id=run_id,
        job={"name": "job"},
        job_dir="jobs",
        signature="s",
        shape="h",
        source="t",
        input_version="v",
        key=("id",),
        columns=("id", "text"),
        slice_rows=(100,),
        supersedes=(),
        state=RunState.PLANNED,
        created_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def answer(row: int, body: bytes = b'{"x":\n1}') -> Entry:
    """An answer to a row; its body may hold line ends."""
    return Entry(EntryKind.ANSWER, row, 1, at=datetime(2026, 1, 1, tzinfo=UTC), request_hash="ab", body=body)


def rows(entries: Sequence[Entry]) -> list[int]:
    """Which rows they are about."""
    return [entry.row for entry in entries]
