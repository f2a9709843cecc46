"""Time, injected.

Belongs here: the Clock protocol, the real clock, a scaled one and the manual fake for tests. Not here: pacing
(limiter), back-off (engine/retry.py).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Protocol

__all__ = ["Alarm", "Clock", "ManualClock", "ScaledClock", "SystemClock"]


class Alarm(Protocol):
    """What `Clock.call_later` returns."""

    def cancel(self) -> None:
        """Do not ring; nothing happens when it has rung."""
        ...


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

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """Call ``callback`` in the running event loop after ``delay_s`` of this clock's seconds, never at once."""
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

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """See `Clock.call_later`."""
        return asyncio.get_running_loop().call_later(max(0.0, delay_s), callback)


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

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """See `Clock.call_later`."""
        return asyncio.get_running_loop().call_later(max(0.0, delay_s / self.factor), callback)


class _ManualAlarm:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def ring(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class ManualClock:
    """A clock for tests: time passes only in `advance`."""

    def __init__(self, start_s: float = 1_000.0) -> None:
        """Start at ``start_s`` on the monotonic clock; the wall clock starts at 2026-01-01."""
        self._now = start_s
        self._start = start_s
        self._order = count()
        self._alarms: list[tuple[float, int, _ManualAlarm]] = []

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
        alarm = self.call_later(delay_s, lambda: None if future.done() else future.set_result(None))
        try:
            await future
        finally:
            alarm.cancel()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """See `Clock.call_later`; rings when `advance` reaches the time."""
        alarm = _ManualAlarm(callback)
        heapq.heappush(self._alarms, (self._now + max(0.0, delay_s), next(self._order), alarm))
        return alarm

    async def advance(self, duration_s: float) -> None:
        """Let ``duration_s`` pass, ringing alarms in order and letting their tasks run at their own moment."""
        end = self._now + duration_s
        await self._let_tasks_run()
        while self._alarms and self._alarms[0][0] <= end:
            at, _, alarm = heapq.heappop(self._alarms)
            if alarm.callback is None:
                continue
            self._now = max(self._now, at)
            alarm.ring()
            await self._let_tasks_run()
        self._now = end
        await self._let_tasks_run()

    @staticmethod
    async def _let_tasks_run() -> None:
        for _ in range(12):  # a wake-up travels through a few awaits before the next sleep is registered
            await asyncio.sleep(0)
