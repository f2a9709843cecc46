"""The rows that wait to be sent: first those to be asked again that are due, then those never asked.

Belongs here: reading ahead, order, how long a row waits for its next turn. Not here: limits, money, calls
(pipeline.py), why a row is asked again (retry.py).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import count, islice

from batch_llm.clock import Clock
from batch_llm.engine.work import Work

__all__ = ["RowQueue"]

LISTED_MAX = 64  # rows shown to the limiter in one call: more of them would be copied more often than sent
AHEAD_BYTES = 32 * 1024 * 1024  # of prompts and images read and never sent: rows may be of a megabyte each
THROTTLED_MAX = 1_000  # rows that may wait for the end of their own 429 beside the others


class RowQueue:
    """The rows of one pipeline; in one event loop."""

    def __init__(self, clock: Clock) -> None:
        """Empty."""
        self._clock = clock
        self._later: list[tuple[float, int, Work]] = []  # a heap: due at (monotonic), order, row
        self._throttled = 0  # of `_later`
        self._due: deque[Work] = deque()
        self._fresh: deque[Work] = deque()
        self._fresh_bytes = 0
        self._order = count()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._all_read = False

    def wake(self) -> None:
        """Something changed outside: a call ended, a slice was closed."""
        self._news.set()
        self._room.set()

    def again(self, work: Work, delay_s: float) -> None:
        """This row is to be sent again, so many seconds from now at the earliest."""
        heapq.heappush(self._later, (self._clock.monotonic() + delay_s, next(self._order), work))
        self._throttled += work.throttles > 0
        self._news.set()

    def listed(self, room: int) -> list[Work]:
        """The next rows that may be sent now, in order; they stay until `sent`.

        ``room``: how many more calls may be in flight. Rows that wait to be asked again take room too, so that
        failures slow down the reading; those that wait because of a 429 do not: the limiter knows of it.
        """
        if self._later:
            self._look_what_is_due()
        if room <= 0:
            return []
        rows = list(islice(self._due, min(room, LISTED_MAX))) if self._due else []
        waiting = len(self._due) + len(self._later) - min(self._throttled, THROTTLED_MAX)
        most = min(room - waiting, LISTED_MAX - len(rows))
        return [*rows, *islice(self._fresh, most)] if most > 0 else rows

    def sent(self, work: Work) -> None:
        """The first listed row is on its way (or has ended)."""
        is_due = bool(self._due) and self._due[0] is work
        taken = (self._due if is_due else self._fresh).popleft()
        self._fresh_bytes -= 0 if is_due else work.held_bytes
        assert taken is work  # noqa: S101  rows are sent in the order they were listed in
        self._room.set()

    def more(self, listed: int) -> bool:
        """Whether rows stand behind the first ``listed`` ones, as far as can be known."""
        return not self._all_read or len(self._due) + len(self._fresh) > listed

    @property
    def is_empty(self) -> bool:
        """Everything was read and nothing waits."""
        return self._all_read and not (self._fresh or self._due or self._later)

    @property
    def waiting(self) -> list[Work]:
        """All rows that were read and are not under way."""
        return [*self._due, *(entry[2] for entry in self._later), *self._fresh]

    async def changed(self) -> None:
        """Until a row was read or is due again, or `wake`."""
        self._news.clear()
        alarm = None
        if self._later:
            alarm = self._clock.call_later(self._later[0][0] - self._clock.monotonic(), self._news.set)
        try:
            await self._news.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    async def read(self, works: AsyncIterator[Work], has_room: Callable[[], bool], ahead: Callable[[], int]) -> None:
        """Read all rows, as far as ``ahead`` of what is sent and memory allows, and only while ``has_room``."""
        while True:
            while len(self._fresh) >= ahead() or self._fresh_bytes >= AHEAD_BYTES or not has_room():
                self._room.clear()
                await self._room.wait()
            work = await anext(works, None)
            if work is None:
                break
            self._fresh.append(work)
            self._fresh_bytes += work.held_bytes
            self._news.set()
        self._all_read = True
        self._news.set()

    def _look_what_is_due(self) -> None:
        now_s = self._clock.monotonic()
        while self._later and self._later[0][0] <= now_s:
            work = heapq.heappop(self._later)[2]
            self._throttled -= work.throttles > 0
            self._due.append(work)
