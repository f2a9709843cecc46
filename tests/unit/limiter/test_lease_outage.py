"""Several processes whose store goes away and comes back with all it knew, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.errors import LimiterUnreachable
from batch_llm.limiter.base import Cost, Limits, Tenant
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from tests.contract.strict_bucket import Flow, overshoot
from tests.unit.limiter.pool_lab import jain

PER_S = 1_000.0
LIMITS = Limits("p", requests_per_minute=60 * PER_S)
START_S = 1_000.0
DOWN_AT_S = 9.6
USERS = "abcd"
ROWS = [Cost(10, 0)] * 40


class Store(InProcessSchedule):
    """A schedule that nobody reaches while it is down."""

    is_down = False

    async def call(self, request: list[Any]) -> list[Any]:
        if self.is_down:
            raise LimiterUnreachable("connection refused", refused=True)
        return await super().call(request)


async def feed(limiter: LeasingRateLimiter, user: str, sent: list[tuple[float, str]]) -> None:
    while True:
        rows = await limiter.reserve_next(Tenant(user, "job"), ROWS, more=True)
        sent += [(row.granted_at_s - START_S, user) for row in rows]
        for row in rows:
            limiter.settle(row, row.cost)


async def outage(processes: int, outage_s: float) -> list[tuple[float, str]]:
    """When each row left, and whose it was."""
    clock, sent = ManualClock(), list[tuple[float, str]]()
    store = Store(clock)
    limiters = [LeasingRateLimiter(LIMITS, store, clock) for _ in range(processes)]
    tasks = [asyncio.create_task(feed(limiter, user, sent)) for limiter in limiters for user in USERS]
    await clock.advance(DOWN_AT_S)
    store.is_down = True
    await clock.advance(outage_s)
    store.is_down = False
    await clock.advance(4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for limiter in limiters:
        await limiter.aclose()
    return sorted(sent)


@pytest.mark.parametrize(("processes", "outage_s"), [(1, 3.0), (4, 1.5), (4, 3.0), (4, 8.0), (16, 3.0)])
def test_what_went_without_the_store_is_paid_by_its_time(processes: int, outage_s: float) -> None:
    """Two seconds after the return the whole limit is used again, and no user alone has it."""
    sent = asyncio.run(outage(processes, outage_s))
    back_s = DOWN_AT_S + outage_s
    lately = Counter(user for at_s, user in sent if back_s + 1.75 <= at_s < back_s + 3.75)
    assert sum(lately.values()) >= 0.98 * 2 * PER_S
    assert jain([lately[user] for user in USERS]) >= 0.9


@pytest.mark.parametrize("processes", [4, 16])
def test_through_an_outage_nothing_goes_above_the_limit(processes: int) -> None:
    """Who goes on alone waits until what others had booked has passed, however far ahead that was."""
    sent = asyncio.run(outage(processes, 3.0))
    assert overshoot([Flow(at_s, 1.0) for at_s, _ in sent], PER_S) <= 0.02 * PER_S
    assert sum(DOWN_AT_S + 2.8 <= at_s < DOWN_AT_S + 3 for at_s, _ in sent) >= 0.6 * 0.2 * PER_S
