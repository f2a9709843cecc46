"""One row through the calls, with a provider that misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from batch_llm.clock import ScaledClock
from batch_llm.engine.events import Event
from batch_llm.engine.meter import CALL_TIMEOUT_FIRST_S, Meter
from batch_llm.engine.parts import Calling
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.slice_work import Work
from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.limiter.base import Cost, Limits, Tenant
from batch_llm.limiter.budget import LocalBudget
from batch_llm.limiter.in_process import InProcessRateLimiter
from batch_llm.providers.base import Message, RawAnswer, Request


class Failing:
    """A provider whose every call ends as told, and which notes how long it was allowed to take."""

    def __init__(self, *classes: ErrorClass) -> None:
        self.classes = list(classes)
        self.allowed_s: list[float] = []

    async def send(self, request: Request, *, total_s: float) -> RawAnswer:
        self.allowed_s.append(total_s)
        raise ProviderError(self.classes[len(self.allowed_s) - 1], "as told", maybe_paid=True)


class OneRow:
    """A slice of one row that remembers what was noted."""

    def __init__(self, clock: ScaledClock) -> None:
        self.parts = SimpleNamespace(clock=clock)
        self.number, self.outstanding, self.fed = 0, 1, True
        self.noted: list[Entry] = []

    def note(self, entry: Entry) -> None:
        self.noted.append(entry)

    async def works(self) -> AsyncIterator[Work]:
        request = Request("r-0", "m", (Message("user", "?"),), {}, None)
        work: Any = self
        yield Work(work, 0, request, "h", 1, Cost(1, 1), attempt=1, first_messages=1)


class Idle:
    """Somebody who looks after slices and need not do anything."""

    def __init__(self) -> None:
        self.on_room: Any = None
        self.ended = 0

    def has_room(self) -> bool:
        return True

    def idle(self, work: Any) -> None:
        self.ended += 1


async def allowances_s(*classes: ErrorClass) -> tuple[list[float], list[EntryKind]]:
    """How long each call might take when the calls end like this, and what was noted."""
    clock = ScaledClock(1_000.0)
    job = SimpleNamespace(retries=SimpleNamespace(attempts=len(classes), re_asks=0), samples="none")
    limits = Limits("p:main")
    parts: Any = SimpleNamespace(
        clock=clock, limits=limits, price=None, tenant=Tenant("u", "j"), declared=SimpleNamespace(job=job)
    )
    provider: Any = Failing(*classes)
    limiter = InProcessRateLimiter(limits, clock)
    budget = LocalBudget(None)
    events: list[Event] = []
    calling = Calling(provider, limiter, lambda spent: budget, events.append)
    row, idle = OneRow(clock), Idle()
    await Pipeline(parts, calling, budget, Meter(clock)).run(row.works(), idle)
    limiter.close()
    assert idle.ended == 1 and budget.reserved_usd == Decimal(0)
    return provider.allowed_s, [entry.kind for entry in row.noted]


async def test_a_call_that_timed_out_may_take_twice_as_long_the_next_time() -> None:
    """A slow row is not cut at the same place for ever."""
    allowed_s, noted = await allowances_s(*[ErrorClass.TIMEOUT] * 3)
    assert allowed_s == [CALL_TIMEOUT_FIRST_S, 2 * CALL_TIMEOUT_FIRST_S, 4 * CALL_TIMEOUT_FIRST_S]
    assert noted == [EntryKind.LOST] * 3 + [EntryKind.FAILED]


async def test_other_failures_leave_the_allowance_as_it_is() -> None:
    """Only time that ran out asks for more time."""
    allowed_s, _ = await allowances_s(ErrorClass.SERVER_ERROR, ErrorClass.TIMEOUT, ErrorClass.CONNECTION)
    assert allowed_s == [CALL_TIMEOUT_FIRST_S, CALL_TIMEOUT_FIRST_S, 2 * CALL_TIMEOUT_FIRST_S]
