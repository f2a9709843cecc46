"""What was sent, when, by whom: one file per worker that survives a kill -9 of its writer.

Belongs here: the record's form, writing, reading. Not here: what the figures are made of (measure.py).
The file is mapped into memory, so what was written is in it whatever happens to the process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["RecordFile", "Sent", "read_records"]

LAYOUT = struct.Struct("<dHHIdI")  # Sent, field by field
ADMITTED, REJECTED = 0, 1


class Sent(NamedTuple):
    """Rows sent at one moment for one job."""

    at_s: float  # CLOCK_MONOTONIC (or virtual)
    user: int  # place in `Case.users`
    load: int  # place in `Case.loads`
    rows: int
    tokens: float  # of all these rows
    rejected: int = ADMITTED  # 1: the simulated provider answered 429


class RecordFile:
    """Takes records until it is full; a context manager."""

    def __init__(self, path: Path, capacity: int) -> None:
        """``capacity``: records; the file is sparse, so too many cost nothing."""
        size = LAYOUT.size * capacity
        with path.open("wb") as new:
            new.truncate(size)
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), size)
        self._offset = 0

    def write(self, sent: Sent) -> None:
        """Append one record."""
        LAYOUT.pack_into(self._map, self._offset, *sent)
        self._offset += LAYOUT.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()
        self._file.truncate(self._offset)
        self._file.close()


def read_records(paths: Iterable[Path]) -> list[Sent]:
    """All records of all files, by time; the rest of a killed writer's file is empty."""
    found: list[Sent] = []
    for path in paths:
        data = path.read_bytes() if path.exists() else b""
        whole = len(data) // LAYOUT.size * LAYOUT.size
        for values in LAYOUT.iter_unpack(memoryview(data)[:whole]):
            if values[0] == 0.0:
                break
            found.append(Sent(*values))
    found.sort()
    return found
