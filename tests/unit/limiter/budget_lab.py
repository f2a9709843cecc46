"""Budgets of some processes over one ledger, and the journals of their run.

Belongs here: what test_budget*.py share. Not here: assertions about money.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from batch_llm.clock import ManualClock
from batch_llm.errors import LimiterError
from batch_llm.limiter.base import Hold
from batch_llm.limiter.budget import Account, LedgerBudget, free_dead
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.ledger import SETTLING_S, LedgerCall, LedgerReply

__all__ = ["USD", "House", "kill", "two"]

USD = Decimal


class Watched:
    """A ledger that counts calls and can be out of reach."""

    def __init__(self, clock: ManualClock, settling_s: float = 0.0) -> None:
        self.inner = InProcessLedger(clock, settling_s=settling_s)
        self.calls: list[LedgerCall] = []
        self.failure: LimiterError | None = None
        self.answer: asyncio.Event | None = None  # answers come when it is set

    async def call(self, call: LedgerCall) -> LedgerReply:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            await self.answer.wait()
        return await self.inner.call(call)

    async def set_caps(self, caps: Mapping[str, Decimal | None]) -> None:
        await self.inner.set_caps(caps)

    async def view(self) -> Any:
        return await self.inner.view()

    async def aclose(self) -> None:
        await self.inner.aclose()


class House:
    """Budgets of one or more processes over one ledger, and the journals of their run."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = Watched(self.clock)
        self.journals: dict[int, Decimal] = {}
        self.readings = 0

    def budget(self, cap: str | None, *, user: str = "alice", run: str = "r1") -> LedgerBudget:
        account = Account(run, user, None if cap is None else USD(cap))
        return LedgerBudget(self.ledger, account, self._read, self.clock)

    async def free_dead(self, *, run: str = "r1", alone_for_s: float = 0.0) -> None:
        """Nobody works on the run, as for so long."""
        alone_at_s = self.clock.monotonic() - alone_for_s
        await free_dead(self.ledger, Account(run, "alice", None), self._read, self.clock, alone_at_s=alone_at_s)

    async def _read(self, but_for: AbstractSet[int]) -> dict[int, Decimal]:
        self.readings += 1
        return {number: usd for number, usd in self.journals.items() if number not in but_for}

    def empty(self) -> None:
        """Everything is forgotten."""
        self.clock._now += 0.001
        self.ledger.inner = InProcessLedger(self.clock, settling_s=SETTLING_S)

    async def held(self, task: asyncio.Task[Hold], within_s: float = 2.0) -> Hold:
        """The hold, when it comes within this time."""
        await self.clock.advance(within_s)
        assert task.done(), "still waiting"
        return task.result()

    async def views(self) -> dict[str, tuple[Decimal | None, Decimal, Decimal]]:
        views = await self.ledger.view()
        return {view.scope: (view.cap_usd, view.spent_usd, view.reserved_usd) for view in views}


@asynccontextmanager
async def two(house: House, cap: str) -> AsyncIterator[tuple[LedgerBudget, LedgerBudget]]:
    async with house.budget(cap) as first, house.budget(cap) as second:
        first.begin(0, house.journals.get(0, USD(0)))
        second.begin(1, house.journals.get(1, USD(0)))
        yield first, second


async def kill(budget: LedgerBudget) -> None:
    """As `kill -9` does: nothing is said any more."""
    for task in (budget._reporter, budget._reader):
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
