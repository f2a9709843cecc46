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
    Call,
    Deadlines,
)
from batch_llm.engine.meter import Meter
from batch_llm.providers.base import Phase


class Bench:
    """Calls that were sent at the clock's present moment, and the bounds on them."""

    def __init__(self, *latencies_s: float, start_share: float = 1.0) -> None:
        self.clock = ManualClock()
        self.meter = Meter(self.clock)
        for latency_s in latencies_s:
            self.meter.answered(latency_s, start_share)
        self.deadlines = Deadlines(self.clock)

    def unsent(self, timeouts: int = 0) -> Call:
        work: Any = SimpleNamespace(timeouts=timeouts)
        route: Any = SimpleNamespace(meter=self.meter)
        nothing: Any = None
        return Call(work, route, nothing, nothing, self.clock.monotonic())

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
