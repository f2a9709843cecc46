"""Rows through the calls: with a provider that misbehaves, a limiter that does as it is told, and real money."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from batch_llm.clock import ManualClock
from batch_llm.engine.answers import Verdict
from batch_llm.engine.deadlines import FIRST_S
from batch_llm.engine.events import BudgetMark, Event, FirstFailure, Listener, Stopping
from batch_llm.engine.listening import Guard
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.pools import OpenPool, Pool
from batch_llm.engine.window import PROBE_FIRST_S, WINDOW_UNLIMITED
from batch_llm.engine.work import Work
from batch_llm.errors import (
    ErrorClass,
    LimiterError,
    LimiterUnreachable,
    NeverFits,
    ProviderError,
    QuotaExhausted,
)
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.limiter.base import Cost, Limits, PoolState, Reservation, Tenant, Throttle
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.providers.base import Message, Phase, RawAnswer, Request, Sending

UNTIL = datetime(2026, 5, 6, 7, 0, tzinfo=UTC)


class Provider:
    """Its calls end as told, one after the other, then well; notes when each came."""

    def __init__(self, clock: ManualClock, *endings: ProviderError | None, takes_s: float = 0.0) -> None:
        self.clock, self.endings, self.takes_s = clock, list(endings), takes_s
        self.hangs = 0  # so many of the first calls never end
        self.hangs_in = Phase.ANSWER
        self.rows: list[int] = []
        self.at_s: list[float] = []

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        self.rows.append(int(request.custom_id))
        self.at_s.append(self.clock.monotonic())
        if len(self.rows) <= self.hangs:
            sending.phase = self.hangs_in
            await asyncio.Event().wait()
        ending = self.endings.pop(0) if self.endings else None
        await self.clock.sleep(self.takes_s)
        if ending is not None:
            raise ending
        return RawAnswer(b"{}", {}, 0.0)


class Sulking(Provider):
    """Garbles its answer to each second row."""

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        answer = await super().send(request, sending=sending)
        if int(request.custom_id) % 2 == 0:
            raise ProviderError(ErrorClass.MALFORMED, "garbled")
        return answer


class Gate:
    """A limiter that lets so many rows out per call, and raises what stands in ``errors`` at that call."""

    def __init__(self, at_once: int = 1, errors: Mapping[int, LimiterError | QuotaExhausted] | None = None) -> None:
        self.at_once, self.errors = at_once, dict(errors or {})
        self.calls: list[tuple[int, bool]] = []  # rows listed, whether more follow
        self.open: list[Reservation] = []
        self.released = 0

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        self.calls.append((len(costs), more))
        error = self.errors.get(len(self.calls) - 1)
        if error is not None:
            raise error
        granted = [Reservation(tenant, cost, 0.0) for cost in costs[: self.at_once]]
        self.open += granted
        return granted

    def _end(self, reservation: Reservation) -> None:
        self.open.remove(reservation)

    def state(self) -> PoolState:
        return PoolState("p", None, None, 0, 0.0, None)

    def settle(self, reservation: Reservation, actual: Cost) -> None:
        self._end(reservation)

    def throttled(self, reservation: Reservation, throttle: Throttle) -> None:
        self._end(reservation)

    def release(self, reservation: Reservation) -> None:
        self._end(reservation)
        self.released += 1

    def observe(self, headers: Mapping[str, str]) -> None:
        pass


class Rows:
    """A slice of some rows that remembers what was noted; each answer costs 0.1 USD."""

    def __init__(self, clock: ManualClock, count: int) -> None:
        self.parts = SimpleNamespace(clock=clock)
        self.rows = SimpleNamespace(spent_usd=Decimal(0), last_cost_nano=100_000_000, open_state=lambda row: None)
        self.number, self.outstanding, self.fed = 0, count, True
        self.noted: list[Entry] = []

    def ended(self, work: Work) -> None:
        self.outstanding -= work.count

    def note(self, entry: Entry) -> Verdict | None:
        self.noted.append(entry)
        return Verdict(None, "", None) if entry.kind is EntryKind.ANSWER else None

    async def works(self) -> AsyncIterator[Work]:
        slice_work: Any = self
        for row in range(self.outstanding):
            request = Request(str(row), "m", (Message("user", "?"),), {}, None)
            yield Work(slice_work, row, request, "h", 1, Cost(1, 1), attempt=1, first_messages=1)

    def kinds(self, row: int) -> list[EntryKind]:
        return [entry.kind for entry in self.noted if entry.row == row]


class Idle:
    """Somebody who looks after slices and need not do anything."""

    def __init__(self) -> None:
        self.on_room: Any = None
        self.ended = 0

    def has_room(self) -> bool:
        return True

    def idle(self, work: Any) -> None:
        self.ended += 1


class Bench:
    """One pipeline with everything around it."""

    def __init__(self, *endings: ProviderError | None, rows: int = 1, gate: Gate | None = None, attempts: int = 3):
        self.clock = ManualClock()
        self.provider = Provider(self.clock, *endings)
        self.gate = gate or Gate()
        self.rows, self.idle = Rows(self.clock, rows), Idle()
        self.events: list[Event] = []
        self.listener: Listener = self.events.append
        job = SimpleNamespace(is_embedding=False, retries=SimpleNamespace(attempts=attempts, re_asks=0), samples="none")
        self.parts: Any = SimpleNamespace(
            clock=self.clock,
            limits=Limits("p:main"),
            price=None,
            most_output_tokens=None,
            context_tokens=None,
            paid_at=lambda pool: {},
            fallbacks=(),
            tokens=SimpleNamespace(exact=True, most=lambda counted, size_bytes, allowance: counted),
            tenant=Tenant("u", "j"),
            declared=SimpleNamespace(job=job),
        )
        self.meter = Meter(self.clock)

    async def run(self, cap_usd: Decimal | None = None) -> Pipeline:
        """Ask all rows; afterwards every reservation and every hold has ended."""
        asked = asyncio.create_task(self._ask(cap_usd))
        while not asked.done():
            await self.clock.advance(10)
        return await asked

    async def _ask(self, cap_usd: Decimal | None) -> Pipeline:
        provider: Any = self.provider
        limiter: Any = self.gate
        async with AsyncExitStack() as stack:
            account = Account("r", "u", cap_usd)
            budget = LedgerBudget(InProcessLedger(self.clock), account, _nothing_spent, self.clock)
            await stack.enter_async_context(budget)
            pool = Pool("main", self.parts.limits, self.parts.price)
            calling = Calling(
                (OpenPool(pool, provider, limiter),), lambda record, spent: budget, Guard(self.listener), _no_dead
            )
            pipeline = Pipeline(self.parts, calling, budget, self.meter)
            try:
                await pipeline.run(self.rows.works(), self.idle)
            finally:
                assert self.gate.open == [] and budget.reserved_usd == Decimal(0)
        return pipeline


async def _nothing_spent(but_for: AbstractSet[int]) -> dict[int, Decimal]:
    return {}


async def _no_dead(*args: object) -> None:
    """Nobody else ever worked on the run."""


def failed(error_class: ErrorClass, retry_after_s: float | None = None) -> ProviderError:
    maybe_paid = error_class is not ErrorClass.RATE_LIMITED
    return ProviderError(error_class, "as told", maybe_paid=maybe_paid, retry_after_s=retry_after_s)


# -- one row ----------------------------------------------------------------------------------------------------------


async def test_a_row_that_fails_each_time_is_given_up_after_its_attempts() -> None:
    """Each call of unknown outcome is noted; the row hears of its end once."""
    bench = Bench(*[failed(ErrorClass.TIMEOUT)] * 3)
    await bench.run()
    assert bench.rows.kinds(0) == [EntryKind.LOST] * 3 + [EntryKind.FAILED]
    assert [entry.attempt for entry in bench.rows.noted] == [1, 2, 3, 3]
    assert bench.idle.ended == 1


async def test_a_hung_call_is_ended_and_its_row_asked_again() -> None:
    """It may have been paid, so it is noted as lost; the next call may take twice as long."""
    bench = Bench(None, None)
    bench.provider.hangs = 1
    await bench.run()
    first, second = bench.provider.at_s
    assert FIRST_S <= second - first <= FIRST_S + 60
    assert bench.rows.kinds(0) == [EntryKind.LOST, EntryKind.ANSWER]


async def test_a_listener_that_raises_costs_no_row_anything() -> None:
    """Neither at a failure nor at a mark of the budget: no row has an entry more, no money is settled twice."""
    bench = Bench(failed(ErrorClass.INVALID_REQUEST), None, rows=2)
    bench.parts.price = SimpleNamespace(cost_nano=lambda *tokens: 900_000_000)
    bench.listener = told = Mock(side_effect=BrokenPipeError)
    await bench.run(cap_usd=Decimal(2))
    ends = {row: bench.rows.kinds(row)[-1] for row in (0, 1)}
    assert ends == {0: EntryKind.FAILED, 1: EntryKind.ANSWER}
    assert not [entry for entry in bench.rows.noted if entry.detail.get("error_class") == "internal"]
    assert {type(call.args[0]) for call in told.mock_calls} >= {FirstFailure, BudgetMark}


async def test_a_call_that_is_ended_while_it_signs_in_was_not_sent_and_costs_nothing() -> None:
    bench = Bench(None, None)
    bench.parts.price = SimpleNamespace(cost_nano=lambda *tokens: 100_000_000, version="v")
    bench.provider.hangs, bench.provider.hangs_in = 1, Phase.SIGN_IN
    await bench.run(cap_usd=Decimal(1))
    assert bench.rows.kinds(0) == [EntryKind.SENT, EntryKind.UNBILLED, EntryKind.SENT, EntryKind.ANSWER]


async def test_a_run_that_is_given_up_while_it_signs_in_has_spent_nothing() -> None:
    bench = Bench(None)
    bench.parts.price = SimpleNamespace(cost_nano=lambda *tokens: 100_000_000, version="v")
    bench.provider.hangs, bench.provider.hangs_in = 1, Phase.SIGN_IN
    asked = asyncio.create_task(bench._ask(Decimal(1)))
    await bench.clock.advance(5)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert bench.rows.kinds(0) == [EntryKind.SENT, EntryKind.UNBILLED]


async def test_a_provider_that_is_away_costs_no_row_its_attempts() -> None:
    """Nobody is answered, for longer than all attempts of a row take: one call at a time looks, then all go on."""
    refused = ProviderError(ErrorClass.CONNECTION, "cannot connect: refused")
    bench = Bench(*[refused] * 200, rows=20, gate=Gate(20), attempts=5)
    await bench.run()
    assert {entry.kind for entry in bench.rows.noted} == {EntryKind.ANSWER} and len(bench.rows.noted) == 20
    away = bench.provider.at_s[60:200]  # once it was known to be away
    assert all(later - earlier >= PROBE_FIRST_S for earlier, later in pairwise(away))


async def test_a_provider_that_stays_away_ends_the_run_resumably() -> None:
    refused = ProviderError(ErrorClass.CONNECTION, "cannot connect: refused")
    bench = Bench(*[refused] * 10_000, rows=20, gate=Gate(20), attempts=5)
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.CANCELLED and "has not answered for 30 minutes" in pipeline.stop_message
    assert bench.rows.noted == []


async def test_a_throttled_row_sits_out_what_it_was_told_and_loses_no_attempt() -> None:
    """The limiter may go on with others: this row alone has to wait."""
    bench = Bench(*[failed(ErrorClass.RATE_LIMITED, 40.0)] * 3, attempts=1)
    await bench.run()
    sent_s = bench.provider.at_s
    assert all(later - earlier >= 40.0 for earlier, later in pairwise(sent_s))
    assert [entry.attempt for entry in bench.rows.noted] == [1] and bench.rows.kinds(0) == [EntryKind.ANSWER]


async def test_rows_go_on_beside_a_throttled_one() -> None:
    bench = Bench(failed(ErrorClass.RATE_LIMITED, 40.0), rows=20)
    await bench.run()
    assert bench.provider.rows == [*range(20), 0]


# -- many rows at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 3, 100])
async def test_every_row_is_sent_once_and_in_order_however_many_go_at_once(at_once: int) -> None:
    """What the limiter keeps back stands at the front the next time; it hears when the last rows come."""
    bench = Bench(rows=150, gate=Gate(at_once))
    await bench.run()
    assert bench.provider.rows == list(range(150))
    assert bench.gate.calls[0][1] and not bench.gate.calls[-1][1]
    assert max(listed for listed, _ in bench.gate.calls) > 1


async def test_what_is_due_again_goes_before_what_was_never_sent() -> None:
    bench = Bench(failed(ErrorClass.RATE_LIMITED), rows=3 * WINDOW_UNLIMITED, gate=Gate(4))
    await bench.run()
    again = bench.provider.rows.index(0, 1)
    assert again <= WINDOW_UNLIMITED  # as soon as there is room
    assert sorted(bench.provider.rows) == sorted([0, *range(3 * WINDOW_UNLIMITED)])


async def test_rows_that_wait_for_their_next_attempt_keep_no_other_from_being_sent() -> None:
    """More of them than the window: half of what is let go fails each time, for 11 s."""
    bench = Bench(rows=1_000, gate=Gate(1), attempts=5)
    bench.provider = Sulking(bench.clock)
    reserve = bench.gate.reserve_next

    async def paced(tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        await bench.clock.sleep(0.01)
        return await reserve(tenant, costs, more=more)

    bench.gate.reserve_next = paced  # type: ignore[method-assign]
    began_s = bench.clock.monotonic()
    await bench.run()
    first_s = {}
    for row, at_s in zip(bench.provider.rows, bench.provider.at_s, strict=True):
        first_s.setdefault(row, at_s - began_s)
    assert max(first_s.values()) < 1.02 * 0.01 * len(bench.provider.rows)
    assert len(bench.provider.rows) == 500 + 5 * 500


async def test_only_the_row_that_never_fits_fails() -> None:
    """The others of the list go on."""
    bench = Bench(rows=5, gate=Gate(2, {1: NeverFits("too large for the limit")}))
    await bench.run()
    assert bench.provider.rows == [0, 1, 3, 4]
    assert bench.rows.kinds(2) == [EntryKind.FAILED]
    (told,) = (event for event in bench.events if isinstance(event, FirstFailure))
    assert told.error_class == "too_large"
    assert told.message.startswith("too large for the limit; about ")


@pytest.mark.parametrize(("samples", "shown"), [("keys", "HTTP 400 odd_field; "), ("rows", "HTTP 400 odd_field: of a")])
async def test_the_first_failure_tells_the_error_and_of_the_row_what_the_job_allows(samples: str, shown: str) -> None:
    error = ProviderError(ErrorClass.INVALID_REQUEST, "HTTP 400 odd_field: of a row", outline="HTTP 400 odd_field")
    bench = Bench(error)
    bench.parts.declared.job.samples = samples
    await bench.run()
    (told,) = (event.message for event in bench.events if isinstance(event, FirstFailure))
    assert told.startswith(shown)
    assert ("of a row" in told) is (samples == "rows")


# -- the end of the limit ---------------------------------------------------------------------------------------------


async def test_a_day_that_is_used_up_stops_the_run_and_says_until_when() -> None:
    """What is in flight comes home; nothing more is sent."""
    error = QuotaExhausted("the pool has used up its requests per day", until=UNTIL)
    bench = Bench(rows=10, gate=Gate(2, {2: error}))
    bench.provider.takes_s = 5.0
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.DAILY_QUOTA
    assert pipeline.stop_message.endswith("(until 2026-05-06 07:00 UTC)")
    assert bench.provider.rows == [0, 1, 2, 3] and len(bench.rows.noted) == 4


async def test_a_limiter_that_fails_in_the_middle_stops_the_run_and_loses_no_answer() -> None:
    bench = Bench(rows=10, gate=Gate(2, {2: LimiterUnreachable("nobody answers")}))
    bench.provider.takes_s = 5.0
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.RATE_LIMITED and "nobody answers" in pipeline.stop_message
    assert [entry.kind for entry in bench.rows.noted] == [EntryKind.ANSWER] * 4
    assert [type(event) for event in bench.events] == [Stopping]


async def test_a_limiter_that_never_worked_is_the_commands_own_error() -> None:
    """Nothing was sent: there is nothing to resume."""
    bench = Bench(rows=10, gate=Gate(2, {0: LimiterUnreachable("nobody answers")}))
    with pytest.raises(LimiterUnreachable, match="nobody answers"):
        await bench.run()
    assert bench.provider.rows == [] and bench.events == []
