"""Counts how often a limiter calls its schedule.

Belongs here: counting. Not here: any schedule.
"""

from __future__ import annotations

from typing import Any

from batch_llm.errors import LimiterError
from batch_llm.limiter.base import Limits, PoolChange, PoolView, Schedule

__all__ = ["CountingSchedule"]


class CountingSchedule:
    """Implements `Schedule` over another one."""

    def __init__(self, schedule: Schedule) -> None:
        """``schedule``: does the work."""
        self._schedule = schedule
        self.calls = 0
        self.failed: dict[str, int] = {}  # by class of error

    async def call(self, request: list[Any]) -> list[Any]:
        """See `Schedule.call`."""
        self.calls += 1
        try:
            return await self._schedule.call(request)
        except LimiterError as error:
            name = type(error).__name__
            self.failed[name] = self.failed.get(name, 0) + 1
            raise

    async def view(self, limits: Limits) -> PoolView:
        """See `Schedule.view`."""
        return await self._schedule.view(limits)

    async def change(self, limits: Limits, change: PoolChange) -> None:
        """See `Schedule.change`."""
        await self._schedule.change(limits, change)

    async def aclose(self) -> None:
        """See `Schedule.aclose`."""
        await self._schedule.aclose()
