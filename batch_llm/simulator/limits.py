"""Strict enforcement of the account's limits.

Belongs here: the two ways a provider counts (a bucket that drains continuously, fixed windows), admitting a
request against all limits at once, the rate-limit headers. Not here: error bodies (refusals.py).
Invariant: what a bucket admits in any t seconds never exceeds rate * t + burst + one request.

Source: "Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s" is exactly (used + requested - limit)
/ limit * 60: a bucket of a whole minute that drains continuously,
https://github.com/FoundationAgents/MetaGPT/issues/523 (read 2026-11-21). Days likewise: "(RPD): Limit 200, Used 200
... try again in 7m12s" is 86400 / 200 s. Shorter periods: "60 requests/min may be enforced as 1 request/s",
https://help.openai.com/en/articles/5955604 (read 2026-11-21), hence ``burst_s`` and ``window_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from batch_llm.simulator.config import SimulatorConfig

__all__ = ["Bucket", "FixedWindow", "Gate", "Meter", "Overrun", "duration"]

MINUTE_S = 60.0
DAY_S = 86_400.0
LIMIT_NAMES = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")
# Floating-point noise of a bucket's level, as a share of the limit: never a reason to refuse.
SLACK = 1e-9


class Meter(Protocol):
    """One limit and what is used of it."""

    limit: float
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


class Bucket:
    """A bucket that drains at the rate. It holds the saved-up burst and the request at hand, at most the limit."""

    def __init__(self, limit: float, period_s: float, burst_s: float) -> None:
        """``limit`` per ``period_s``; ``burst_s``: seconds of unused rate one may save up."""
        self.limit = limit
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


class FixedWindow:
    """Counts in windows of fixed length. A request larger than a window fits an empty one and borrows from the next."""

    def __init__(self, limit: float, period_s: float, window_s: float, start_s: float) -> None:
        """``limit`` per ``period_s``, counted in windows of ``window_s`` from ``start_s`` on."""
        self.limit = limit
        self._window_s = window_s
        self.burst = limit * window_s / period_s
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


def _period_s(name: str) -> float:
    return DAY_S if name.endswith("_day") else MINUTE_S


@dataclass(frozen=True, slots=True)
class Overrun:
    """Why a request was not admitted."""

    name: str  # requests_per_minute | tokens_per_minute | requests_per_day | tokens_per_day
    limit: float
    used: float
    requested: float
    wait_s: float | None  # None: it can never fit, it is larger than the limit itself

    @property
    def scope(self) -> str:
        """What ran out: requests or tokens."""
        return self.name.split("_", 1)[0]


class Gate:
    """Admits a request against all limits at once, or none."""

    def __init__(self, config: SimulatorConfig, now_s: float, before: Gate | None = None) -> None:
        """Nothing is used at ``now_s``, except what the gate ``before`` (with other limits) had counted."""
        self._meters: dict[str, Meter] = {}
        for name in LIMIT_NAMES:
            limit = getattr(config, name)
            if limit is None:
                continue
            if name.endswith("_day"):
                meter: Meter = Bucket(limit, DAY_S, DAY_S)
            elif config.window_s is not None:
                meter = FixedWindow(limit, MINUTE_S, config.window_s, now_s)
            else:
                meter = Bucket(limit, MINUTE_S, config.burst_s)
            if before is not None and name in before._meters:
                meter.take(before._meters[name].used(now_s), now_s)
            self._meters[name] = meter
        self._count_rejected = config.count_rejected
        self.count_anew()

    def count_anew(self) -> None:
        """Forget what the utilisation is computed from; the limits keep what is used of them."""
        self._taken = dict.fromkeys(self._meters, 0.0)
        self._first_s: float | None = None
        self._last_s = 0.0

    def admit(self, tokens: float, now_s: float) -> Overrun | None:
        """Count one request of this many tokens, or say which limit makes it wait longest and count nothing."""
        worst: Overrun | None = None
        for name, meter in self._meters.items():
            by_tokens = name.startswith("tokens")
            cost = tokens if by_tokens else 1.0
            if by_tokens and cost > meter.limit:
                return Overrun(name, meter.limit, 0.0, cost, None)
            wait_s = meter.wait_s(cost, now_s)
            if wait_s > 0 and (worst is None or wait_s > (worst.wait_s or 0.0)):
                used = meter.limit - cost + wait_s * meter.limit / _period_s(name)
                worst = Overrun(name, meter.limit, used, cost, wait_s)
        if worst is None:
            for name, meter in self._meters.items():
                cost = tokens if name.startswith("tokens") else 1.0
                meter.take(cost, now_s)
                self._taken[name] += cost
            self._first_s = now_s if self._first_s is None else self._first_s
            self._last_s = now_s
        elif self._count_rejected:
            self._punish(now_s)
        return worst

    def _punish(self, now_s: float) -> None:
        """Count a refused request too.

        Source: "unsuccessful requests contribute to your per-minute limit", OpenAI's rate limits guide, as quoted in
        public copies of https://platform.openai.com/docs/guides/rate-limits (read 2026-11-21).
        """
        meter = self._meters.get("requests_per_minute")
        if meter is not None and meter.used(now_s) + 1 <= meter.limit:
            meter.take(1.0, now_s)

    def correct(self, tokens: float, now_s: float) -> None:
        """Count this many more tokens for a request admitted before; negative: give them back."""
        for name, meter in self._meters.items():
            if name.startswith("tokens"):
                meter.take(tokens, now_s)
                self._taken[name] += tokens

    def utilisation(self) -> dict[str, float | None]:
        """Per limit: admitted / (rate * time from the first to the last admission + burst). None: nothing to divide."""
        spent_s = self._last_s - self._first_s if self._first_s is not None else 0.0
        shares: dict[str, float | None] = {}
        for name, meter in self._meters.items():
            possible = meter.limit / _period_s(name) * spent_s + min(meter.burst, meter.limit)
            shares[name] = round(self._taken[name] / possible, 6) if possible > 0 else None
        return shares

    def headers(self, now_s: float) -> dict[str, str]:
        """The x-ratelimit headers of the limits per minute; a limit that is not set has none.

        Source: https://thoughtbot.com/blog/openai-rate-limits, values as in
        https://community.openai.com/t/1268905: limit 5000, remaining 4999, reset 12ms (read 2026-11-21).
        """
        headers = {}
        for scope, row in (("requests", 1.0), ("tokens", 0.0)):
            meter = self._meters.get(f"{scope}_per_minute")
            if meter is not None:
                headers[f"x-ratelimit-limit-{scope}"] = f"{meter.limit:.0f}"
                headers[f"x-ratelimit-remaining-{scope}"] = f"{math.floor(meter.free(row, now_s) + SLACK)}"
                headers[f"x-ratelimit-reset-{scope}"] = duration(meter.reset_s(now_s))
        return headers


def duration(seconds: float) -> str:
    """Seconds in OpenAI's notation, rounded up to a millisecond: ``174ms``, ``9.816s``, ``6m0s``, ``1h0m0s``.

    Source: https://thoughtbot.com/blog/openai-rate-limits ("6m0s"), https://github.com/BuilderIO/micro-agent/issues/86
    ("try again in 644ms"), "28m48s" for 50 requests per day (read 2026-11-21).
    """
    ms = max(0, math.ceil(seconds * 1000 - 1e-6))
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
