"""A Redis stream with one group of readers; answers go into a second stream, in the step that acknowledges the row.

Belongs here: this queue. Not here: calling (worker.py), the server (compare.py).
Source: https://redis.io/docs/latest/develop/data-types/streams/ (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
from redis import Redis

__all__ = ["RedisStream"]

ROWS, ANSWERS, GROUP, READER, FILLED = "rows", "answers", "readers", "reader", "filled"
CHUNK_ROWS = 1_000


class RedisStream:
    """``place``: the server's URL. One reader; a second one would have a name of its own."""

    def __init__(self, table: str, place: str) -> None:
        """Fills the stream the first time."""
        self._redis: Any = Redis.from_url(place)
        self._left_over = "0"  # rows that this reader was given before it was killed come first
        if not self._redis.exists(FILLED):
            self._fill(table)

    def take(self, rows: int) -> list[tuple[int, str, str]]:
        """See `worker.Queue`."""
        while True:
            found = self._redis.xreadgroup(GROUP, READER, {ROWS: self._left_over}, count=rows)
            entries = (found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]) if found else []
            if entries or self._left_over == ">":
                break
            self._left_over = ">"
        if entries and self._left_over != ">":
            self._left_over = entries[-1][0].decode()
        return [(int(fields[b"id"]), fields[b"text"].decode(), name.decode()) for name, fields in entries]

    def keep(self, row: tuple[int, str, str], answer: bytes) -> None:
        """See `worker.Queue`."""
        with self._redis.pipeline(transaction=True) as step:
            step.xadd(ANSWERS, {"id": row[0], "body": answer})
            step.xack(ROWS, GROUP, row[2])
            step.xdel(ROWS, row[2])
            step.execute()

    def answers(self) -> list[int]:
        """See `worker.Queue`."""
        return [int(fields[b"id"]) for _, fields in self._redis.xrange(ANSWERS)]

    def _fill(self, table: str) -> None:
        self._redis.delete(ROWS)
        self._redis.xgroup_create(ROWS, GROUP, id="0", mkstream=True)
        for batch in pq.ParquetFile(table).iter_batches(CHUNK_ROWS):
            with self._redis.pipeline(transaction=False) as step:
                for row in batch.to_pylist():
                    step.xadd(ROWS, row)
                step.execute()
        self._redis.set(FILLED, 1)
