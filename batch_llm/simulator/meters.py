"""The two ways a provider counts one limit: a bucket that drains continuously, and windows of fixed length.

Belongs here: levels, waits. Not here: which limits there are, admitting against all of them (limits.py).
Invariant: what a bucket admits in any t seconds never exceeds rate * t + burst + one request.

Source: "Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s" is exactly (used + requested - limit)
/ limit * 60: a bucket of a whole minute that drains continuously,
https://github.com/FoundationAgents/MetaGPT/issues/523 (read 2026-11-21). Days likewise: "(RPD): Limit 200, Used 200
... try again in 7m12s" is 86400 / 200 s. Windows: 429s "until the next evaluation period", typically 1 or 10 seconds,
https://learn.microsoft.com/azure/ai-services/openai/how-to/quota (read 2026-11-21).
"""

from __future__ import annotations

import math
from typing import Protocol

__all__ = ["SLACK", "Bucket", "FixedWindow", "Meter"]

# Floating-point noise of a bucket's level, as a share of the limit: never a reason to refuse.
SLACK = 1e-9


class Meter(Protocol):
    """One limit and what is used of it."""

    limit: float
    window: float  # what one window admits; the limit itself where there are none
    burst: float  # what may be used at once beyond the rate

    def wait_s(self, cost: float, now_s: float) -> float:
        """How long until this cost fits; 0 when it fits now."""
        ...

    def take(self, cost: float, now_s: float) -> None:
        """Count this cost; a negative one gives back, never below empty."""
        ...

    def used(self, now_s: float) -> float:
        """How much is used."""
        ...

    def free(self, row: float, now_s: float) -> float:
        """How much would be admitted now in one go, ``row`` being the smallest request."""
        ...

    def reset_s(self, now_s: float) -> float:
        """How long until nothing is used."""
        ...

    def told_used(self, cost: float, now_s: float) -> float:
        """What the message of a refusal says is used."""
        ...


class Bucket:
    """A bucket that drains at the rate. It holds the saved-up burst and the request at hand, at most the limit."""

    def __init__(self, limit: float, period_s: float, burst_s: float) -> None:
        """``limit`` per ``period_s``; ``burst_s``: seconds of unused rate one may save up."""
        self.limit = self.window = limit
        self._rate = limit / period_s
        self.burst = burst_s * self._rate
        self._level = 0.0
        self._at_s = -math.inf

    def _drain(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = max(0.0, self._level - (now_s - self._at_s) * self._rate)
            self._at_s = now_s

    def wait_s(self, cost: float, now_s: float) -> float:
        """See `Meter.wait_s`."""
        self._drain(now_s)
        excess = self._level + cost - min(self.burst + cost, max(self.limit, cost))
        return excess / self._rate if excess > SLACK * self.limit else 0.0

    def take(self, cost: float, now_s: float) -> None:
        """See `Meter.take`."""
        self._drain(now_s)
        self._level = max(0.0, self._level + cost)

    def used(self, now_s: float) -> float:
        """See `Meter.used`."""
        self._drain(now_s)
        return self._level

    def free(self, row: float, now_s: float) -> float:
        """See `Meter.free`."""
        self._drain(now_s)
        return max(0.0, min(self.burst + row, self.limit) - self._level)

    def reset_s(self, now_s: float) -> float:
        """See `Meter.reset_s`."""
        self._drain(now_s)
        return self._level / self._rate

    def told_used(self, cost: float, now_s: float) -> float:
        """See `Meter.told_used`: such that (used + requested - limit) / rate is the wait that is named."""
        return self.limit - cost + self.wait_s(cost, now_s) * self._rate


class FixedWindow:
    """Counts in windows of fixed length. A request larger than a window fits an empty one and borrows from the next."""

    def __init__(self, limit: float, period_s: float, window_s: float, start_s: float) -> None:
        """``limit`` per ``period_s``, counted in windows of ``window_s`` from ``start_s`` on."""
        self.limit = limit
        self._window_s = window_s
        self.burst = self.window = limit * window_s / period_s
        self._start_s = start_s
        self._index = 0
        self._used = 0.0

    def _roll(self, now_s: float) -> None:
        index = math.floor((now_s - self._start_s) / self._window_s)
        if index > self._index:
            self._used = max(0.0, self._used - (index - self._index) * self.burst)
            self._index = index

    def _ends_s(self, windows: int, now_s: float) -> float:
        return self._start_s + (self._index + windows) * self._window_s - now_s

    def wait_s(self, cost: float, now_s: float) -> float:
        """See `Meter.wait_s`."""
        self._roll(now_s)
        excess = min(self._used, self._used + cost - self.burst)
        if excess <= SLACK * self.limit:
            return 0.0
        return self._ends_s(math.ceil(excess / self.burst - SLACK), now_s)

    def take(self, cost: float, now_s: float) -> None:
        """See `Meter.take`."""
        self._roll(now_s)
        self._used = max(0.0, self._used + cost)

    def used(self, now_s: float) -> float:
        """See `Meter.used`."""
        self._roll(now_s)
        return self._used

    def free(self, row: float, now_s: float) -> float:
        """See `Meter.free`."""
        self._roll(now_s)
        return max(0.0, self.burst - self._used) if self._used else max(row, self.burst)

    def reset_s(self, now_s: float) -> float:
        """See `Meter.reset_s`."""
        self._roll(now_s)
        return self._ends_s(max(1, math.ceil(self._used / self.burst)), now_s) if self._used else 0.0

    def told_used(self, cost: float, now_s: float) -> float:
        """See `Meter.told_used`."""
        return self.used(now_s)
