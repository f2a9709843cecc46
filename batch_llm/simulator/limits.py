"""Strict enforcement of the account's limits.

Belongs here: which limits there are, what a request takes from each, admitting it against all at once, the rate-limit
headers. Not here: how one limit counts (meters.py), error bodies (refusals.py).

Source: shorter periods: "60 requests/min may be enforced as 1 request/s", https://help.openai.com/en/articles/5955604
(read 2026-11-21), hence ``burst_s`` and ``window_s``. Input and output apart:
https://docs.anthropic.com/en/api/rate-limits (read 2026-11-21). Days: OpenAI's drain evenly (10,000 that grow by one
per 8.6 s), https://community.openai.com/t/991915; Google's "reset at midnight Pacific time",
https://ai.google.dev/gemini-api/docs/rate-limits (read 2026-11-21), hence ``day_resets_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.meters import SLACK, Bucket, FixedWindow, Meter

__all__ = ["LIMIT_NAMES", "Gate", "Left", "Overrun", "Use", "duration"]

MINUTE_S = 60.0
DAY_S = 86_400.0
LIMIT_NAMES = (
    "requests_per_minute",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "requests_per_day",
    "tokens_per_day",
)


@dataclass(frozen=True, slots=True)
class Use:
    """What one request takes."""

    input_tokens: float
    output_tokens: float = 0.0
    requests: float = 1.0

    def of(self, name: str) -> float:
        """Of the limit with this name."""
        counted = name.partition("_per_")[0]
        if counted == "tokens":
            return self.input_tokens + self.output_tokens
        return float(getattr(self, counted))


@dataclass(frozen=True, slots=True)
class Overrun:
    """Why a request was not admitted."""

    name: str  # one of LIMIT_NAMES
    limit: float
    used: float
    requested: float
    wait_s: float | None  # None: it can never fit, it is larger than the limit itself

    @property
    def scope(self) -> str:
        """What ran out: requests or tokens."""
        return "requests" if self.name.startswith("requests") else "tokens"


class Left(NamedTuple):
    """What is left of one limit."""

    window: float  # what one window of it admits; the limit itself where there are none
    free: float
    reset_s: float  # until nothing is used


class Gate:
    """Admits a request against all limits at once, or none."""

    def __init__(
        self, config: SimulatorConfig, now_s: float, *, before: Gate | None = None, unix_s: float = 0.0
    ) -> None:
        """Nothing is used at ``now_s``, except what the gate ``before`` (with other limits) had counted.

        ``unix_s``: the wall clock at ``now_s``, for days that begin anew at a time of the day.
        """
        self._meters: dict[str, Meter] = {}
        for name in LIMIT_NAMES:
            limit = getattr(config, name)
            if limit is None:
                continue
            meter = _meter(name, limit, config, (now_s, unix_s))
            if before is not None and name in before._meters:
                meter.take(before._meters[name].used(now_s), now_s)
            self._meters[name] = meter
        self._told_day = config.day_resets_s is None
        self._count_rejected = config.count_rejected
        self.count_anew()

    def count_anew(self) -> None:
        """Forget what the utilisation is computed from; the limits keep what is used of them."""
        self._taken = dict.fromkeys(self._meters, 0.0)
        self._first_s: float | None = None
        self._last_s = 0.0

    def admit(self, use: Use, now_s: float) -> Overrun | None:
        """Count one request, or say which limit makes it wait longest and count nothing."""
        worst: Overrun | None = None
        for name, meter in self._meters.items():
            cost = use.of(name)
            if cost > meter.limit and not name.startswith("requests"):
                return Overrun(name, meter.limit, 0.0, cost, None)
            wait_s = meter.wait_s(cost, now_s)
            if wait_s > 0 and (worst is None or wait_s > (worst.wait_s or 0.0)):
                worst = Overrun(name, meter.limit, meter.told_used(cost, now_s), cost, wait_s)
        if worst is None:
            self._take(use, now_s)
            self._first_s = now_s if self._first_s is None else self._first_s
            self._last_s = now_s
        elif self._count_rejected:
            self._punish(now_s)
        return worst

    def _take(self, use: Use, now_s: float) -> None:
        for name, meter in self._meters.items():
            cost = use.of(name)
            if cost:
                meter.take(cost, now_s)
                self._taken[name] += cost

    def _punish(self, now_s: float) -> None:
        """Count a refused request too.

        Source: "unsuccessful requests contribute to your per-minute limit", OpenAI's rate limits guide, as quoted in
        public copies of https://platform.openai.com/docs/guides/rate-limits (read 2026-11-21).
        """
        meter = self._meters.get("requests_per_minute")
        if meter is not None and meter.used(now_s) + 1 <= meter.limit:
            meter.take(1.0, now_s)

    def correct(self, output_tokens: float, now_s: float) -> None:
        """Count this many more output tokens for a request admitted before; negative: give them back."""
        self._take(Use(0.0, output_tokens, requests=0.0), now_s)

    def utilisation(self) -> dict[str, float | None]:
        """Per limit: admitted / (rate * time from the first to the last admission + burst). None: nothing to divide."""
        spent_s = self._last_s - self._first_s if self._first_s is not None else 0.0
        shares: dict[str, float | None] = {}
        for name, meter in self._meters.items():
            possible = meter.limit / _period_s(name) * spent_s + min(meter.burst, meter.limit)
            shares[name] = round(self._taken[name] / possible, 6) if possible > 0 else None
        return shares

    def left(self, name: str, now_s: float) -> Left | None:
        """What of this limit is left; None where there is no such limit."""
        meter = self._meters.get(name)
        if meter is None:
            return None
        return Left(meter.window, meter.free(float(name.startswith("requests")), now_s), meter.reset_s(now_s))

    def headers(self, now_s: float) -> dict[str, str]:
        """The x-ratelimit headers; a limit that is not set has none.

        The requests are those per day where there is such a limit (and it drains), else those per minute.

        Source: https://thoughtbot.com/blog/openai-rate-limits, values as in https://community.openai.com/t/1268905:
        limit 5000, remaining 4999, reset 12ms; of a day: limit 10000, remaining 9999, reset 8.64s, recorded in
        https://redis.io/blog/kong-ai-gateway-and-redis/ (read 2026-11-21).
        """
        by_day = self._meters.get("requests_per_day") if self._told_day else None
        told = (
            ("requests", 1.0, by_day or self._meters.get("requests_per_minute")),
            ("tokens", 0.0, self._meters.get("tokens_per_minute")),
        )
        headers = {}
        for scope, row, meter in told:
            if meter is not None:
                headers[f"x-ratelimit-limit-{scope}"] = f"{meter.limit:.0f}"
                headers[f"x-ratelimit-remaining-{scope}"] = f"{math.floor(meter.free(row, now_s) + SLACK)}"
                headers[f"x-ratelimit-reset-{scope}"] = duration(meter.reset_s(now_s))
        return headers


def _meter(name: str, limit: float, config: SimulatorConfig, times_s: tuple[float, float]) -> Meter:
    now_s, unix_s = times_s
    if name.endswith("_day"):
        if config.day_resets_s is None:
            return Bucket(limit, DAY_S, DAY_S)
        return FixedWindow(limit, DAY_S, DAY_S, now_s - (unix_s - config.day_resets_s) % DAY_S)
    window_s = config.window_s if name.startswith("requests") else config.token_window_s or config.window_s
    if window_s is not None:
        return FixedWindow(limit, MINUTE_S, window_s, now_s)
    return Bucket(limit, MINUTE_S, config.burst_s)


def _period_s(name: str) -> float:
    return DAY_S if name.endswith("_day") else MINUTE_S


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
