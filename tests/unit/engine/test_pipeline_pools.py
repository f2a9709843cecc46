"""Several pools behind one model: rows go where a limit lets them; one that is away or closed costs no row."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from batch_llm.engine.events import PoolClosed
from batch_llm.engine.listening import Guard
from batch_llm.engine.parts import Calling
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.pools import OpenPool, Pool
from batch_llm.engine.window import AWAY_PATIENCE_S, PROBE_LONGEST_S
from batch_llm.errors import (
    AuthenticationFailed,
    ErrorClass,
    LimiterError,
    NeverFits,
    ProviderError,
    QuotaExhausted,
)
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Cost, Limits, PoolState, Reservation, Tenant
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.providers.base import RawAnswer, Request, Sending
from tests.unit.engine.test_pipeline import UNTIL, Bench, Gate, Provider, _no_dead, _nothing_spent, failed


class Turnstile(Gate):
    """A gate that lets one row out each so many seconds, or none while it is shut."""

    def __init__(self, bench: Bench, every_s: float = 0.0, **errors: Any) -> None:
        super().__init__(1, **errors)
        self.clock, self.every_s = bench.clock, every_s
        self.shut = False

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        await self.clock.sleep(self.every_s)
        while self.shut:
            await self.clock.sleep(1.0)
        return await super().reserve_next(tenant, costs, more=more)

    def state(self) -> PoolState:
        return replace(super().state(), paused_for_s=1.0 if self.shut else 0.0)


class Dead(Provider):
    """Cannot be reached until some time."""

    back_at_s = float("inf")

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        self.at_s.append(self.clock.monotonic())
        if self.clock.monotonic() < self.back_at_s:
            raise ProviderError(ErrorClass.CONNECTION, "refused")
        self.rows.append(int(request.custom_id))
        return RawAnswer(b"{}", {}, 0.0)


class Hung(Provider):
    """Takes every call and answers none between two moments."""

    def __init__(self, clock: Any, from_s: float, until_s: float) -> None:
        super().__init__(clock)
        self.from_s, self.until_s = from_s, until_s
        self.given_up_s: list[float] = []  # how long each call waited that was not answered
        self.answered_at_s: list[float] = []

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        began_s = self.clock.monotonic()
        self.at_s.append(began_s)
        if self.from_s <= began_s < self.until_s:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up_s.append(self.clock.monotonic() - began_s)
        await self.clock.sleep(0.05)
        self.answered_at_s.append(self.clock.monotonic())
        return RawAnswer(b"{}", {}, 0.05)


class TwoPools(Bench):
    """A pipeline with two pools, `a` and `b`; each pool's price is what every call costs, in nano-dollars."""

    def __init__(self, rows: int, **prices: int) -> None:
        super().__init__(rows=rows)
        self.ledger = InProcessLedger(self.clock)
        self.providers = {name: Provider(self.clock) for name in "ab"}
        self.gates = {name: Turnstile(self, 0.1) for name in "ab"}
        made = {name: self._price(nano) for name, nano in prices.items()}
        self.pools = [Pool(name, Limits(f"p:{name}"), made.get(name)) for name in "ab"]
        self.parts.price = max(made.values(), key=lambda price: price.cost_nano(), default=None)

    @staticmethod
    def _price(nano: int) -> Any:
        return SimpleNamespace(cost_nano=lambda *tokens: nano, version="v")

    async def _ask(self, cap_usd: Decimal | None) -> Pipeline:
        async with AsyncExitStack() as stack:
            account = Account("r", "u", cap_usd)
            budget = LedgerBudget(self.ledger, account, _nothing_spent, self.clock)
            await stack.enter_async_context(budget)
            pools: Any = [OpenPool(pool, self.providers[pool.name], self.gates[pool.name]) for pool in self.pools]  # type: ignore[arg-type]
            calling = Calling(tuple(pools), lambda record, spent: budget, Guard(self.listener), _no_dead)
            pipeline = self.pipeline = Pipeline(self.parts, calling, budget, self.meter)
            try:
                await pipeline.run(self.rows.works(), self.idle)
            finally:
                assert [gate.open for gate in self.gates.values()] == [[], []]
                assert budget.reserved_usd == Decimal(0)
        return pipeline

    def answered(self) -> list[int]:
        """The rows that were answered, by either."""
        return sorted(entry.row for entry in self.rows.noted if entry.kind is EntryKind.ANSWER)


def assert_each_call_is_told(bench: Bench) -> None:
    """An answer's attempt is the number of its row's calls, those that were lost included."""
    lost = Counter(entry.row for entry in bench.rows.noted if entry.kind is EntryKind.LOST)
    answers = [entry for entry in bench.rows.noted if entry.kind is EntryKind.ANSWER]
    assert all(entry.attempt == 1 + lost[entry.row] for entry in answers)


async def test_rows_go_to_both_each_row_once() -> None:
    """As fast as each one's limit: three times as many where it is three times as large."""
    bench = TwoPools(80)
    bench.gates["b"].every_s = 0.3
    await bench.run()
    a, b = (len(bench.providers[name].rows) for name in "ab")
    assert bench.answered() == list(range(80))
    assert a + b == 80 and b == pytest.approx(20, abs=2)


async def test_rows_that_wait_for_a_pool_that_pauses_are_sent_by_the_other() -> None:
    bench = TwoPools(70)
    bench.gates["a"].shut = True
    await bench.run()
    assert bench.answered() == list(range(70)) and bench.providers["a"].rows == []


async def test_a_pool_that_is_away_costs_no_row_and_is_used_again() -> None:
    """One call at a time probes it, further and further apart; it comes back as one that answers."""
    bench = TwoPools(600)
    dead = bench.providers["a"] = Dead(bench.clock)
    dead.back_at_s = bench.clock.monotonic() + 30
    for gate in bench.gates.values():
        gate.every_s = 0.1
    await bench.run()
    assert bench.answered() == list(range(600))
    assert not any(entry.kind is EntryKind.FAILED for entry in bench.rows.noted)
    probes = [at_s for at_s in dead.at_s if dead.back_at_s - 25 < at_s < dead.back_at_s]
    assert 25 / PROBE_LONGEST_S - 2 <= len(probes) <= 8
    assert len(dead.rows) > 50


async def test_a_pool_that_takes_calls_and_answers_none_holds_its_rows_for_seconds() -> None:
    """Each goes to the other once it was given up and noted as lost; no row fails for it.

    It is found after five seconds, in which it took ten calls a second; then a call each ten seconds probes it.
    """
    bench = TwoPools(1_500)
    start_s = bench.clock.monotonic()
    hung = bench.providers["a"] = Hung(bench.clock, start_s + 20, start_s + 80)
    asked = asyncio.create_task(bench._ask(None))
    while not asked.done():
        await bench.clock.advance(0.5)
    assert bench.answered() == list(range(1_500))
    kinds = [entry.kind for entry in bench.rows.noted]
    assert EntryKind.FAILED not in kinds and kinds.count(EntryKind.LOST) == len(hung.given_up_s)
    assert_each_call_is_told(bench)
    assert max(hung.given_up_s) <= 7 and len(hung.given_up_s) <= 70
    b_at_s = bench.providers["b"].at_s
    meanwhile = [at_s for at_s in b_at_s if hung.from_s <= at_s < hung.until_s]
    assert len(meanwhile) >= 0.95 * 60 / 0.1
    again_s = min(at_s for at_s in hung.answered_at_s if at_s > hung.until_s)
    assert again_s - hung.until_s <= 11


async def test_rows_that_a_silent_pool_holds_at_the_end_are_asked_elsewhere() -> None:
    bench = TwoPools(200)
    start_s = bench.clock.monotonic()
    bench.providers["a"] = Hung(bench.clock, start_s + 5, float("inf"))
    asked = asyncio.create_task(bench._ask(None))
    while not asked.done():
        await bench.clock.advance(0.5)
    assert bench.answered() == list(range(200))
    assert bench.clock.monotonic() - start_s < 30


async def test_a_pool_that_never_answered_is_judged_by_what_the_others_take() -> None:
    bench = TwoPools(300)
    start_s = bench.clock.monotonic()
    hung = bench.providers["a"] = Hung(bench.clock, start_s, float("inf"))
    asked = asyncio.create_task(bench._ask(None))
    while not asked.done():
        await bench.clock.advance(0.5)
    assert bench.answered() == list(range(300))
    assert max(hung.given_up_s) <= 8 and bench.clock.monotonic() - start_s < 45


async def test_a_pool_that_is_to_be_probed_waits_for_a_row_to_do_it_with() -> None:
    """All that are left are in flight elsewhere: nothing is looked at again and again meanwhile."""
    bench = TwoPools(12)
    bench.providers["a"] = Dead(bench.clock)
    bench.providers["b"].takes_s = 60.0
    await bench.run()
    assert bench.answered() == list(range(12)) and len(bench.providers["b"].rows) == 12


async def test_only_when_all_are_away_for_long_the_run_stops() -> None:
    bench = TwoPools(4)
    bench.providers = {name: Dead(bench.clock) for name in "ab"}
    began_s = bench.clock.monotonic()
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.CANCELLED and "has not answered for 30 minutes" in pipeline.stop_message
    assert bench.clock.monotonic() - began_s > AWAY_PATIENCE_S


async def test_a_pool_that_is_there_but_seldom_used_keeps_the_run_going() -> None:
    """Its limit lets a row out each 40 minutes, and the other pool has been away for longer than that."""
    bench = TwoPools(4)
    bench.providers["a"] = Dead(bench.clock)
    bench.gates["b"].every_s = AWAY_PATIENCE_S + 600
    pipeline = await bench.run()
    assert pipeline.stopped is None and bench.answered() == list(range(4))


async def test_a_pool_that_nobody_asked_for_an_hour_is_not_silent_when_it_fails() -> None:
    """Its limiter paused it; its half hour begins when it is found away."""
    bench = TwoPools(4)
    bench.gates["b"].errors = {0: QuotaExhausted("its credit is used up")}
    bench.gates["a"].shut = True
    dead = bench.providers["a"] = Dead(bench.clock)
    dead.back_at_s = bench.clock.monotonic() + 2 * AWAY_PATIENCE_S + 300
    asked = asyncio.create_task(bench._ask(None))
    for _ in range(int(2 * AWAY_PATIENCE_S / 20)):
        await bench.clock.advance(20.0)
    bench.gates["a"].shut = False
    while not asked.done():
        await bench.clock.advance(0.5)
    assert asked.result().stopped is None and bench.answered() == list(range(4))


async def test_rows_that_only_fit_a_pool_that_is_away_stop_the_run() -> None:
    """The other one answers, but can do nothing for them."""
    bench = TwoPools(10)
    bench.providers["a"] = Dead(bench.clock)
    bench.gates["b"].errors = dict.fromkeys(range(999), NeverFits("too large"))
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.CANCELLED and "has not answered for 30 minutes" in pipeline.stop_message
    assert bench.answered() == [] and not any(entry.kind is EntryKind.FAILED for entry in bench.rows.noted)


async def test_a_pool_whose_day_is_used_up_is_left_to_the_others() -> None:
    """Told once; the run goes on, and stops only when no pool is left."""
    bench = TwoPools(20)
    bench.gates["a"].errors = dict.fromkeys(range(99), QuotaExhausted("its day is over", until=UNTIL))
    pipeline = await bench.run()
    assert pipeline.stopped is None and bench.answered() == list(range(20))
    assert bench.events == [PoolClosed("a", "its day is over (until 2026-05-06 07:00 UTC)")]
    both = TwoPools(20)
    for gate in both.gates.values():
        gate.errors = dict.fromkeys(range(99), QuotaExhausted("its day is over"))
    assert (await both.run()).stopped is ErrorClass.DAILY_QUOTA


async def test_a_closed_pool_is_asked_again_when_its_quota_is_there() -> None:
    bench = TwoPools(200)
    until = bench.clock.now() + timedelta(seconds=5)
    bench.gates["a"].errors = {0: QuotaExhausted("its day is over", until=until)}
    await bench.run()
    assert bench.answered() == list(range(200))
    assert min(bench.providers["a"].at_s) >= 1_005 and len(bench.providers["a"].rows) > 20


async def test_rows_that_only_fit_a_closed_pool_stop_the_run_and_stay_pending() -> None:
    """They may fit tomorrow: no row fails for it."""
    bench = TwoPools(10)
    bench.gates["a"].errors = dict.fromkeys(range(999), NeverFits("too large"))
    bench.gates["b"].errors = dict.fromkeys(range(3, 999), QuotaExhausted("its day is over", until=UNTIL))
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.DAILY_QUOTA and len(bench.answered()) == 3
    assert not any(entry.kind is EntryKind.FAILED for entry in bench.rows.noted)


async def test_a_pool_whose_key_is_refused_hands_its_row_to_another() -> None:
    bench = TwoPools(20)
    refusal: Any = AuthenticationFailed("the key of a is refused")
    bench.providers["a"].endings = [refusal] * 20
    pipeline = await bench.run()
    assert pipeline.stopped is None and bench.answered() == list(range(20))
    assert [event.pool for event in bench.events if isinstance(event, PoolClosed)] == ["a"]


async def test_a_row_too_large_for_one_limit_goes_to_the_other_and_fails_where_none_takes_it() -> None:
    def never() -> dict[int, LimiterError | QuotaExhausted]:
        return dict.fromkeys(range(999), NeverFits("too large"))

    bench = TwoPools(10)
    bench.gates["a"].errors = never()
    await bench.run()
    assert bench.answered() == list(range(10)) and bench.providers["a"].rows == []
    both = TwoPools(3)
    for gate in both.gates.values():
        gate.errors = never()
    await both.run()
    assert [entry.detail["error_class"] for entry in both.rows.noted] == [ErrorClass.TOO_LARGE.value] * 3


async def test_a_row_that_was_throttled_does_not_wait_for_the_pool_that_did_it() -> None:
    """The other one asks it at once, whatever the first one asked for."""
    bench = TwoPools(1)
    bench.gates["b"].every_s = 0.5
    bench.providers["a"].endings = [failed(ErrorClass.RATE_LIMITED, 60.0)]
    began_s = bench.clock.monotonic()
    await bench.run()
    sent_s = max(at_s for provider in bench.providers.values() for at_s in provider.at_s)
    assert bench.answered() == [0] and sent_s - began_s < 30


async def test_the_dearest_price_is_set_aside_whichever_pool_answers() -> None:
    bench = TwoPools(6, a=100_000_000, b=400_000_000)
    await bench.run(cap_usd=Decimal(10))
    held = {entry.detail["held_usd"] for entry in bench.rows.noted if entry.kind is EntryKind.SENT}
    assert {Decimal(each) for each in held} == {Decimal("0.4")}
    assert all(len(bench.providers[name].rows) for name in "ab")


async def test_stopping_ends_the_waits_for_every_pool() -> None:
    """Nothing is sent any more, also where a pool waits."""
    bench = TwoPools(50)
    bench.gates["a"].shut = bench.gates["b"].shut = True
    asked = asyncio.create_task(bench._ask(None))
    await bench.clock.advance(3)
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
