"""Whatever the pool, the processes and their rows: every row leaves, in about the time that the limits allow."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.limiter.base import Cost, Limits, Reservation, Tenant
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from tests.search import examples


@dataclass
class World:
    """Processes that share one schedule, and consumers with rows of random sizes."""

    limits: Limits
    processes: int
    random: random.Random
    latency_s: float = 0.5
    release_share: float = 0.0  # of the rows that are given back instead of sent
    clock: ManualClock = field(default_factory=ManualClock)
    sent: list[Cost] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schedule = InProcessSchedule(self.clock)
        self.limiters = [LeasingRateLimiter(self.limits, self.schedule, self.clock) for _ in range(self.processes)]

    def consume(self, tenant: Tenant, costs: list[Cost], listed: int) -> None:
        limiter = self.random.choice(self.limiters)
        self.tasks.append(asyncio.create_task(self._consume(limiter, tenant, costs, listed)))

    async def _consume(self, limiter: LeasingRateLimiter, tenant: Tenant, costs: list[Cost], listed: int) -> None:
        left = list(costs)
        while left:
            rows = await limiter.reserve_next(tenant, left[:listed], more=len(left) > listed)
            del left[: len(rows)]
            for row in rows:
                if self.random.random() < self.release_share:
                    limiter.release(row)
                    left.append(row.cost)
                else:
                    self.sent.append(row.cost)
                    self.clock.call_later(
                        self.random.uniform(0, self.latency_s), lambda row=row: self._end(limiter, row)
                    )

    def _end(self, limiter: LeasingRateLimiter, row: Reservation) -> None:
        used = Cost(self.random.randint(0, row.cost.input_tokens), 0) if self.random.random() < 0.3 else row.cost
        limiter.settle(row, used)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for limiter in self.limiters:
            await limiter.aclose()


POOLS: list[dict[str, Any]] = [
    {"tokens_per_minute": 6_000},
    {"tokens_per_minute": 6_000, "max_concurrency": 1},
    {"requests_per_minute": 600, "tokens_per_minute": 60_000, "max_concurrency": 3},
    {"requests_per_minute": 60, "tokens_per_minute": 6_000, "window_s": 10.0},
    {"requests_per_minute": 600, "tokens_per_minute": 6_000, "burst_s": 2.0},
    {"tokens_per_minute": 60_000, "requests_per_day": 5_000, "day_resets": "UTC"},
]


@settings(deadline=None, max_examples=examples(60))
@example(seed=0, pool=POOLS[1])  # a slice whose time was over, before one that was large enough
@given(seed=st.integers(0, 1_000_000), pool=st.sampled_from(POOLS))
def test_every_row_leaves_in_about_the_time_that_the_limits_allow(seed: int, pool: dict[str, Any]) -> None:
    chance = random.Random(seed)
    largest = chance.choice([10, 100, 900])
    jobs = [
        [Cost(chance.randint(1, largest), 0) for _ in range(chance.randint(1, 60))] for _ in range(chance.randint(1, 5))
    ]
    rows = [cost for job in jobs for cost in job]
    limits = Limits("p", **pool)
    latency_s = chance.choice([0.01, 0.5, 3.0])
    ideal_s = max(
        len(rows) / (limits.requests_per_minute or 1e9) * 60,
        sum(cost.input_tokens for cost in rows) / (limits.tokens_per_minute or 1e9) * 60,
        len(rows) * latency_s / (limits.max_concurrency or 1e9),
    )

    async def scenario() -> World:
        world = World(limits, chance.choice([1, 2, 4]), chance, latency_s, chance.choice([0.0, 0.0, 0.1]))
        for job in jobs:
            tenant = Tenant(chance.choice("ab"), chance.choice("xy"), 1.0, chance.choice(["live", "normal", "low"]))
            world.consume(tenant, job, chance.choice([1, 5, 64]))
        await world.clock.advance(60 + 3 * ideal_s)
        assert all(task.done() for task in world.tasks), f"{len(world.sent)} of {len(rows)} rows left"
        await world.close()
        return world

    world = asyncio.run(scenario())
    assert sorted(cost.input_tokens for cost in world.sent) == sorted(cost.input_tokens for cost in rows)


@pytest.mark.parametrize(("listed", "think_s"), [(1, 0.0), (5, 0.0), (5, 0.05), (1, 0.3)])
def test_a_slice_that_passes_unused_takes_nothing_of_a_days_limit(listed: int, think_s: float) -> None:
    """A job slower than its rate loses slices; the day loses only what was sent."""
    limits = Limits("p", tokens_per_minute=600_000, requests_per_day=500, day_resets="UTC")

    async def scenario() -> tuple[int, float]:
        clock, sent = ManualClock(), 0
        schedule = InProcessSchedule(clock)
        limiter = LeasingRateLimiter(limits, schedule, clock)

        async def job() -> None:
            nonlocal sent
            left = 60
            while left:
                rows = await limiter.reserve_next(
                    Tenant("a", "j"), [Cost(8, 0)] * min(listed, left), more=left > listed
                )
                left -= len(rows)
                sent += len(rows)
                for row in rows:
                    limiter.settle(row, row.cost)
                await clock.sleep(think_s)

        task = asyncio.create_task(job())
        await clock.advance(600)
        await limiter.aclose()
        task.cancel()
        day = (await schedule.view(limits)).dimensions[-1]
        return sent, day.used_now

    assert asyncio.run(scenario()) == (60, 60)
