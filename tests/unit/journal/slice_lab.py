"""One machine's writer of a slice, without leases: a test says when it has lost its own.

Belongs here: what tests of a slice's objects share. Not here: assertions.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from batch_llm.journal.base import Entry, EntryKind
from batch_llm.journal.local import LocalJournal
from batch_llm.journal.object_store import ObjectStore
from batch_llm.journal.segments import newest_epoch
from batch_llm.journal.slice_objects import SliceObjects

__all__ = ["Writer", "answer", "memory", "writer"]


def memory() -> ObjectStore:
    """A store that is empty and nobody else's."""
    return ObjectStore(f"memory://{uuid.uuid4().hex}")


def answer(row: int, body: bytes = b"{}\n") -> Entry:
    """The answer to a row."""
    return Entry(EntryKind.ANSWER, row, 1, body=body)


@dataclass
class Writer:
    """One machine's writer."""

    objects: SliceObjects
    epoch: int = 0
    journal: LocalJournal | None = None
    shipped: int = 0
    appended: list[int] = field(default_factory=list)

    def open(self) -> None:
        """Bring the copy up to date and begin to write."""
        segments = self.objects.listing().segments
        self.epoch = newest_epoch(segments) + 1
        self.shipped = self.objects.catch_up(segments).size
        self.journal = LocalJournal(self.objects.path)

    def append(self, *answers: int) -> None:
        """Answers to these rows."""
        assert self.journal is not None
        for row in answers:
            self.journal.append(answer(row))

    def ship(self) -> None:
        """Bring everything into the store."""
        assert self.journal is not None
        while self.shipped < self.journal.size():
            self.shipped = self.objects.upload(self.shipped, self.journal.size(), self.epoch)

    def close(self) -> None:
        """Write no more."""
        assert self.journal is not None
        self.journal.close()
        self.journal = None


def writer(store: ObjectStore, folder: Path) -> Writer:
    """The writer of a machine with this folder."""
    return Writer(SliceObjects(store, "r1/journal/0000", folder / "0000.jsonl"))
