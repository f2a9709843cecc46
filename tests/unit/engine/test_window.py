"""How many calls may be in flight: by limit and latency, by memory, less when the provider is overloaded or away."""

from __future__ import annotations

import pytest

from batch_llm.clock import ManualClock
from batch_llm.engine.meter import FIRST_LATENCY_S, Meter
from batch_llm.engine.window import (
    AWAY_AFTER_S,
    AWAY_FAILURES,
    AWAY_ROWS,
    LOOK_EVERY_S,
    MEMORY_BYTES,
    OUTAGE_ATTEMPT_S,
    PROBE_FIRST_S,
    PROBE_LONGEST_S,
    PROBES_ANSWERED,
    QUEUEING_RISE,
    SHRINK,
    TEXT_COPIES,
    WINDOW_MIN,
    WINDOW_UNLIMITED,
    Failure,
    Window,
    rows_per_s,
)
from batch_llm.errors import ErrorClass
from batch_llm.limiter.base import Limits, PoolState


class Bench:
    def __init__(self, **limits: float) -> None:
        self.clock = ManualClock()
        self.meter = Meter(self.clock)
        self.window = Window(Limits("p:main", **limits), self.meter, self.clock)  # type: ignore[arg-type]

    def answer(self, latency_s: float, count: int = 1) -> None:
        for _ in range(count):
            self.meter.answered(latency_s)
            self.window.answered()


def test_it_is_as_large_as_the_limit_and_the_latency_want() -> None:
    """Not a constant: 30,000 requests per minute at 4 s keep 2,000 calls in flight."""
    bench = Bench(requests_per_minute=30_000)
    bench.answer(4.0)
    assert bench.window.size() >= 2_000
    small = Bench(requests_per_minute=60)
    small.answer(1.0)
    assert small.window.size() == WINDOW_MIN + 2
    assert small.window.size() < Bench(requests_per_minute=60).window.size() == WINDOW_MIN + 2 * FIRST_LATENCY_S


def test_the_limit_that_binds_decides_for_rows_of_this_size() -> None:
    """Input and output are weighed each against its own limit."""
    limits = Limits("p:main", requests_per_minute=600, input_tokens_per_minute=60_000, output_tokens_per_minute=6_000)
    assert rows_per_s(limits, 10, 5) == 10
    assert rows_per_s(limits, 1_000, 5) == 1
    assert rows_per_s(limits, 100, 200) == 0.5
    assert rows_per_s(Limits("p:main", max_concurrency=3), 1, 1) is None


async def test_the_rate_in_force_decides_not_the_one_declared() -> None:
    """What is declared may be a guess (`limits: unknown`), or changed with `limits set`."""
    bench, looks = Bench(requests_per_minute=60), 0
    requests_per_minute = 12_000.0

    def state() -> PoolState:
        nonlocal looks
        looks += 1
        return PoolState("p:main", requests_per_minute, None, 0, 0.0, None)

    bench.window = Window(Limits("p:main", requests_per_minute=60), bench.meter, bench.clock, state=state)
    bench.answer(2.0)
    assert bench.window.size() == WINDOW_MIN + 800
    requests_per_minute = 600.0
    assert bench.window.size() == WINDOW_MIN + 800 and looks == 1
    await bench.clock.advance(LOOK_EVERY_S)
    assert bench.window.size() == WINDOW_MIN + 40 and looks == 2


async def test_the_tokens_in_force_decide_too() -> None:
    """Each kind of limit counts, as the limiter knows it."""
    state = PoolState(
        "p:main", None, None, 0, 0.0, None, input_tokens_per_minute=60_000, output_tokens_per_minute=6_000
    )
    assert rows_per_s(state, 100, 5) == 10
    assert rows_per_s(state, 10, 100) == 1


def test_without_a_rate_the_pools_own_concurrency_decides() -> None:
    assert Bench(max_concurrency=3).window.size() == 3
    assert Bench().window.size() == WINDOW_UNLIMITED


def test_large_rows_make_it_small() -> None:
    """What is in flight has to fit into memory: rows of a megabyte go by the dozen."""
    bench = Bench(requests_per_minute=600_000)
    for _ in range(200):
        bench.meter.sent(0.0, 1, 1_000_000)
    assert 1 <= bench.window.size() <= MEMORY_BYTES / (TEXT_COPIES * 900_000)


def test_an_overload_shrinks_it_once_per_round_trip_and_answers_open_it_again() -> None:
    bench = Bench(max_concurrency=100)
    bench.answer(2.0, 3)
    bench.meter.in_flight = 100
    for _ in range(5):  # calls that were all sent before the first could tell
        bench.window.overloaded()
    assert bench.window.size() == int(100 * SHRINK) and bench.window.is_shrunk
    bench.answer(2.0, 70)
    assert bench.window.size() == 71 or bench.window.size() == 70
    bench.answer(2.0, 5_000)
    assert bench.window.size() == 100 and not bench.window.is_shrunk


async def test_overloads_one_after_the_other_go_on_shrinking_down_to_one_call() -> None:
    bench = Bench(max_concurrency=100)
    bench.answer(2.0, 3)
    for _ in range(40):
        bench.meter.in_flight = bench.window.size()
        bench.window.overloaded()
        await bench.clock.advance(2.1)
    assert bench.window.size() == 1


async def test_a_provider_that_queues_what_it_cannot_do_is_not_given_more() -> None:
    """A server without 503s only answers later and later: the latency tells."""
    bench = Bench(max_concurrency=400)
    bench.meter.in_flight = 400
    bench.answer(1.0, 50)
    assert bench.window.size() == 400
    for _ in range(30):
        bench.answer(QUEUEING_RISE * 2, 20)
        await bench.clock.advance(20.0)
        bench.meter.in_flight = bench.window.size()
    assert bench.window.size() < 300


async def test_a_provider_that_answers_nobody_is_probed_one_call_at_a_time() -> None:
    """At growing distances; the first answer opens a small window again."""
    bench = Bench(requests_per_minute=6_000)
    for row in range(AWAY_FAILURES):
        bench.window.failed("refused", row)
    assert bench.window.outage is None  # all of them in one moment
    await bench.clock.advance(AWAY_AFTER_S)
    bench.window.failed("refused", 1)
    assert bench.window.outage is not None and bench.window.outage.why == "refused"
    assert bench.window.size() == 0
    await bench.clock.advance(PROBE_FIRST_S)
    assert bench.window.size() == 1
    for _ in range(10):
        bench.window.failed("refused", 1)
    assert bench.window.size() == 0
    await bench.clock.advance(PROBE_LONGEST_S)
    assert bench.window.size() == 1 and bench.window.silent_s() > AWAY_AFTER_S
    bench.window.answered()
    assert bench.window.outage is None and bench.window.size() == WINDOW_MIN and bench.window.silent_s() == 0


@pytest.mark.parametrize("failures", [1, AWAY_FAILURES - 1])
async def test_a_few_failures_among_answers_are_no_outage(failures: int) -> None:
    bench = Bench(requests_per_minute=6_000)
    for _ in range(20):
        await bench.clock.advance(AWAY_AFTER_S)
        for row in range(failures):
            bench.window.failed("reset", row)
        bench.window.answered()
    assert bench.window.outage is None


async def test_rows_that_fail_again_and_again_are_no_outage_when_they_are_few() -> None:
    """Two say nothing about the provider; three do. One is enough where it cannot be reached: no row is to blame."""
    for rows, unreachable in ((AWAY_ROWS - 1, False), (AWAY_ROWS, False), (1, True)):
        bench = Bench(requests_per_minute=6_000)
        for _ in range(3 * AWAY_FAILURES):
            await bench.clock.advance(AWAY_AFTER_S)
            for row in range(rows):
                bench.window.failed("reset", row, unreachable=unreachable)
        assert (bench.window.outage is not None) == (rows >= AWAY_ROWS or unreachable)


async def test_more_calls_probe_a_provider_that_refuses_each_for_a_while() -> None:
    """It is there, and bills none of them; one at a time would take hours with many rows."""
    bench = Bench(requests_per_minute=6_000)
    bench.window.silent("500")
    for answered, at_once in ((True, PROBES_ANSWERED), (False, 1)):
        bench.window.failed("500", 1, answered=True)
        await bench.clock.advance(OUTAGE_ATTEMPT_S)
        bench.window.failed("500", 1, answered=answered)
        await bench.clock.advance(PROBE_LONGEST_S)
        assert bench.window.size() == at_once


async def test_a_row_is_to_blame_when_others_are_answered_between_its_failures() -> None:
    """Not when the provider was away between them; and for good."""
    bench = Bench(requests_per_minute=6_000)
    window, clock = bench.window, bench.clock

    def failure(*, is_rows: bool = False) -> Failure:
        what = (ErrorClass.SERVER_ERROR, "500", False)
        return Failure(*what, window, clock.monotonic(), window.outages, is_rows, 0.0)

    await clock.advance(1)
    first = failure()
    await clock.advance(1)
    assert not first.blames_the_row
    window.answered()
    assert first.blames_the_row
    second = failure()
    window.silent("500")
    await clock.advance(1)
    window.answered()
    assert not second.blames_the_row and failure(is_rows=True).blames_the_row
