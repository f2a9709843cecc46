"""`python -m benchmarks.engine.queues.worker QUEUE URL TABLE PLACE`: answer all rows of a table through one queue.

Belongs here: the calling loop, the same for all queues: 64 in flight, an answer is kept before the next row is taken.
Started again after kill -9 it goes on. Not here: the queues (journal_file.py, redis_stream.py, sql_queue.py).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Protocol

import aiohttp
import orjson

from benchmarks.engine.queues.journal_file import JournalFile
from benchmarks.engine.queues.redis_stream import RedisStream
from benchmarks.engine.queues.sql_queue import SqlQueue

__all__ = ["QUEUES", "Queue", "Row"]

IN_FLIGHT = 64
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}

Row = tuple[int, str, str]
"""Id, text, and what the queue calls it."""


class Queue(Protocol):
    """What is left to ask, and where answers go. Calls are short and block."""

    def take(self, rows: int) -> list[Row]:
        """Up to so many rows that nobody else has; none: all were given out."""
        ...

    def keep(self, row: Row, answer: bytes) -> None:
        """Store the answer so that it survives kill -9 of this process; the row is done."""
        ...

    def answers(self) -> list[int]:
        """The ids of all rows that have an answer, one entry per answer."""
        ...


QUEUES: dict[str, Callable[[str, str], Queue]] = {
    "journal_file": JournalFile,
    "redis_stream": RedisStream,
    "sql_queue": SqlQueue,
}


class _Feed:
    """Rows to the callers, taken from the queue so many at a time."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._rows: list[Row] = []

    def next(self) -> Row | None:
        if not self._rows:
            self._rows = self._queue.take(IN_FLIGHT)[::-1]
        return self._rows.pop() if self._rows else None


async def _call(feed: _Feed, queue: Queue, session: aiohttp.ClientSession, url: str) -> None:
    while (row := feed.next()) is not None:
        messages = [{"role": "user", "content": f"Say: {row[1]}"}]
        async with session.post(url, data=orjson.dumps({"model": "simulator/fast", "messages": messages})) as response:
            answer = await response.read()
        if response.status == 200:
            queue.keep(row, answer)


async def _main(name: str, url: str, table: str, place: str) -> None:
    queue = QUEUES[name](table, place)
    feed = _Feed(queue)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:
        await asyncio.gather(*(_call(feed, queue, session, f"{url}/chat/completions") for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:5]))
