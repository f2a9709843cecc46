"""Runs a case in virtual time: several limiters in one process share an `InProcessSchedule`, a provider answers.

Belongs here: driving the clock. Not here: feeding (feeder.py), figures (measure.py). Nothing is late here and no call
takes time, so what is seen is the algorithm alone: for cases of days, and for what a provider counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from batch_llm.clock import ManualClock
from batch_llm.limiter.base import PoolChange
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from benchmarks.limiter.case import Case
from benchmarks.limiter.counting_schedule import CountingSchedule
from benchmarks.limiter.feeder import Feeder, feeders_of
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

    def later(self, delay_s: float, action: Callable[..., Any], *arguments: Any) -> None:
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
    world, sent = VirtualTime(clock), list[Sent]()
    provider = LiveProvider(case, [0.0] * CELLS * MOST_COUNTERS) if case.provider.answers_429 else None
    started_s = world.moment()
    if provider is not None and case.provider.cut_at is not None:
        provider.cut_at_s = started_s + case.provider.cut_at * seconds
    async with AsyncExitStack() as stack:
        schedule = CountingSchedule(InProcessSchedule(clock))
        await schedule.change(case.limits, PoolChange(user_weights=case.user_weights))
        feeders = []
        for number in range(case.workers):
            limiter = await stack.enter_async_context(LeasingRateLimiter(case.limits, schedule, clock))
            make = partial(_feeder, case, (world, limiter, sent.append, provider), seconds)
            feeders += feeders_of(number, case, make)
        tasks = [asyncio.create_task(feeder.run_part(seconds)) for feeder in feeders]
        await _drive(clock, tasks, seconds)
        ended_s = world.moment()
        await _end(clock, tasks, stack)
    outcome = Outcome("virtual", started_s, ended_s, sent, watch.stop(), calls=schedule.calls)
    outcome.rows_left = sum(f.rows or 0 for f in feeders) - sum(s.rows for s in sent if not s.rejected)
    outcome.rows_left = max(0, outcome.rows_left)
    outcome.waits_s = [wait_s for feeder in feeders for wait_s in feeder.waits_s]
    return outcome


def _feeder(case: Case, parts: tuple[Any, ...], seconds: float, place: int, seed: str) -> Feeder:
    world, limiter, write, provider = parts
    return Feeder(case, place, world, limiter, write, seed, provider, _rows(case, place, seconds))


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
