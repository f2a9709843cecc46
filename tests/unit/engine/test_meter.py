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
    requests, tokens = meter.rates_per_minute()
    assert requests == pytest.approx(600, rel=0.08)
    assert tokens == pytest.approx(requests * USED)


async def test_what_is_long_over_counts_no_more_and_no_rate_is_below_zero() -> None:
    clock = ManualClock()
    meter = Meter(clock)
    await sent_evenly(meter, clock, 20)
    await clock.advance(RATE_SPAN_S + 1)
    meter.corrected(-PREDICTED)
    assert meter.rates_per_minute() == (0.0, 0.0)
