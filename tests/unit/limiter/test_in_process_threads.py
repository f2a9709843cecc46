"""Limits and money kept in one process, used by several of its threads, each with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from batch_llm.clock import SystemClock
from batch_llm.limiter.base import Limits, PoolChange
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.ledger import DAY_CAP, LedgerCall

THREADS, TIMES = 4, 10
LOOKS = 10
LIMITS = Limits("p", requests_per_minute=600)


class Witness(SystemClock):
    """A clock that is read in the middle of each step, and sees whether another thread is there too."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    def monotonic(self) -> float:
        self._look()
        return super().monotonic()

    def now(self) -> datetime:
        self._look()
        return super().now()

    def _look(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(LOOKS):
            time.sleep(0)  # lets the others run
        self.inside -= 1


def in_threads(step: Callable[[int], Awaitable[Any]]) -> None:
    """Each thread takes the step several times in a loop of its own; what fails there fails here."""
    together = threading.Barrier(THREADS)

    async def several(thread: int) -> None:
        for number in range(TIMES):
            await step(thread * TIMES + number)

    def work(thread: int) -> None:
        together.wait()
        asyncio.run(several(thread))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


def test_a_schedule_takes_one_call_after_the_other() -> None:
    witness = Witness()
    schedule = InProcessSchedule(witness)
    rule = [0, 0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    none = [0.0]
    item = ["u", "j", 2, 1.0, 10, 1, [10.0], [1.0], [1.0], none, none, none, 10, 0, 0]

    async def step(number: int) -> None:
        await schedule.call([f"w{number}", 0, 0, 0.0, [rule], [item], 0, 0, [], [], 0, [], 0.0])
        await schedule.view(LIMITS)
        await schedule.change(LIMITS, PoolChange(user_weights={f"u{number}": 2.0}))

    in_threads(step)
    assert witness.most == 1


def test_a_ledger_promises_no_money_twice() -> None:
    witness = Witness()
    ledger = InProcessLedger(witness)
    asyncio.run(ledger.set_caps({DAY_CAP: Decimal(7)}))
    ledger_epoch = asyncio.run(ledger.call(LedgerCall("first", 1, 0, "r", "u", None))).epoch
    dollar = 10**9
    denied = count()
    promised: list[int] = []

    async def step(number: int) -> None:
        call = LedgerCall(f"w{number}", 1, ledger_epoch, "r", "u", None, least_nano=dollar)
        reply = await ledger.call(call)
        if reply.denial is None:
            promised.append(reply.reserve_nano)
        else:
            next(denied)
        await ledger.view()
        await ledger.set_caps({f"user:u{number}": Decimal(1)})

    in_threads(step)
    assert witness.most == 1
    assert sum(promised) == 7 * dollar
    assert next(denied) == THREADS * TIMES - 7
