"""How many calls may be in flight.

Belongs here: the size of the window, from the limits and what was measured. Not here: filling it (pipeline.py).
"""

from __future__ import annotations

import math

from batch_llm.engine.meter import Meter
from batch_llm.limiter.base import Limits

__all__ = ["rows_per_s", "window_of"]

WINDOW_MIN = 8
WINDOW_MAX = 1_000
WINDOW_UNLIMITED = 128  # in flight where no limit is declared
WINDOW_HEADROOM = 2.0  # times limit x latency


def window_of(limits: Limits, meter: Meter) -> int:
    """How many calls may be in flight: enough for the limit at this latency, and some."""
    rate_per_s = rows_per_s(limits, _tokens_per_row(meter))
    if rate_per_s is None:
        return WINDOW_UNLIMITED
    wanted = WINDOW_MIN + math.ceil(rate_per_s * meter.latency_s * WINDOW_HEADROOM)
    return min(WINDOW_MAX, wanted)


def rows_per_s(limits: Limits, tokens_per_row: float) -> float | None:
    """Rows per second the declared limits allow; None without a limit."""
    rates = []
    if limits.requests_per_minute:
        rates.append(limits.requests_per_minute / 60)
    if limits.tokens_per_minute:
        rates.append(limits.tokens_per_minute / 60 / tokens_per_row)
    return min(rates) if rates else None


def _tokens_per_row(meter: Meter) -> float:
    if not meter.answers:
        return 1.0
    return max(1.0, (meter.input_tokens + meter.output_tokens) / meter.answers)
