"""Several processes and users share a pool that limits requests in flight, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.limiter.base import Cost, Limits, PoolChange, Tenant
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingRateLimiter
from tests.unit.limiter.pool_lab import jain

START_S = 1_000.0
ONE = Cost(10, 0)


@dataclass
class Process:
    """A worker: its limiter, and a link to the schedule that a kill cuts."""

    schedule: InProcessSchedule
    clock: ManualClock
    way_s: float
    killed: bool = False

    async def call(self, request: list[Any]) -> list[Any]:
        if self.killed:
            await asyncio.Event().wait()
        await self.clock.sleep(self.way_s)
        reply = await self.schedule.call(request)
        await self.clock.sleep(self.way_s)
        return reply


@dataclass
class Run:
    """One request: when it left, when it was answered."""

    user: str
    left_s: float
    ends_s: float


@dataclass
class Lab:
    """Users that never have enough, each in some processes of one pool."""

    limits: Limits
    processes: int
    answer_s: float = 0.5
    way_s: float = 0.0  # of a call to the schedule, and of its reply
    rests: random.Random | None = None  # users come and go
    clock: ManualClock = field(default_factory=ManualClock)
    runs: list[Run] = field(default_factory=list)
    tasks: dict[tuple[int, str], asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedule = InProcessSchedule(self.clock)
        self.links = [Process(self.schedule, self.clock, self.way_s) for _ in range(self.processes)]
        self.limiters = [LeasingRateLimiter(self.limits, link, self.clock) for link in self.links]  # type: ignore[arg-type]

    def start(self, users: Iterable[str], processes: Iterable[int] | None = None) -> None:
        for user in users:
            for number in range(self.processes) if processes is None else processes:
                self.tasks[number, user] = asyncio.create_task(self._feed(number, user))

    async def _feed(self, number: int, user: str) -> None:
        limiter, link = self.limiters[number], self.links[number]
        while True:
            count = 40 if self.rests is None else self.rests.randint(1, 20)
            if self.rests is not None:
                await self.clock.sleep(self.rests.uniform(0, 0.3))
            for row in await limiter.reserve_next(Tenant(user, "job"), [ONE] * count, more=self.rests is None):
                now_s = self.clock.monotonic()  # exact, so that an answer and the row in its place do not overlap
                self.runs.append(Run(user, now_s, now_s + self.answer_s))
                self.clock.call_later(
                    self.answer_s,
                    lambda row=row: None if link.killed else limiter.settle(row, ONE),  # type: ignore[misc]
                )

    def kill(self, number: int) -> None:
        """Without a word; the requests it has sent are still answered."""
        self.links[number].killed = True
        for (process, _), task in self.tasks.items():
            if process == number:
                task.cancel()

    def stop(self, user: str) -> None:
        for (_, each), task in self.tasks.items():
            if each == user:
                task.cancel()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        for limiter in self.limiters:
            closing = asyncio.create_task(limiter.aclose())
            while not closing.done():
                await self.clock.advance(0.1)

    def finished(self, from_s: float, until_s: float) -> Counter[str]:
        """Rows per user; seconds since the start."""
        return Counter(run.user for run in self.runs if from_s <= run.ends_s - START_S < until_s)

    def most_in_flight(self) -> int:
        changes = sorted([(run.left_s, 1) for run in self.runs] + [(run.ends_s, -1) for run in self.runs])
        most = now = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most

    def use(self, from_s: float, until_s: float) -> float:
        """The part of all permits that was in use; seconds since the start."""
        first_s, last_s = START_S + from_s, START_S + until_s
        busy = sum(max(0.0, min(run.ends_s, last_s) - max(run.left_s, first_s)) for run in self.runs)
        return busy / ((until_s - from_s) * (self.limits.max_concurrency or 1))


def _run(lab_of: Any) -> Lab:
    lab: Lab = asyncio.run(lab_of)
    assert lab.most_in_flight() <= (lab.limits.max_concurrency or 0)
    return lab


TEN = Limits("p", max_concurrency=10)
TEN_AND_MORE = Limits("p", requests_per_minute=60_000, max_concurrency=10)
TEN_AND_A_RATE = Limits("p", requests_per_minute=600, max_concurrency=10)  # 20 a second would fit the permits


@pytest.mark.parametrize("limits", [TEN, TEN_AND_MORE, TEN_AND_A_RATE], ids=["alone", "wide rate", "rate binds"])
@pytest.mark.parametrize("answer_s", [0.5, 3.0])
def test_one_who_came_first_shares_with_one_who_comes_later(limits: Limits, answer_s: float) -> None:
    async def main() -> Lab:
        lab = Lab(limits, 2, answer_s=answer_s)
        lab.start("a")
        await lab.clock.advance(5)
        lab.start("b")
        await lab.clock.advance(65)
        await lab.close()
        return lab

    lab = _run(main())
    from_s = 7 + 2 * answer_s
    assert jain([lab.finished(from_s, 70)[user] for user in "ab"]) >= 0.99
    if limits is TEN_AND_A_RATE and answer_s < 1:
        assert sum(lab.finished(from_s, 70).values()) >= 0.98 * 10 * (70 - from_s)
    else:
        assert lab.use(from_s, 70) >= 0.98


@pytest.mark.parametrize(("processes", "users"), [(1, "a"), (3, "a"), (1, "abc"), (3, "abc")])
@pytest.mark.parametrize("answer_s", [0.5, 0.7, 0.9])
def test_a_rate_is_used_in_full_though_permits_are_scarce(processes: int, users: str, answer_s: float) -> None:
    """Of 40 permits 50 rows a second need 25, 35, or more than there are."""
    limits = Limits("p", requests_per_minute=3_000, max_concurrency=40)

    async def main() -> Lab:
        lab = Lab(limits, processes, answer_s=answer_s)
        lab.start(users)
        await lab.clock.advance(25)
        await lab.close()
        return lab

    rows = _run(main()).finished(5, 25)
    assert sum(rows.values()) >= 0.98 * 20 * min(50, 40 / answer_s)
    assert jain([rows[user] for user in users]) >= 0.99


@pytest.mark.parametrize("limits", [TEN, TEN_AND_MORE], ids=["alone", "wide rate"])
def test_weights_count_within_whole_permits(limits: Limits) -> None:
    """Of ten permits at 3:1, over two processes each: 7.5 and 2.5, so between 6 and 8 of the heavier."""

    async def main() -> Lab:
        lab = Lab(limits, 2)
        await lab.schedule.change(limits, PoolChange(user_weights={"a": 3.0}))
        lab.start("b")
        await lab.clock.advance(5)
        lab.start("a")
        await lab.clock.advance(65)
        await lab.close()
        return lab

    lab = _run(main())
    rows = lab.finished(10, 70)
    assert rows["a"] / (rows["a"] + rows["b"]) == pytest.approx(0.75, abs=0.05)
    assert lab.use(10, 70) >= 0.98


@pytest.mark.parametrize("limits", [TEN, TEN_AND_MORE], ids=["alone", "wide rate"])
def test_who_leaves_gives_its_permits_to_the_others(limits: Limits) -> None:
    async def main() -> Lab:
        lab = Lab(limits, 2)
        lab.start("ab")
        await lab.clock.advance(10)
        lab.stop("a")
        await lab.clock.advance(20)
        await lab.close()
        return lab

    lab = _run(main())
    assert lab.use(13, 30) >= 0.98
    assert lab.finished(13, 30)["a"] == 0


@pytest.mark.parametrize("limits", [TEN, TEN_AND_MORE], ids=["alone", "wide rate"])
def test_permits_of_a_killed_worker_return(limits: Limits) -> None:
    """Not before its heartbeat is long due: its requests may still run at the provider."""

    async def main() -> Lab:
        lab = Lab(limits, 2)
        lab.start("ab")
        await lab.clock.advance(10)
        lab.kill(0)
        await lab.clock.advance(30)
        await lab.close()
        return lab

    lab = _run(main())
    assert lab.use(23, 40) >= 0.98
    assert jain(list(lab.finished(23, 40).values())) >= 0.99


@pytest.mark.parametrize("limits", [TEN, TEN_AND_MORE], ids=["alone", "wide rate"])
def test_with_more_callers_than_permits_nobody_starves(limits: Limits) -> None:
    """The permits go round."""
    users = [f"u{number}" for number in range(10)]

    async def main() -> Lab:
        lab = Lab(limits, 2)
        lab.start(users)
        await lab.clock.advance(60)
        await lab.close()
        return lab

    lab = _run(main())
    assert lab.use(5, 60) >= 0.98
    rows = lab.finished(5, 60)
    assert jain([rows[user] for user in users]) >= 0.95


@pytest.mark.parametrize("limits", [TEN, TEN_AND_MORE, TEN_AND_A_RATE], ids=["alone", "wide rate", "rate binds"])
def test_never_more_in_flight_than_allowed_however_long_a_call_takes(limits: Limits) -> None:
    """What a caller may let out while its report is on the way, the schedule does not give to others."""

    async def main() -> Lab:
        lab = Lab(limits, 3, answer_s=0.2, way_s=0.04, rests=random.Random(7))
        lab.start("abc")
        await lab.clock.advance(60)
        await lab.close()
        return lab

    assert _run(main()).use(5, 60) > 0.15


async def test_who_closes_right_after_its_last_answer_gives_back_its_permits() -> None:
    """Also when it had said that more rows follow: the next command must not wait for a heartbeat that never comes."""
    clock = ManualClock()
    schedule = InProcessSchedule(clock)

    async def reserved(limiter: LeasingRateLimiter, job: str) -> tuple[list[Any], float]:
        began_s = clock.monotonic()
        rows = asyncio.create_task(limiter.reserve_next(Tenant("u", job), [ONE] * 8, more=True))
        while not rows.done():
            await clock.advance(0.005)
        return rows.result(), clock.monotonic() - began_s

    async with LeasingRateLimiter(Limits(pool="p", max_concurrency=8), schedule, clock) as first:
        for _ in range(10):
            rows, _ = await reserved(first, "one")
            for row in rows:
                first.settle(row, ONE)
    async with LeasingRateLimiter(Limits(pool="p", max_concurrency=8), schedule, clock) as second:
        rows, waited_s = await reserved(second, "two")
        assert len(rows) == 8
        assert waited_s < 0.1
