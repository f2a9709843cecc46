"""Runs a case in virtual time: several limiters in one process share an `InProcessSchedule`, a provider answers.

Belongs here: driving the clock. Not here: feeding (feeder.py), figures (measure.py). Nothing is late here and no call
takes time, so what is seen is the algorithm alone: for cases of days, and for what a provider counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from batch_llm.clock import ManualClock
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from benchmarks.limiter.case import Case
from benchmarks.limiter.counting_schedule import CountingSchedule
from benchmarks.limiter.feeder import Feeder
from benchmarks.limiter.machine import Watch
from benchmarks.limiter.outcome import Outcome
from benchmarks.limiter.provider import CELLS, MOST_COUNTERS, LiveProvider
from benchmarks.limiter.records import Sent

__all__ = ["run_virtual"]

STEP_S = 60.0


class VirtualTime:
    """Implements `World`."""

    def __init__(self, clock: ManualClock) -> None:
        """``clock``: of the limiters as well."""
        self.clock = clock
        self._wall_s = clock.now().timestamp() - clock.monotonic()  # a day's reset follows the wall clock

    def moment(self) -> float:
        """See `World.moment`."""
        return self._wall_s + self.clock.monotonic()

    def later(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """See `World.later`."""
        self.clock.call_later(delay_s, lambda: action(*arguments))

    async def sleep(self, delay_s: float) -> None:
        """See `World.sleep`."""
        await self.clock.sleep(delay_s)


def run_virtual(case: Case, seconds: float) -> Outcome:
    """Run it once; a counted backlog is shortened like the time, and ends the run when it is sent."""
    return asyncio.run(_run(case, seconds))


async def _run(case: Case, seconds: float) -> Outcome:
    watch, clock = Watch(), ManualClock()
    world = VirtualTime(clock)
    sent: list[Sent] = []
    provider = LiveProvider(case, [0.0] * CELLS * MOST_COUNTERS)
    started_s = world.moment()
    async with AsyncExitStack() as stack:
        schedule = InProcessSchedule(clock)
        counted = [CountingSchedule(schedule) for _ in range(case.workers)]
        limiters = [await stack.enter_async_context(LeasingRateLimiter(case.limits, each, clock)) for each in counted]
        feeders = [
            Feeder(case, place, world, limiter, sent.append, f"{number}-{place}", provider, rows)
            for number, limiter in enumerate(limiters)
            for place in range(len(case.loads))
            for rows in (_rows(case, place, seconds),)
        ]
        tasks = [asyncio.create_task(feeder.run()) for feeder in feeders]
        await _drive(clock, tasks, seconds)
        ended_s = world.moment()
        await _end(clock, tasks, stack)
    wanted = sum(feeder.rows or 0 for feeder in feeders)
    left = max(0, wanted - sum(each.rows for each in sent if not each.rejected))
    calls = sum(each.calls for each in counted)
    return Outcome("virtual", started_s, ended_s, sent, watch.stop(), calls=calls, rows_left=left)


async def _drive(clock: ManualClock, tasks: list[asyncio.Task[None]], seconds: float) -> None:
    ends_s = clock.monotonic() + seconds
    while clock.monotonic() < ends_s and not all(task.done() for task in tasks):
        await clock.advance(min(STEP_S, ends_s - clock.monotonic()))
    for task in tasks:
        if task.done():
            task.result()  # raises what went wrong in it


async def _end(clock: ManualClock, tasks: list[asyncio.Task[None]], stack: AsyncExitStack) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    closing = asyncio.create_task(stack.aclose())
    while not closing.done():
        await clock.advance(0.1)


def _rows(case: Case, place: int, seconds: float) -> int | None:
    """One feeder's part of a counted backlog."""
    rows = case.loads[place].rows
    return None if rows is None else round(rows * seconds / case.seconds / case.workers)
