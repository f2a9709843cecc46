"""Feeds one job's rows through a limiter and writes down when each was sent.

Belongs here: what an engine would do with a limiter, without any HTTP. Not here: which time it is (`World`: real in
worker.py, virtual in virtual.py), making rows (rows.py).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from batch_llm.limiter.base import RateLimiter, Reservation, Tenant, Throttle
from benchmarks.limiter.case import Case, Load
from benchmarks.limiter.provider import LiveProvider
from benchmarks.limiter.records import ADMITTED, REJECTED, Sent
from benchmarks.limiter.rows import Backlog, Row

__all__ = ["Feeder", "World", "feeders_of"]


class World(Protocol):
    """Time, as a feeder needs it."""

    def moment(self) -> float:
        """Now, for the records and the provider; all workers agree on it."""
        ...

    def later(self, delay_s: float, action: Callable[..., Any], *arguments: Any) -> None:
        """Do something so much later."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        ...


@dataclass(slots=True)
class Feeder:
    """One task of one worker that asks for one job."""

    case: Case
    place: int  # of the load in `Case.loads`
    world: World
    limiter: RateLimiter
    write: Callable[[Sent], None]
    seed: str
    provider: LiveProvider | None = None  # when it answers while rows go
    rows: int | None = None  # of this feeder; None: endless
    waits_s: list[float] = field(default_factory=list)  # of one-row jobs
    in_flight: int = 0
    is_done: asyncio.Event = field(default_factory=asyncio.Event)
    user: int = field(init=False)  # place in `Case.users`

    def __post_init__(self) -> None:
        self.user = self.case.users.index(self.load.user)

    async def run_part(self, seconds: float) -> None:
        """Feed in the part of a run of so many seconds, begun now, in which the load has work."""
        joins, leaves = self.load.during
        await self.world.sleep(joins * seconds)
        task = asyncio.create_task(self.run())
        self.world.later((leaves - joins) * seconds, task.cancel)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
        if not task.cancelled():
            task.result()  # raises what went wrong in it

    async def run(self) -> None:
        """Send until cancelled, or until no row is left."""
        if self.load.one_row_every_s is not None:
            await self._run_small_jobs(self.load.one_row_every_s)
            return
        backlog = Backlog(self.load, self.seed, self.rows)
        tenant = Tenant(self.load.user, self.load.job, self.load.weight)
        while True:
            listed = backlog.listed(self.case.rows_at_once)
            if not listed:
                if self.in_flight == 0:
                    return
                self.is_done.clear()
                await self.is_done.wait()
                continue
            costs = [row.cost for row in listed]
            got = await self.limiter.reserve_next(tenant, costs, more=backlog.has_more)
            self._send(backlog, listed[: len(got)], got)

    @property
    def load(self) -> Load:
        """Whose rows these are."""
        return self.case.loads[self.place]

    def _send(self, backlog: Backlog, rows: list[Row] | Any, got: list[Reservation]) -> None:
        at_s = self.world.moment()
        backlog.sent(len(got))
        self.in_flight += len(got)
        if self.provider is not None:
            for row, reservation in zip(rows, got, strict=True):
                self._ask(backlog, row, reservation)
            return
        if self.load.sigma == 0:
            self.write(Sent(at_s, self.user, self.place, len(got), len(got) * _tokens(rows[0])))
        else:
            for row in rows:
                self.write(Sent(at_s, self.user, self.place, 1, _tokens(row)))
        self.world.later(self._latency_s(), self._answered, backlog, rows, got)

    def _ask(self, backlog: Backlog, row: Row, reservation: Reservation) -> None:
        """Send one row to the provider that answers while they go."""
        assert self.provider is not None
        at_s = self.world.moment()
        full = self.provider.admit(at_s, row.cost)
        self.write(Sent(at_s, self.user, self.place, 1, _tokens(row), ADMITTED if full is None else REJECTED))
        if full is None:
            self.world.later(self._latency_s(), self._answered, backlog, [row], [reservation])
        else:
            self.world.later(self.case.provider.answers_429_after_s, self._refused, backlog, row, reservation)

    def _answered(self, backlog: Backlog, rows: list[Row], got: list[Reservation]) -> None:
        for row, reservation in zip(rows, got, strict=True):
            if self.provider is not None:
                self.provider.answer(self.world.moment(), row.cost, row.actual)
            if self.load.output_sigma is not None:
                backlog.learn(row.actual)
            self.limiter.settle(reservation, row.actual)
        self._ended(len(got))

    def _refused(self, backlog: Backlog, row: Row, reservation: Reservation) -> None:
        self.limiter.throttled(reservation, Throttle())
        backlog.again(row)
        self._ended(1)

    def _ended(self, count: int) -> None:
        self.in_flight -= count
        self.is_done.set()

    def _latency_s(self) -> float:
        provider = self.case.provider
        if provider.latency_sigma == 0:
            return provider.latency_s
        return provider.latency_s * math.exp(random.gauss(0, provider.latency_sigma))

    async def _run_small_jobs(self, every_s: float) -> None:
        """A new job of one row so often, whatever the others do."""
        number = 0
        async with asyncio.TaskGroup() as jobs:
            while True:
                jobs.create_task(self._run_small_job(number))
                number += 1
                await self.world.sleep(every_s)

    async def _run_small_job(self, number: int) -> None:
        backlog = Backlog(self.load, self.seed, 1)
        (row,) = backlog.listed(1)
        asked_s = self.world.moment()
        tenant = Tenant(self.load.user, f"{self.load.job}-{self.seed}-{number}")
        reservation = await self.limiter.reserve(tenant, row.cost)
        self.waits_s.append(self.world.moment() - asked_s)
        self._send(backlog, [row], [reservation])


def feeders_of(worker: int, case: Case, make: Callable[[int, str], Feeder]) -> list[Feeder]:
    """The feeders of one worker; ``make`` takes the load's place and a seed."""
    return [
        make(place, f"{worker}-{place}-{number}")
        for place, load in enumerate(case.loads)
        if load.workers is None or worker in load.workers
        for number in range(load.feeders)
    ]


def _tokens(row: Row) -> float:
    return float(row.actual.input_tokens + row.actual.output_tokens)
