"""A schedule that answers what a test tells it to, and writes down what it was asked.

Belongs here: the scripted schedule and what drives a limiter with it. Not here: promises (test_leasing*.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batch_llm.clock import ManualClock
from batch_llm.limiter.base import Cost, Limits, PoolChange, PoolView, Reservation, Tenant
from batch_llm.limiter.leasing import LeasingOptions, LeasingRateLimiter
from batch_llm.limiter.wire import Grant, Reply, Served

__all__ = ["TENANT", "Asked", "Lab", "ScriptedSchedule", "denied", "granted", "run"]

TENANT = Tenant("alice", "tone")
SKEW_S = 5_000.0  # the schedule's clock shows so much more than the caller's


@dataclass
class Asked:
    """One call, by name."""

    at_s: float
    worker: str
    epoch: int
    seq: int
    depth_s: float
    items: list[dict[str, Any]]
    throttles: list[list[float]]
    observed: list[list[float]]
    outage: bool
    memory: list[float]
    age_s: float


_ITEM = (
    "user job lane weight rows more cost first largest done used unused waiting in_flight permits_wanted".split()  # noqa: SIM905
)


def granted(
    *amounts: float, after_s: float = 0.0, permits: int = -1, served: int = Served.GRANTED, suits_s: float = 0.0
) -> dict[str, Any]:
    """A slice that begins ``after_s`` from the reply."""
    slices = {"after_s": after_s, "amounts": list(amounts), "suits_s": suits_s}
    return {"served": served, "permits": permits, **slices}


def denied(wait_s: float = 100.0, *, binding: int = 0, permits: int = -1) -> dict[str, Any]:
    """Ask again later."""
    return {"served": Served.DENIED, "wait_s": wait_s, "binding": binding, "permits": permits}


@dataclass
class ScriptedSchedule:
    """Gives the next answer of ``script`` to each item that asks for rows, then ``afterwards`` for ever."""

    clock: ManualClock
    rates: list[float]
    script: list[dict[str, Any]] = field(default_factory=list)
    afterwards: dict[str, Any] = field(default_factory=denied)
    reply: dict[str, Any] = field(default_factory=dict)  # fields of every Reply that differ from the usual
    asked: list[Asked] = field(default_factory=list)
    error: Exception | None = None
    delay_s: float = 0.0  # of each reply
    skew_s: float = SKEW_S
    epoch: int = 7

    async def call(self, request: list[Any]) -> list[Any]:
        worker, epoch, seq, depth_s, _, items, _, _, throttles, observed, outage, memory, age_s = request
        named = [dict(zip(_ITEM, item, strict=True)) for item in items]
        head = (self.clock.monotonic(), worker, epoch, seq, depth_s)
        self.asked.append(Asked(*head, named, throttles, observed, bool(outage), memory, age_s))
        if self.error is not None:
            raise self.error
        now_s = self.clock.monotonic() + self.skew_s
        reply = self._reply(now_s, [self._answer(item) for item in named])
        if self.delay_s:
            await self.clock.sleep(self.delay_s)
        return reply

    def _answer(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["rows"] <= 0:
            return denied(0.0, binding=-1, permits=self.afterwards["permits"])
        return self.script.pop(0) if self.script else self.afterwards

    def _reply(self, now_s: float, answers: list[dict[str, Any]]) -> list[Any]:
        nothing = [0.0] * len(self.rates)
        usual: dict[str, Any] = {
            "epoch": self.epoch,
            "seq": len(self.asked),
            "now_s": now_s,
            "version": 1,
            "rates": self.rates,
            "limits": self.rates,
            "pause_s": 0.0,
            "pause_dimension": -1.0,
            "stray": 0,
            "memory": nothing,
        }
        grants = []
        for answer in answers:
            amounts = answer.get("amounts", nothing)
            starts_s = [now_s + answer["after_s"]] * len(amounts) if "after_s" in answer else nothing
            wait_s, binding = answer.get("wait_s", 0.0), answer.get("binding", -1)
            grants.append(
                [answer["served"], wait_s, binding, starts_s, amounts, answer["permits"], answer.get("suits_s", 0.0)]
            )
        wire = [*(usual | self.reply).values(), grants]
        assert len(wire) == len(Reply.__slots__)  # type: ignore[attr-defined]
        assert all(len(grant) == len(Grant.__slots__) for grant in grants)  # type: ignore[attr-defined]
        return wire

    async def view(self, limits: Limits) -> PoolView:
        raise NotImplementedError

    async def change(self, limits: Limits, change: PoolChange) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to close."""

    def rows_asked(self) -> list[dict[str, Any]]:
        """The items that asked for a slice."""
        return [item for call in self.asked for item in call.items if item["rows"] > 0]

    def reported(self, name: str) -> list[float]:
        """The sum of done, used or unused over all calls."""
        sums = [0.0] * len(self.rates)
        for item in (item for call in self.asked for item in call.items):
            sums = [total + amount for total, amount in zip(sums, item[name], strict=True)]
        return sums


class Lab:
    """A limiter on a scripted schedule in virtual time."""

    def __init__(self, limits: Limits, rates: list[float], *script: dict[str, Any], **options: Any) -> None:
        self.clock = ManualClock()
        self.schedule = ScriptedSchedule(self.clock, rates, list(script))
        self.limiter = LeasingRateLimiter(limits, self.schedule, self.clock, LeasingOptions(**options))
        self.times: list[float] = []
        self.rows: list[Reservation] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def ask(self, *costs: Cost, tenant: Tenant = TENANT) -> list[asyncio.Task[Any]]:
        """One `reserve` per cost."""
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._one(tenant, cost)) for cost in costs]
        self.tasks += tasks
        return tasks

    async def _one(self, tenant: Tenant, cost: Cost) -> Reservation:
        row = await self.limiter.reserve(tenant, cost)
        self.note([row])
        return row

    def feed(self, cost: Cost, *, tenant: Tenant = TENANT, listed: int = 20) -> None:
        """A consumer that never has enough."""
        self.tasks.append(asyncio.create_task(self._feed(tenant, [cost] * listed)))

    async def _feed(self, tenant: Tenant, costs: list[Cost]) -> None:
        while True:
            self.note(await self.limiter.reserve_next(tenant, costs, more=True))

    def note(self, rows: list[Reservation]) -> None:
        self.rows += rows
        self.times += [round(row.granted_at_s - 1_000, 6) for row in rows]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.limiter.aclose()


def run(lab: Callable[[], Lab], scenario: Callable[[Lab], Any]) -> Lab:
    """Run one scenario and close the limiter."""

    async def main() -> Lab:
        made = lab()
        try:
            await scenario(made)
        finally:
            await made.close()
        return made

    return asyncio.run(main())
