"""Several processes and tenants on one schedule, in virtual time: together never above the limit, and all of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_llm.clock import Alarm, ManualClock
from batch_llm.limiter.base import Cost, Limits, PoolChange, Tenant
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from tests.contract.strict_bucket import Flow, largest_window, overshoot
from tests.search import examples

MINUTE_S = 60.0


class LateClock(ManualClock):
    """A manual clock whose alarms ring 0.1 to 2 ms late, as asyncio's do."""

    def __init__(self) -> None:
        super().__init__()
        self._late = random.Random(7)

    def call_later(self, delay_s: float, callback) -> Alarm:  # type: ignore[no-untyped-def]
        return super().call_later(delay_s + self._late.uniform(0.0001, 0.002), callback)


@dataclass
class Consumer:
    """A job in one process that never has enough: rows of these sizes in turn, answered after a while."""

    tenant: Tenant
    sizes: list[int]
    limiter: LeasingRateLimiter
    clock: ManualClock
    flows: list[tuple[float, str, int]] = field(default_factory=list)
    settles: bool = True

    async def run(self) -> None:
        number = 0
        while True:
            listed = [Cost(self.sizes[n % len(self.sizes)], 0) for n in range(number, number + 40)]
            rows = await self.limiter.reserve_next(self.tenant, listed, more=True)
            number += len(rows)
            for row in rows:
                self.flows.append((row.granted_at_s, self.tenant.user, row.cost.input_tokens))
                if self.settles:
                    self.clock.call_later(1.5, lambda row=row: self.limiter.settle(row, row.cost))  # type: ignore[misc]


@dataclass
class Pool:
    """Processes that share one schedule."""

    limits: Limits
    processes: int
    clock: LateClock = field(default_factory=LateClock)
    limiters: list[LeasingRateLimiter] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schedule = InProcessSchedule(self.clock)
        for _ in range(self.processes):
            self.limiters.append(LeasingRateLimiter(self.limits, self.schedule, self.clock))

    def start(self, process: int, user: str, sizes: list[int], *, settles: bool = True) -> asyncio.Task[None]:
        consumer = Consumer(Tenant(user, "job"), sizes, self.limiters[process], self.clock, settles=settles)
        self.consumers.append(consumer)
        self.tasks.append(asyncio.create_task(consumer.run()))
        return self.tasks[-1]

    def flows(self, from_s: float = 0.0, *, tokens: bool = False) -> list[Flow]:
        every = sorted(flow for consumer in self.consumers for flow in consumer.flows)
        return [Flow(at_s, size if tokens else 1) for at_s, _, size in every if at_s >= 1_000 + from_s]

    def rows_of(self, from_s: float) -> Counter[str]:
        return Counter(
            user for consumer in self.consumers for at_s, user, _ in consumer.flows if at_s >= 1_000 + from_s
        )

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for limiter in self.limiters:
            await limiter.aclose()


JOBS = st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.lists(st.integers(1, 300), min_size=1, max_size=5))


@settings(max_examples=examples(25))
@example(1, [(0, "b", [1, 11]), (0, "a", [1]), (0, "a", [1])], [])  # rests of slices came together
@given(
    st.integers(1, 4),
    st.lists(JOBS, min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 3)), max_size=5),
)
def test_together_they_stay_below_the_limit_whoever_comes_and_goes(
    processes: int, jobs: list[tuple[int, str, list[int]]], ends: list[tuple[int, float]]
) -> None:
    """In any window at most the limit, the slack of each process, one row, and one of each caller: its rest."""
    limits = Limits("p", tokens_per_minute=60_000)

    async def main() -> Pool:
        pool = Pool(limits, processes)
        for process, user, sizes in jobs:
            pool.start(process % processes, user, sizes)
            await pool.clock.advance(0.3)
        for number, after_s in ends:
            await pool.clock.advance(after_s)
            pool.tasks[number % len(pool.tasks)].cancel()
        await pool.clock.advance(5)
        await pool.close()
        return pool

    pool = asyncio.run(main())
    largest = [max(consumer.sizes) for consumer in pool.consumers]
    assert overshoot(pool.flows(tokens=True), 1_000) <= processes * 1_000 * 0.0051 + max(largest) + sum(largest)


@pytest.mark.parametrize(("processes", "users"), [(1, 1), (1, 4), (4, 4)])
def test_together_they_use_the_limit_in_full_and_share_it_fairly(processes: int, users: int) -> None:
    async def main() -> Pool:
        pool = Pool(Limits("p", requests_per_minute=12_000), processes)
        for process in range(processes):
            for user in range(users):
                pool.start(process, f"u{user}", [10])
        await pool.clock.advance(12)
        await pool.close()
        return pool

    pool = asyncio.run(main())
    assert len(pool.flows(2)) >= 0.995 * 200 * 10
    assert largest_window(pool.flows(), 1.0) <= 200 * 1.006 + processes * users
    shares = list(pool.rows_of(2).values())
    assert sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) >= 0.995


def test_a_process_that_stops_leaves_its_share_to_the_others() -> None:
    async def main() -> Pool:
        pool = Pool(Limits("p", requests_per_minute=6_000), 2)
        task = pool.start(0, "a", [10])
        pool.start(1, "b", [10])
        await pool.clock.advance(6)
        task.cancel()
        await pool.limiters[0].aclose()
        await pool.clock.advance(6)
        await pool.close()
        return pool

    pool = asyncio.run(main())
    assert len(pool.flows(6.2)) >= 0.985 * 100 * 5.8


def test_a_killed_process_costs_its_slices_and_no_more() -> None:
    async def main() -> Pool:
        pool = Pool(Limits("p", requests_per_minute=6_000), 2)
        task = pool.start(0, "a", [10])
        pool.start(1, "b", [10])
        await pool.clock.advance(6)
        task.cancel()
        pool.limiters[0]._caller._task.cancel()  # type: ignore[union-attr]  # it says nothing any more
        await pool.clock.advance(10)
        await pool.close()
        return pool

    pool = asyncio.run(main())
    assert len(pool.flows(6)) >= 0.93 * 100 * 10
    assert len(pool.flows(10)) >= 0.985 * 100 * 6


def test_a_limit_changed_by_a_person_holds_within_a_second() -> None:
    async def main() -> Pool:
        pool = Pool(Limits("p", requests_per_minute=6_000), 2)
        for process in range(2):
            pool.start(process, "a", [10])
        await pool.clock.advance(5)
        await pool.schedule.change(pool.limits, PoolChange({"requests_per_minute": 600}))
        await pool.clock.advance(11)
        await pool.close()
        return pool

    pool = asyncio.run(main())
    assert len(pool.flows(6)) == pytest.approx(100, abs=5)
    assert largest_window(pool.flows(6.001), 1.0) <= 12


def test_what_is_used_is_what_the_limit_allows_when_answers_are_shorter_than_reserved() -> None:
    """Refunds come back seconds later; the next rows leave beside those that are still booked."""

    async def main() -> float:
        clock = LateClock()
        limits = Limits("p", tokens_per_minute=60_000, debit="input_plus_max_tokens_then_corrected")
        limiter = LeasingRateLimiter(limits, InProcessSchedule(clock), clock)
        used: list[tuple[float, int]] = []

        def answered(row, actual: Cost) -> None:  # type: ignore[no-untyped-def]
            limiter.settle(row, actual)
            used.append((clock.monotonic(), actual.output_tokens))

        async def consume() -> None:
            lengths = random.Random(3)
            while True:
                rows = await limiter.reserve_next(Tenant("a", "b"), [Cost(0, 50, 200)] * 20, more=True)
                for row in rows:
                    actual = Cost(0, lengths.randint(1, 100))
                    clock.call_later(1.0, lambda row=row, actual=actual: answered(row, actual))  # type: ignore[misc]

        task = asyncio.create_task(consume())
        await clock.advance(90)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await limiter.aclose()
        return sum(tokens for at_s, tokens in used if at_s >= 1_040) / (1_000 * 50)

    assert asyncio.run(main()) >= 0.95


@pytest.mark.parametrize("processes", [1, 3])
def test_no_more_requests_are_in_flight_than_the_pool_allows_and_as_many_as_that(processes: int) -> None:
    async def main() -> tuple[int, float]:
        pool = Pool(Limits("p", requests_per_minute=60_000, max_concurrency=20), processes)
        for process in range(processes):
            pool.start(process, f"u{process}", [10])
        most, total, looks = 0, 0, 0
        for _ in range(400):
            await pool.clock.advance(0.02)
            in_flight = sum(line.in_flight for limiter in pool.limiters for line in limiter._lines.values())
            most = max(most, in_flight)
            if pool.clock.monotonic() > 1_003:
                total, looks = total + in_flight, looks + 1
        await pool.close()
        return most, total / looks

    most, mean = asyncio.run(main())
    assert most <= 20
    assert mean >= 0.95 * 20
