"""What a run shows of its pace: what the limit was charged with, per minute."""

from __future__ import annotations

import pytest

from batch_llm.clock import ManualClock
from batch_llm.engine.meter import RATE_SPAN_S, Meter

PREDICTED, USED, LATENCY_S = 130, 100, 2


async def sent_evenly(meter: Meter, clock: ManualClock, seconds: int) -> None:
    """Ten calls a second; each uses less than was predicted, which is known when it was answered."""
    for second in range(seconds):
        for _ in range(10):
            meter.sent(clock.monotonic(), PREDICTED, 400)
        if second >= LATENCY_S:
            for _ in range(10):
                meter.corrected(USED - PREDICTED)
        await clock.advance(1.0)


async def test_tokens_are_those_used_not_those_predicted() -> None:
    """The limiter gives back what was reserved in excess: so more is sent, and the sum of predictions is no rate."""
    clock = ManualClock()
    meter = Meter(clock)
    await sent_evenly(meter, clock, 120)
    pace = meter.pace()
    assert pace.requests == pace.rows == pytest.approx(600, rel=0.08)
    assert pace.tokens == pytest.approx(pace.requests * USED)


async def test_the_rows_of_a_call_for_many_count_each() -> None:
    """What is left to do is counted in rows: so is the pace that it is divided by."""
    clock = ManualClock()
    meter = Meter(clock)
    for rows in (100, 100, 40):
        meter.sent(clock.monotonic(), PREDICTED, 400, rows)
        await clock.advance(6)
    pace = meter.pace()
    assert (pace.requests, pace.rows) == (2 * 60 / RATE_SPAN_S, 140 * 60 / RATE_SPAN_S)


async def test_what_is_long_over_counts_no_more_and_no_rate_is_below_zero() -> None:
    clock = ManualClock()
    meter = Meter(clock)
    await sent_evenly(meter, clock, 20)
    await clock.advance(RATE_SPAN_S + 1)
    meter.corrected(-PREDICTED)
    assert meter.pace() == (0.0, 0.0, 0.0)
