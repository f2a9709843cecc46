"""Which model rows go to: an earlier one while any of its pools can be asked, else the next; what they ask there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.engine.events import FallbackBegan, FallbackEnded, PoolClosed
from batch_llm.engine.listening import Guard
from batch_llm.engine.parts import Calling
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.pools import OpenPool, Pool
from batch_llm.engine.tiers import PAUSE_LEAST_S, Tiers
from batch_llm.engine.window import AWAY_PATIENCE_S, PROBE_LONGEST_S
from batch_llm.engine.work import Work
from batch_llm.errors import AuthenticationFailed, ErrorClass, NeverFits, ProviderError, QuotaExhausted
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Cost, Limits, PoolState, Reservation, Tenant
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.providers.base import Message, RawAnswer, Request, Sending
from batch_llm.tokens import CAP_AFTER_ROWS
from tests.unit.engine.question_lab import parts_of
from tests.unit.engine.test_pipeline import UNTIL, Bench, Provider, _no_dead, _nothing_spent, failed
from tests.unit.engine.test_pipeline_pools import Dead, Hung, Turnstile, assert_each_call_is_told

MODELS = ("own", "second", "third")


class Named(Provider):
    """Notes which model each call named."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.models: set[str] = set()

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        self.models.add(request.model)
        return await super().send(request, sending=sending)


class Paused(Turnstile):
    """A gate whose provider has asked to pause until some time."""

    until_s = 0.0

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        if self.until_s > self.clock.monotonic():
            await self.clock.sleep(self.until_s - self.clock.monotonic())
        return await super().reserve_next(tenant, costs, more=more)

    def state(self) -> PoolState:
        return replace(super().state(), paused_for_s=max(0.0, self.until_s - self.clock.monotonic()))


class Models(Bench):
    """A pipeline with a pool per model; a prompt is as many tokens as the model has letters."""

    def __init__(self, rows: int, models: Sequence[str] = MODELS[:2], context_tokens: int | None = None) -> None:
        super().__init__(rows=rows)
        self.models = models
        self.providers: dict[str, Any] = {name: Named(self.clock) for name in models}
        self.gates = {name: Paused(self, 0.1) for name in models}
        self.rows_parts = [self._parts(name, context_tokens if name != "own" else None) for name in models]
        self.parts = self.rows_parts[0]
        self.parts.fallbacks = tuple(self.rows_parts[1:])

    def _parts(self, name: str, context_tokens: int | None) -> Any:
        letters = len(name)
        job = SimpleNamespace(
            is_embedding=False,
            retries=SimpleNamespace(attempts=9, re_asks=0),
            samples="none",
            model=f"p/{name}",
            model_name=name,
        )
        return SimpleNamespace(
            **{
                **vars(self.parts),
                "context_tokens": context_tokens,
                "declared": SimpleNamespace(job=job),
                "params": {},
                "image_rules": None,
                "price": SimpleNamespace(cost_nano=lambda *tokens: letters * 100_000_000, version=name),
                "paid_at": lambda pool: {"model": name, "pool": pool.name},
                "with_cap": lambda request, bad_answers: request,
                "predicted_cost": lambda request: Cost(letters, 1),
                "input_bytes": lambda request: letters,
                "image_tokens": lambda request: 0,
            }
        )

    async def _ask(self, cap_usd: Decimal | None) -> Pipeline:
        async with AsyncExitStack() as stack:
            account = Account("r", "u", cap_usd)
            budget = LedgerBudget(InProcessLedger(self.clock), account, _nothing_spent, self.clock)
            await stack.enter_async_context(budget)
            opened: list[Any] = [
                (OpenPool(Pool("main", Limits(f"{name}:main"), parts.price), self.providers[name], self.gates[name]),)  # type: ignore[arg-type]
                for name, parts in zip(self.models, self.rows_parts, strict=True)
            ]
            calling = Calling(
                opened[0], lambda record, spent: budget, Guard(self.listener), _no_dead, tuple(opened[1:])
            )
            pipeline = self.pipeline = Pipeline(self.parts, calling, budget, self.meter)
            try:
                await pipeline.run(self.rows.works(), self.idle)
            finally:
                assert [gate.open for gate in self.gates.values()] == [[] for _ in self.gates]
                assert budget.reserved_usd == Decimal(0)
        return pipeline

    def answered(self, model: str | None = None) -> list[int]:
        """The rows that were answered, by one model or by any."""
        answers = [entry for entry in self.rows.noted if entry.kind is EntryKind.ANSWER]
        return sorted(entry.row for entry in answers if model in (None, entry.detail["model"]))

    def told(self) -> list[Any]:
        return [event for event in self.events if isinstance(event, FallbackBegan | FallbackEnded)]


async def test_while_the_jobs_own_model_can_be_asked_no_row_goes_elsewhere() -> None:
    """Also where its limit makes rows wait."""
    bench = Models(30)
    bench.gates["own"].every_s = 2.0
    await bench.run()
    assert bench.answered("own") == list(range(30)) and bench.told() == []


async def test_rows_go_to_the_next_model_while_the_first_is_away_and_return() -> None:
    """Each row once; the journal says who answered it, and each model is asked by its own name."""
    bench = Models(600)
    dead = bench.providers["own"] = Dead(bench.clock)
    dead.back_at_s = bench.clock.monotonic() + 30
    await bench.run()
    assert bench.answered() == list(range(600))
    assert not any(entry.kind is EntryKind.FAILED for entry in bench.rows.noted)
    assert bench.providers["second"].models == {"second"}
    others = bench.providers["second"].at_s
    assert min(others) < dead.back_at_s - 25 and max(others) <= dead.back_at_s + PROBE_LONGEST_S + 0.5
    assert len(dead.rows) > 50
    began, ended = bench.told()
    assert began.model == "p/second" and "answered nobody" in began.reason
    assert (ended.model, ended.rows) == ("p/own", len(others))


async def test_a_model_that_takes_calls_and_answers_none_is_left_within_seconds() -> None:
    """Where another model could go on: its rows are given up there, go to that one, and none loses an attempt."""
    bench = Models(800)
    start_s = bench.clock.monotonic()
    hung: Any = Hung(bench.clock, start_s + 10, start_s + 40)
    bench.providers["own"] = hung
    asked = asyncio.create_task(bench._ask(None))
    while not asked.done():
        await bench.clock.advance(0.5)
    assert bench.answered() == list(range(800)) and bench.answered("second")
    assert max(hung.given_up_s) <= 8
    assert_each_call_is_told(bench)
    assert [type(event) for event in bench.told()] == [FallbackBegan, FallbackEnded]


async def test_what_the_journal_notes_of_a_fallbacks_answer() -> None:
    bench = Models(20)
    bench.providers["own"] = Dead(bench.clock)
    await bench.run()
    details = [entry.detail for entry in bench.rows.noted if entry.kind is EntryKind.ANSWER]
    assert details == [{"model": "second", "pool": "main", "fallback": "p/second"}] * 20
    assert {entry.request_hash for entry in bench.rows.noted} == {"h"}  # the row's own: what decides that it is done


async def test_a_short_pause_is_waited_for_and_a_long_one_is_not() -> None:
    short, long = Models(20), Models(20)
    for bench, pause_s in ((short, PAUSE_LEAST_S), (long, 60.0)):
        bench.gates["own"].until_s = bench.clock.monotonic() + pause_s
        await bench.run()
    assert short.answered("own") == list(range(20))
    assert len(long.answered("second")) == 20


async def test_a_row_that_is_told_to_come_again_in_a_second_stays() -> None:
    """And one whose pool pauses for a minute goes on elsewhere at once."""
    bench = Models(1)
    bench.providers["own"].endings = [failed(ErrorClass.RATE_LIMITED, 1.0)]
    await bench.run()
    assert bench.answered("own") == [0]
    assert bench.providers["own"].at_s[1] - bench.providers["own"].at_s[0] >= 1.0


async def test_a_closed_pool_leaves_the_run_to_the_next_model_until_its_quota_is_there() -> None:
    bench = Models(200)
    until = bench.clock.now() + timedelta(seconds=5)
    bench.gates["own"].errors = {0: QuotaExhausted("its day is over", until=until)}
    await bench.run()
    assert bench.answered() == list(range(200))
    assert len(bench.answered("second")) > 20 and len(bench.answered("own")) > 20
    assert [type(event) for event in bench.events] == [PoolClosed, FallbackBegan, FallbackEnded]


async def test_the_run_ends_only_when_all_models_are_closed() -> None:
    bench = Models(6)
    refusal: Any = AuthenticationFailed("the key is refused")
    bench.providers["own"].endings = [refusal] * 9
    assert (await bench.run()).stopped is None and len(bench.answered("second")) == 6
    both = Models(6)
    for provider in both.providers.values():
        provider.endings = [refusal] * 9
    assert (await both.run()).stopped is ErrorClass.AUTHENTICATION and both.answered() == []


async def test_only_when_no_model_answers_the_run_stops_for_silence() -> None:
    bench = Models(4)
    bench.providers = {name: Dead(bench.clock) for name in bench.models}
    began_s = bench.clock.monotonic()
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.CANCELLED and "has not answered for 30 minutes" in pipeline.stop_message
    assert bench.clock.monotonic() - began_s > AWAY_PATIENCE_S


async def test_the_third_model_is_asked_only_when_both_before_it_are_held_up() -> None:
    bench = Models(60, MODELS)
    bench.providers["own"] = Dead(bench.clock)
    await bench.run()
    assert len(bench.answered("second")) == 60
    worse = Models(60, MODELS)
    worse.providers["own"], worse.providers["second"] = Dead(worse.clock), Dead(worse.clock)
    await worse.run()
    assert len(worse.answered("third")) == 60
    assert worse.told()[-1].model == "p/third"


async def test_what_is_set_aside_is_the_dearest_bill_of_the_model_that_is_asked() -> None:
    bench = Models(10)
    dead = bench.providers["own"] = Dead(bench.clock)
    dead.back_at_s = bench.clock.monotonic() + 3
    await bench.run(cap_usd=Decimal(100))
    held = {entry.detail["held_usd"] for entry in bench.rows.noted if entry.kind is EntryKind.SENT}
    assert {Decimal(each) for each in held} == {Decimal("0.3"), Decimal("0.6")}


async def test_a_row_too_long_for_a_fallback_waits_for_the_jobs_own_model() -> None:
    bench = Models(20, context_tokens=2)
    dead = bench.providers["own"] = Dead(bench.clock)
    dead.back_at_s = bench.clock.monotonic() + 30
    await bench.run()
    assert bench.answered("own") == list(range(20)) and bench.told() == []


async def test_a_row_larger_than_the_limit_of_the_jobs_own_model_fails() -> None:
    """A fallback is for a model that is away, not for rows that it does not take."""
    bench = Models(3)
    bench.gates["own"].errors = dict.fromkeys(range(99), NeverFits("too large"))
    await bench.run()
    assert [entry.detail["error_class"] for entry in bench.rows.noted] == [ErrorClass.TOO_LARGE.value] * 3


async def test_rows_that_no_open_pool_takes_stop_the_run_and_stay_pending() -> None:
    """The job's own is closed for the day, and the other cannot read them."""
    bench = Models(5, context_tokens=2)
    bench.gates["own"].errors = dict.fromkeys(range(99), QuotaExhausted("its day is over", until=UNTIL))
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.DAILY_QUOTA and bench.rows.noted == []


Held = st.lists(st.lists(st.booleans(), min_size=1, max_size=3), min_size=1, max_size=4)


@given(Held)
def test_a_model_takes_rows_exactly_while_every_pool_before_it_is_held_up(held: list[list[bool]]) -> None:
    """So the first model with a pool that can be asked has the rows, with every one before it probed."""
    routes: list[Any] = [_Route(tier, is_held_up) for tier, pools in enumerate(held) for is_held_up in pools]
    tiers = Tiers(routes, ManualClock(), lambda event: None)
    up = [tier for tier, pools in enumerate(held) if not all(pools)]
    last = min(up, default=len(held) - 1)
    assert [route for route in routes if tiers.takes_rows(route)] == list(
        itertools.takewhile(lambda route: route.tier <= last, routes)
    )
    assert tiers.taking() == [route for route in routes if route.tier <= last]


def test_a_row_asks_another_model_what_it_asked_before_by_that_models_own_figures(tmp_path: Path) -> None:
    """What it was told of its mistakes goes with it; the cap is the one learned of that model, and none after a cut."""
    parts = parts_of(tmp_path, fallback=["openai/gpt-4.1-nano"], params={"max_output_tokens": "auto"})
    (other,) = parts.fallbacks
    for _ in range(CAP_AFTER_ROWS):
        other.output_length.learn(100)
    state = SimpleNamespace(bad_answers=0)
    slice_work: Any = SimpleNamespace(rows=SimpleNamespace(open_state=lambda row: state))
    asked = parts.request({"id": 1, "text": "a text"}, "r")
    messages = (*asked.messages, Message("assistant", "??"), Message("user", "that is no JSON"))
    request = replace(asked, messages=messages, attempt=2)
    route: Any = _Route(1, held_up=False)
    route.name, route.fallback, route.parts = "x", "openai/gpt-4.1-nano", other
    tiers = Tiers([route], ManualClock(), lambda event: None)

    def work() -> Work:
        return Work(slice_work, 0, request, "h", 1, Cost(9, 9), attempt=2, first_messages=1)

    (row,) = tiers.of_use(route, [work()])
    row.become(route.fallback)
    cap = other.output_length.cap()
    assert cap is not None and row.request.params == {"max_output_tokens": cap}
    assert (row.request.model, row.request.messages, row.request.attempt) == ("gpt-4.1-nano", messages, 2)  # type: ignore[union-attr]
    assert row.cost == other.predicted_cost(row.request) and row.cost.max_output_tokens == cap  # type: ignore[arg-type]
    assert row.input_bytes == other.input_bytes(row.request)  # type: ignore[arg-type]
    row.become(None)
    assert (row.request, row.cost, row.request_hash) == (request, Cost(9, 9), "h")
    state.bad_answers = 1
    (cut,) = tiers.of_use(route, [work()])
    cut.become(route.fallback)
    assert cut.request.params == {}


class Flickering(Named):
    """Cannot be reached in some stretches of time; notes the moment's state of the pools before its own."""

    def __init__(self, bench: Models, tier: int, down_s: list[float]) -> None:
        super().__init__(bench.clock)
        self._bench, self._tier = bench, tier
        self._turns_s = list(itertools.accumulate(down_s, initial=bench.clock.monotonic()))
        self.needed: list[bool] = []

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        now_s = self.clock.monotonic()
        before = [route for route in self._bench.pipeline.routes if route.tier < self._tier]
        self.needed.append(all(route.is_held_up(now_s, PAUSE_LEAST_S) for route in before))
        if sum(turn_s <= now_s for turn_s in self._turns_s) % 2 == 0:  # down in every second stretch, up at the end
            raise ProviderError(ErrorClass.CONNECTION, "refused")
        return await super().send(request, sending=sending)


Stretches = st.lists(st.floats(0.5, 40.0), max_size=3).map(lambda all_s: [*all_s, 1.0] if len(all_s) % 2 else all_s)


@settings(deadline=None, max_examples=40)
@given(down_s=st.lists(Stretches, min_size=3, max_size=3))
def test_whoever_is_away_when_each_row_is_answered_once_and_no_call_is_sent_too_far(down_s: list[list[float]]) -> None:
    """Every call to a fallback is sent while each pool before it is held up; the run ends with all rows answered."""

    async def run() -> None:
        bench = Models(120, MODELS)
        bench.providers = {name: Flickering(bench, tier, down_s[tier]) for tier, name in enumerate(MODELS)}
        pipeline = await bench.run()
        assert pipeline.stopped is None and bench.answered() == list(range(120))
        assert all(all(provider.needed) for provider in bench.providers.values())
        assert all(provider.models <= {name, "m"} for name, provider in bench.providers.items())
        assert "m" not in bench.providers["second"].models | bench.providers["third"].models

    asyncio.run(run())


class _Route:
    def __init__(self, tier: int, held_up: bool) -> None:
        self.tier, self._held_up = tier, held_up

    def is_held_up(self, now_s: float, pause_least_s: float) -> bool:
        return self._held_up


@pytest.mark.parametrize("left_s", [PAUSE_LEAST_S, PAUSE_LEAST_S + 1])
async def test_as_a_pause_nears_its_end_rows_wait_for_it(left_s: float) -> None:
    bench = Models(40)
    bench.gates["own"].until_s = bench.clock.monotonic() + left_s
    await bench.run()
    assert bench.answered() == list(range(40))
    assert len(bench.answered("own")) >= 25
