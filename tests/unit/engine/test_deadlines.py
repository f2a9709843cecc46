"""How long a call may take: learned from those before it, each phase apart."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.engine.deadlines import (
    ANSWERS_TO_LEARN_FROM,
    DOUBLINGS,
    FACTOR,
    FIRST_S,
    LEAST_BODY_S,
    LEAST_S,
    MOST_S,
    PATIENT_PROBES,
    SILENT_CALLS,
    SILENT_FACTOR,
    SILENT_LEAST_S,
    Call,
    Deadlines,
)
from batch_llm.engine.meter import Meter
from batch_llm.engine.window import Window
from batch_llm.limiter.base import Limits
from batch_llm.providers.base import Phase


class Pool:
    """A route, as far as the bounds look at it."""

    def __init__(self, meter: Meter, clock: ManualClock) -> None:
        self.meter = meter
        self.window = Window(Limits("p"), meter, clock)
        self.tier = 0
        self.held_up = True

    def is_held_up(self, now_s: float) -> bool:
        return self.held_up


class Bench:
    """Calls that were sent at the clock's present moment, and the bounds on them."""

    def __init__(self, *latencies_s: float, start_share: float = 1.0) -> None:
        self.clock = ManualClock()
        self.meter = Meter(self.clock)
        for latency_s in latencies_s:
            self.meter.answered(latency_s, start_share)
        self.route: Any = Pool(self.meter, self.clock)
        self.other: Any = Pool(Meter(self.clock), self.clock)
        self.deadlines = Deadlines([self.route, self.other], self.clock)

    def unsent(self, timeouts: int = 0) -> Call:
        work: Any = SimpleNamespace(timeouts=timeouts)
        nothing: Any = None
        return Call(work, self.route, nothing, nothing, self.clock.monotonic())

    def call(self, timeouts: int = 0) -> Call:
        call = self.unsent(timeouts)
        call.task = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
        return call


def test_before_much_is_known_a_call_has_two_minutes() -> None:
    bench = Bench(*[1.0] * (ANSWERS_TO_LEARN_FROM - 1))
    assert bench.deadlines.allowed_s(bench.unsent()) == FIRST_S


@pytest.mark.parametrize(("slowest_s", "allowed_s"), [(0.1, LEAST_S), (10.0, 10.0 * FACTOR), (1_000.0, MOST_S)])
async def test_then_it_has_a_multiple_of_the_slowest(slowest_s: float, allowed_s: float) -> None:
    bench = Bench(*[0.05] * ANSWERS_TO_LEARN_FROM, slowest_s)
    assert bench.deadlines.allowed_s(bench.call()) == allowed_s


async def test_a_row_whose_calls_took_too_long_is_given_twice_the_time() -> None:
    """So that a slow row is not cut at the same place for ever; but not without end."""
    bench = Bench()
    allowed = [bench.deadlines.allowed_s(bench.call(timeouts)) for timeouts in (0, 1, 2, 50)]
    assert allowed == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, FIRST_S * 2**DOUBLINGS]


async def test_answers_that_drip_do_not_make_a_hung_call_wait() -> None:
    """Their first byte came at once: only that is what a call without any byte is measured by."""
    bench = Bench(*[20.0] * ANSWERS_TO_LEARN_FROM, start_share=0.01)
    call = bench.call()
    assert bench.deadlines.allowed_s(call) == LEAST_S
    call.sending.phase = Phase.BODY
    assert bench.deadlines.allowed_s(call) == pytest.approx(20.0 * 0.99 * FACTOR) and LEAST_BODY_S < 158


async def test_a_look_ends_the_calls_whose_time_is_over() -> None:
    """It says what they waited for; the others go on."""
    bench = Bench()
    hung, late = bench.call(), bench.call()
    await bench.clock.advance(FIRST_S - 1)
    young = bench.call()
    late.sending.phase = Phase.BODY
    bench.deadlines.look([hung, late, young])
    await bench.clock.advance(1)
    bench.deadlines.look([hung, late, young])
    await asyncio.sleep(0)
    assert hung.expired == f"waited {FIRST_S:.0f} s for the first byte of an answer"
    assert [call.task.cancelled() for call in (hung, late, young) if call.task] == [True, False, False]
    await bench.clock.advance(FIRST_S)
    bench.deadlines.look([late])
    assert late.expired is not None and late.expired.endswith("the rest of an answer")
    for call in (late, young):
        assert call.task is not None
        call.task.cancel()


async def ended(*calls: Call) -> list[bool]:
    """Which were cancelled."""
    await asyncio.sleep(0)
    return [call.task is not None and call.task.cancelled() for call in calls]


@pytest.mark.parametrize(("slowest_s", "silent_s"), [(0.1, SILENT_LEAST_S), (10.0, 10.0 * SILENT_FACTOR)])
async def test_a_pool_that_answers_nobody_is_away_and_hands_over_what_it_holds(
    slowest_s: float, silent_s: float
) -> None:
    """Only where another pool takes it; by what its own answers took."""
    bench = Bench(*[0.05] * ANSWERS_TO_LEARN_FROM, slowest_s)
    held = [bench.call() for _ in range(SILENT_CALLS)]
    await bench.clock.advance(silent_s)
    young = bench.call()
    bench.deadlines.look([*held, young])
    assert bench.route.window.outage is None and not any(await ended(*held))
    bench.other.held_up = False
    bench.deadlines.look([*held, young])
    assert bench.route.window.outage is not None
    assert await ended(*held, young) == [True] * SILENT_CALLS + [False]
    assert all(call.hurried and "a pool that answers nobody" in str(call.expired) for call in held)


async def test_a_pool_is_not_silent_while_one_is_answered_or_few_wait() -> None:
    bench = Bench(*[0.05] * ANSWERS_TO_LEARN_FROM)
    bench.other.held_up = False
    held = [bench.call() for _ in range(SILENT_CALLS)]
    await bench.clock.advance(SILENT_LEAST_S)
    bench.deadlines.look(held[1:])
    held[0].sending.phase = Phase.BODY
    bench.deadlines.look(held)
    held[0].sending.phase = Phase.ANSWER
    bench.route.window.answered()
    bench.deadlines.look(held)
    assert bench.route.window.outage is None and not any(await ended(*held))
    for call in held:
        assert call.task is not None
        call.task.cancel()


async def test_nobody_is_judged_before_it_is_known_how_long_answers_take() -> None:
    bench = Bench(*[0.05] * (ANSWERS_TO_LEARN_FROM - 1))
    bench.other.held_up = False
    held = [bench.call() for _ in range(SILENT_CALLS)]
    await bench.clock.advance(SILENT_LEAST_S)
    bench.deadlines.look(held)
    assert bench.route.window.outage is None and not any(await ended(*held))
    for call in held:
        assert call.task is not None
        call.task.cancel()


async def test_probes_of_a_silent_pool_are_short_but_for_one_in_so_many() -> None:
    """It may answer again, but more slowly than ever before."""
    bench = Bench(*[0.05] * ANSWERS_TO_LEARN_FROM)
    bench.other.held_up = False
    window = bench.route.window
    window.silent("nobody is answered")
    short = 0
    for _ in range(2 * PATIENT_PROBES):
        await bench.clock.advance(1.0)
        probe = bench.call()
        await bench.clock.advance(SILENT_LEAST_S)
        bench.deadlines.look([probe])
        was_short = (await ended(probe))[0]
        if not was_short:
            await bench.clock.advance(LEAST_S)
            bench.deadlines.look([probe])
            assert (await ended(probe))[0] and not probe.hurried
        short += was_short
        window.failed("no answer", 1)
    assert short == 2 * PATIENT_PROBES - 2
