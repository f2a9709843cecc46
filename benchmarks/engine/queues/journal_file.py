"""A window in memory over the table itself, and a journal: one write per answer to a file that is only appended to.

The file is synced once a second, as the engine's is and Redis' is.

Belongs here: this queue. Not here: calling (worker.py). The table is the queue; what is done is what the journal says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import orjson
import pyarrow.parquet as pq

__all__ = ["JournalFile"]

SYNC_EVERY_S = 1.0


class JournalFile:
    """One process per table."""

    def __init__(self, table: str, place: str) -> None:
        """``place``: the journal's path."""
        self._path = Path(place)
        self._done = set(self.answers())
        self._rows = self._open_rows(table)
        self._file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._synced_s = time.monotonic()

    def take(self, rows: int) -> list[tuple[int, str, str]]:
        """See `worker.Queue`."""
        return list(islice(self._rows, rows))

    def keep(self, row: tuple[int, str, str], answer: bytes) -> None:
        """See `worker.Queue`."""
        os.write(self._file, orjson.dumps({"id": row[0], "body": answer.decode()}) + b"\n")
        if time.monotonic() - self._synced_s >= SYNC_EVERY_S:
            os.fdatasync(self._file)
            self._synced_s = time.monotonic()

    def answers(self) -> list[int]:
        """See `worker.Queue`."""
        if not self._path.exists():
            return []
        whole = self._path.read_bytes().split(b"\n")[:-1]  # a torn last line is an answer that was not kept
        return [orjson.loads(line)["id"] for line in whole]

    def _open_rows(self, table: str) -> Iterator[tuple[int, str, str]]:
        for batch in pq.ParquetFile(table).iter_batches(1_000):
            for row in batch.to_pylist():
                if row["id"] not in self._done:
                    yield row["id"], row["text"], ""
