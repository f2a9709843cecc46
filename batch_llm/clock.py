"""Time, injected.

Belongs here: the Clock protocol, the real clock, a scaled one and the manual fake for tests. Not here: pacing
(limiter), back-off (engine/retry.py).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

__all__ = ["Clock", "ManualClock", "ScaledClock", "SystemClock"]


class Clock(Protocol):
    """What the library knows of time."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after ``delay_s`` of this clock's seconds; at once (after other tasks ran) for 0 or less."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    async def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(max(0.0, delay_s))


class ScaledClock:
    """A clock that runs ``factor`` times as fast as the machine's, to try a slow tier in a short time."""

    def __init__(self, factor: float) -> None:
        """``factor``: this clock's seconds per real second."""
        self.factor = factor
        self._start = time.monotonic()
        self._wall = time.time()

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return (time.monotonic() - self._start) * self.factor

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.fromtimestamp(self._wall + self.monotonic(), UTC)

    async def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(max(0.0, delay_s / self.factor))


class ManualClock:
    """A clock for tests: time passes only in `advance`."""

    def __init__(self, start_s: float = 1_000.0) -> None:
        """Start at ``start_s`` on the monotonic clock; the wall clock starts at 2026-01-01."""
        self._now = start_s
        self._start = start_s
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._now

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.fromtimestamp(1_767_225_600 + self._now - self._start, UTC)

    async def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`; wakes when `advance` passes the time."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + delay_s, next(self._order), future))
        await future

    async def advance(self, duration_s: float) -> None:
        """Let ``duration_s`` pass, waking sleepers in order and letting their tasks run at their own moment."""
        end = self._now + duration_s
        await self._let_tasks_run()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            if not future.done():
                future.set_result(None)
            await self._let_tasks_run()
        self._now = end
        await self._let_tasks_run()

    @staticmethod
    async def _let_tasks_run() -> None:
        for _ in range(10):  # a wake-up travels through a few awaits before the next sleep is registered
            await asyncio.sleep(0)
