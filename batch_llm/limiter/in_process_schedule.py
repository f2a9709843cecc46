"""A pool's schedule inside one process.

Belongs here: giving the algorithm a clock. Not here: the algorithm (schedule.py), several processes
(redis_schedule.py). Limiters of one process share a limit when they share this object; they may live in several
threads, each in an event loop of its own, so one call is made after the other.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from batch_llm.clock import Clock
from batch_llm.limiter.base import Limits, PoolChange, PoolView
from batch_llm.limiter.schedule import PoolSchedule
from batch_llm.limiter.views import checked_change, view_of

__all__ = ["InProcessSchedule"]


class InProcessSchedule:
    """Implements `Schedule` without any store: the limit is kept in this process only."""

    def __init__(self, clock: Clock) -> None:
        """``clock``: its monotonic seconds are the schedule's, but a day's reset follows its wall clock."""
        self._clock = clock
        self._pool = PoolSchedule()
        self._turn = Lock()  # never held across an await
        self._wall_offset_s = clock.now().timestamp() - clock.monotonic()

    async def call(self, request: list[Any]) -> list[Any]:
        """See `Schedule.call`; never fails."""
        with self._turn:
            return self._pool.call(self._now_s(), request)

    async def view(self, limits: Limits) -> PoolView:
        """See `Schedule.view`."""
        with self._turn:
            return view_of(self._pool.memory, limits, self._now_s())

    async def change(self, limits: Limits, change: PoolChange) -> None:
        """See `Schedule.change`."""
        with self._turn:
            self._pool.change(self._now_s(), checked_change(limits, change))

    async def aclose(self) -> None:
        """See `Schedule.aclose`; nothing to close."""

    def _now_s(self) -> float:
        return self._clock.monotonic() + self._wall_offset_s
