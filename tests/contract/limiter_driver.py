"""Drives a rate limiter in virtual time and writes down what it did.

Belongs here: the implementations, driving, logging, what the provider counted. Not here: promises
(test_rate_limiter.py, test_rate_limiter_windows.py), judging (strict_bucket.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from batch_llm.clock import Clock, ManualClock
from batch_llm.limiter.base import Cost, Limits, RateLimiter, Reservation, Tenant, Throttle
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from tests.contract.strict_bucket import Flow

__all__ = ["IMPLEMENTATIONS", "STEPS", "TENANT", "Dimension", "Driver", "Make", "dimensions", "play", "row", "run"]

Make = Callable[[Limits, Clock], RateLimiter]
TENANT = Tenant("alice", "tone")


def leasing(limits: Limits, clock: Clock) -> LeasingRateLimiter:
    return LeasingRateLimiter(limits, InProcessSchedule(clock), clock)


IMPLEMENTATIONS: dict[str, Make] = {"leasing": leasing}


@dataclass(frozen=True)
class Dimension:
    """One token limit: units per minute, what is reserved of it, what is used of it."""

    limit: float
    reserved: Callable[[Cost], float]
    used: Callable[[Cost], float]
    corrected: bool


def dimensions(limits: Limits) -> list[Dimension]:
    """The token limits of a pool, written down a second time."""

    def output(cost: Cost) -> int:
        if limits.debit == "actual" or cost.max_output_tokens is None:
            return cost.output_tokens
        return cost.max_output_tokens

    every = [
        (limits.tokens_per_minute, lambda c: c.input_tokens + output(c), lambda c: c.input_tokens + c.output_tokens),
        (limits.input_tokens_per_minute, lambda c: c.input_tokens, lambda c: c.input_tokens),
        (limits.output_tokens_per_minute, output, lambda c: c.output_tokens),
    ]
    corrected = limits.debit != "input_plus_max_tokens"
    return [Dimension(limit, reserved, used, corrected) for limit, reserved, used in every if limit is not None]


@dataclass
class Driver:
    """Sends requests through a limiter and writes down what happened."""

    limiter: RateLimiter
    clock: ManualClock
    tasks: list[asyncio.Task[Reservation]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    unsent: set[int] = field(default_factory=set)  # released: the provider never saw them
    rejected: set[int] = field(default_factory=set)  # 429: counted as a request, no tokens
    log: list[tuple[float, int, Cost | None]] = field(default_factory=list)  # as it happened; None: sent, else settled

    async def ask(self, *costs: Cost) -> None:
        for cost in costs:
            self.tasks.append(asyncio.create_task(self._one(len(self.tasks), cost)))
        await self.clock.advance(0)

    async def _one(self, number: int, cost: Cost) -> Reservation:
        reservation = await self.limiter.reserve(TENANT, cost)
        self.order.append(number)
        self.log.append((reservation.granted_at_s, number, None))
        return reservation

    def granted(self) -> list[int]:
        return [n for n, task in enumerate(self.tasks) if task.done() and not task.cancelled()]

    def open(self) -> list[int]:
        return [n for n in self.granted() if n not in self.ended]

    def times(self) -> list[float]:
        return [round(self.tasks[n].result().granted_at_s - 1_000, 6) for n in self.granted()]

    def settle(self, number: int, actual: Cost) -> None:
        self.ended.add(number)
        self.log.append((self.clock.monotonic(), number, actual))
        self.limiter.settle(self.tasks[number].result(), actual)

    def release(self, number: int) -> None:
        self.ended.add(number)
        self.unsent.add(number)
        self.limiter.release(self.tasks[number].result())

    def throttled(self, number: int, throttle: Throttle) -> None:
        self.ended.add(number)
        self.rejected.add(number)
        self.limiter.throttled(self.tasks[number].result(), throttle)

    async def cancel(self, number: int) -> None:
        self.tasks[number].cancel()
        await self.clock.advance(0)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def requests(self) -> list[Flow]:
        """What the provider counted: every request that reached it."""
        return [Flow(at_s, 1) for at_s, number, actual in self.log if actual is None and number not in self.unsent]

    def tokens(self, dimension: Dimension) -> list[Flow]:
        """What the provider counted: the reservation at the start, the correction at the end."""
        flows = []
        for at_s, number, actual in self.log:
            reserved = dimension.reserved(self.tasks[number].result().cost)
            if number in self.unsent | self.rejected:
                continue
            if actual is None:
                flows.append(Flow(at_s, reserved))
            elif dimension.corrected:  # nonsense counts as a minute of the limit at most
                used = min(dimension.used(actual), max(dimension.limit, reserved))
                flows.append(Flow(at_s, used - reserved, sent=False))
        return flows


def run(make: Make, limits: Limits, scenario: Callable[[Driver], Coroutine[Any, Any, None]]) -> Driver:
    """Run one scenario in virtual time and return what it did."""

    async def main() -> Driver:
        clock = ManualClock()
        driver = Driver(make(limits, clock), clock)
        try:
            await scenario(driver)
        finally:
            await driver.close()
        return driver

    return asyncio.run(main())


def row(tokens: int = 10, *, output: int = 0, cap: int | None = None) -> Cost:
    return Cost(tokens, output, cap)


COSTS = st.builds(Cost, st.integers(1, 400), st.integers(0, 300), st.one_of(st.none(), st.integers(300, 600)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.lists(COSTS, min_size=1, max_size=4)),
        st.tuples(st.just("ask"), st.just([row(100)] * 3)),
        st.tuples(st.just("settle"), st.integers(0, 30), st.builds(Cost, st.integers(0, 600), st.integers(0, 500))),
        st.tuples(st.just("release"), st.integers(0, 30)),
        st.tuples(st.just("throttled"), st.integers(0, 30), st.sampled_from([None, 0.0, 0.3, 7.0])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.001, 0.01, 0.3, 2.0, 17.0])),
    ),
    max_size=40,
)


async def play(driver: Driver, steps: list[Any]) -> None:
    for name, *arguments in steps:
        if name == "ask":
            await driver.ask(*arguments[0])
        elif name == "advance":
            await driver.clock.advance(arguments[0])
        elif name == "cancel":
            waiting = [n for n, task in enumerate(driver.tasks) if not task.done()]
            if waiting:
                await driver.cancel(waiting[arguments[0] % len(waiting)])
        elif driver.open():
            number = driver.open()[arguments[0] % len(driver.open())]
            if name == "settle":
                driver.settle(number, arguments[1])
            elif name == "release":
                driver.release(number)
            else:
                driver.throttled(number, Throttle(arguments[1]))
            await driver.clock.advance(0)
