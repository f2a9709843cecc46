"""How a pool reacts to what the provider says: 429s, Retry-After, rate-limit headers.

Belongs here: the shared pause, slowing down, probing back up, learning a limit. Not here: the schedule itself
(rate_clock.py), which errors are retried (the engine).

A 429 tells that the provider's bucket is empty: everybody pauses, the rate falls by at least 7 % and at most once a
second, stays there for 1.5 s and then climbs back, faster the longer nothing was rejected. Requests that were sent
before the last decrease tell nothing new. A declared limit is never exceeded; an unknown one is probed upwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from batch_llm.limiter.base import Throttle
from batch_llm.limiter.rate_clock import RateClock

__all__ = ["Adaptation"]

SMALLEST_DECREASE, LARGEST_DECREASE = 0.07, 0.5  # share of the rate
SMALLEST_FACTOR = 0.05  # of the limit
DECREASE_EVERY_S = 1.0
HOLD_S = 1.5  # after a 429, before probing
PROBE_EVERY_S = 0.1
PROBE_PER_S = 0.01  # share of the limit won back per second ...
PROBE_SLOWEST, PROBE_FASTEST, PROBE_QUIET_S = 0.5, 4.0, 5.0  # ... times 0.5, growing by 1 per 5 quiet seconds, up to 4
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # when the provider does not say how long
LOW_WATER = 0.005  # of the limit: below it the provider's bucket is as good as empty
MINUTE_BUCKET = 0.5  # a `remaining` above this share of the limit shows that the provider counts by the minute

# The units are OpenAI's: the limit is per minute for both.
# Source: https://platform.openai.com/docs/guides/rate-limits (read 2026-11-20)
HEADERS = {
    "requests": ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
    "tokens": ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
}


class Adaptation:
    """What was learned about one pool.

    Attributes:
        paused_until_s: Nothing may start before this moment, the limiter's clock.
    """

    def __init__(self, clocks: Sequence[RateClock], *, unknown: bool) -> None:
        """``unknown``: the clocks' limits are a guess."""
        self.paused_until_s = -math.inf
        self._unknown = unknown
        self._clocks = {clock.name: clock for clock in clocks}
        self._declared = {clock.name: clock.per_minute for clock in clocks}
        self._learned: dict[str, str] = {}  # dimension -> the limit header last seen, as sent
        self._counts_by_the_minute: set[str] = set()
        self._granted = self._rejected = 0
        self._decreased_at_s = -math.inf
        self._probed_at_s = -math.inf
        self._pauses = 0

    def exceeded_limit(self, name: str, amount: float) -> float | None:
        """The limit that ``amount`` exceeds, units per minute; None when it fits or the limit is only a guess."""
        if self._unknown and name not in self._learned:
            return None
        limit = self._clocks[name].per_minute if self._unknown else self._declared[name]
        return limit if amount > limit else None

    def granted(self, now_s: float, *, waiting: bool) -> None:
        """A request starts: the moment to probe whether the pool may go faster again."""
        self._granted += 1
        if now_s - self._probed_at_s >= PROBE_EVERY_S:
            self._probe(now_s, waiting=waiting)

    def answered(self, granted_at_s: float) -> None:
        """A request was answered: what was sent after the last pause went through."""
        if self._pauses and granted_at_s >= self.paused_until_s:
            self._pauses = 0

    def throttled(self, now_s: float, granted_at_s: float, throttle: Throttle) -> None:
        """React to a 429 for a request that started at ``granted_at_s``."""
        news = granted_at_s >= self.paused_until_s
        retry_after_s = throttle.retry_after_s
        if retry_after_s is None or not math.isfinite(retry_after_s) or retry_after_s < 0:
            if news:
                self._pauses += 1
            retry_after_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(16, max(0, self._pauses - 1)))
            pause_until_s = now_s + retry_after_s if news else self.paused_until_s
        else:
            pause_until_s = now_s + retry_after_s
        scope = [self._clocks[throttle.scope]] if throttle.scope in self._clocks else list(self._clocks.values())
        for clock in scope:
            clock.hold_until(now_s)
        self._rejected += 1
        if granted_at_s >= self._decreased_at_s and now_s - self._decreased_at_s >= DECREASE_EVERY_S:
            share = self._rejected / max(1, self._granted)
            decrease = min(LARGEST_DECREASE, max(SMALLEST_DECREASE, share))
            for clock in scope:
                clock.set_factor(now_s, max(SMALLEST_FACTOR, clock.factor * (1 - decrease)))
            self._decreased_at_s = now_s
            self._granted = self._rejected = 0
        self.paused_until_s = max(self.paused_until_s, pause_until_s)

    def observe(self, now_s: float, headers: Mapping[str, str]) -> None:
        """Learn from an answer's headers; what is absent or malformed is ignored."""
        for name, (limit_header, remaining_header) in HEADERS.items():
            clock = self._clocks.get(name)
            if clock is None:
                continue
            limit = headers.get(limit_header)
            if limit is not None and limit != self._learned.get(name):
                self._learn_limit(now_s, clock, limit)
            remaining = headers.get(remaining_header)
            if remaining is not None:
                self._compare_level(now_s, clock, remaining)

    def _learn_limit(self, now_s: float, clock: RateClock, text: str) -> None:
        limit = _positive(text)
        if not limit:
            return
        self._learned[clock.name] = text
        if not self._unknown:
            limit = min(limit, self._declared[clock.name])
        elif clock.factor > 1:
            clock.factor = 1.0  # the probing beyond the guess ends where the truth is known
        if limit != clock.per_minute:
            clock.set_limit(now_s, limit)

    def _compare_level(self, now_s: float, clock: RateClock, text: str) -> None:
        """Less left at the provider than we think: somebody else uses the account."""
        remaining = _positive(text)
        if remaining is None:
            return
        if remaining < clock.saved(now_s):
            clock.hold_until(now_s - remaining / clock.rate)
        if remaining > MINUTE_BUCKET * clock.per_minute:
            self._counts_by_the_minute.add(clock.name)
        low_water = LOW_WATER * clock.per_minute
        if remaining < low_water and clock.name in self._counts_by_the_minute:
            clock.hold_until(now_s + (low_water - remaining) / clock.rate)

    def _probe(self, now_s: float, *, waiting: bool) -> None:
        elapsed_s = min(now_s - self._probed_at_s, 1.0)  # an idle hour proves nothing
        self._probed_at_s = now_s
        quiet_s = now_s - max(self._decreased_at_s, self.paused_until_s)
        if quiet_s < HOLD_S:
            return
        busiest = max(self._clocks.values(), key=lambda clock: clock.ready_at_s, default=None)
        pace = min(PROBE_FASTEST, PROBE_SLOWEST + (quiet_s - HOLD_S) / PROBE_QUIET_S)
        for clock in self._clocks.values():
            if clock.factor < 1:
                clock.set_factor(now_s, min(1.0, clock.factor + PROBE_PER_S * pace * elapsed_s))
            elif self._unknown and waiting and clock is busiest and clock.name not in self._learned:
                clock.set_factor(now_s, clock.factor + PROBE_PER_S * elapsed_s)


def _positive(text: str) -> float | None:
    """The number in a header, 0 or more; None when there is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
