"""What the rate-limit headers of an answer say, with the right unit per header.

Belongs here: which header of which provider tells which limit, and its period. Not here: what is made of it (the
schedule), Retry-After and the bodies of 429s (providers/).

The same name means different things: ``x-ratelimit-limit-requests`` is per minute at OpenAI for most accounts, per day
for some, always per day at Groq, and per 1 or 10 seconds at Azure. A unit that is not known is not guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HeaderFact", "HeaderReader"]

MINUTE_S = 60.0
DAY_S = 86_400.0
# How the reset header tells a minute from a day; see `_Reading._period_s`.
SHORTEST_RESET_S = 0.01  # below it the rounding to milliseconds spoils the measure; no limit per day has such steps
LONGEST_MINUTE_S = 600.0  # a measured period up to here is the minute
LONGEST_MINUTE_RESET_S = 120.0  # nothing that counts by the minute takes longer to forget
SHORTEST_DAY_S, LONGEST_DAY_S = 0.45 * DAY_S, 1.1 * DAY_S  # a measured period between these may be the day

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)(ms|s))?")


@dataclass(frozen=True, slots=True)
class HeaderFact:
    """One limit, as the provider states it. None: not stated, or nonsense."""

    dimension: str  # requests | tokens | input_tokens | output_tokens | requests_per_day | tokens_per_day
    limit_per_s: float | None  # units per second, above 0
    remaining: float | None  # units that may be sent now, 0 or more


@dataclass(frozen=True, slots=True)
class _Told:
    """The headers of one limit."""

    dimension: str
    period_s: float  # of the limit header
    limit: str  # the header's name, lower case
    remaining: str
    reset: str = ""  # this header shows whether the limit is per minute or per day; the dimension is then of the minute


def _openai_style(dimension: str, period_s: float, scope: str, *, reset: bool = False) -> _Told:
    names = [f"x-ratelimit-{part}-{scope}" for part in ("limit", "remaining", "reset")]
    return _Told(dimension, period_s, names[0], names[1], names[2] if reset else "")


def _anthropic_style(dimension: str) -> _Told:
    scope = dimension.replace("_", "-")
    names = [f"anthropic-ratelimit-{scope}-{part}" for part in ("limit", "remaining")]
    return _Told(dimension, MINUTE_S, names[0], names[1])


# Requests: per minute ("limit 5000, remaining 4999, reset 12ms") or, for accounts that have such a limit, per day
# ("10000, 9999, 8.64s": 86400 / 10000); only the reset header tells which. Tokens: per minute in both.
# Source: https://developers.openai.com/api/docs/guides/rate-limits (the names; no unit is stated),
# https://community.openai.com/t/1268905 (minute), https://redis.io/blog/kong-ai-gateway-and-redis/ and
# https://community.openai.com/t/991915 (day: 10,000 that grow by one per 8.6 s) (read 2026-11-21).
_OPENAI = (
    _openai_style("requests", MINUTE_S, "requests", reset=True),
    _openai_style("tokens", MINUTE_S, "tokens"),
)
# The requests are counted over 1 or 10 seconds, and the headers are of that period, which they do not name: not read.
# Source: https://clemenssiebler.com/posts/understanding-azure-openai-x-ratelimit-remaining-tokens-x-ratelimit-remaining-requests-headers/
# (120 requests per minute: remaining 19; tokens per minute), https://learn.microsoft.com/answers/questions/2156987
# (300 per minute: remaining 50) (read 2026-11-21).
_AZURE = (_openai_style("tokens", MINUTE_S, "tokens"),)
# "..-tokens-.." states the most restrictive of several limits, so it is no dimension of its own. Remaining tokens are
# rounded to the nearest thousand.
# Source: https://docs.anthropic.com/en/api/rate-limits (read 2026-11-21).
_ANTHROPIC = (
    _anthropic_style("requests"),
    _anthropic_style("input_tokens"),
    _anthropic_style("output_tokens"),
)
# "Always refers to Requests Per Day (RPD)", "Always refers to Tokens Per Minute (TPM)".
# Source: https://console.groq.com/docs/rate-limits (read 2026-11-21).
_GROQ = (
    _openai_style("requests_per_day", DAY_S, "requests"),
    _openai_style("tokens", MINUTE_S, "tokens"),
)
_HEADERS: Mapping[str, tuple[_Told, ...]] = {
    "openai": _OPENAI,
    "azure": _AZURE,
    "anthropic": _ANTHROPIC,
    "groq": _GROQ,
    "none": (),  # also of a server nobody named: the pool must say whose (`headers:` in the providers file)
}


class HeaderReader:
    """Reads the headers of one pool's answers. Remembers the last ones, so that what did not change costs nothing."""

    __slots__ = ("_facts", "_readings")

    def __init__(self, kind: str) -> None:
        """``kind``: whose headers, as the providers file calls them. Raises ValueError for any other word."""
        if kind not in _HEADERS:
            raise ValueError(f"no rate-limit headers are known for {kind!r}; known: {', '.join(_HEADERS)}")
        self._readings = [_Reading(told) for told in _HEADERS[kind]]
        self._facts: list[HeaderFact] = []

    def read(self, headers: Mapping[str, str]) -> list[HeaderFact]:
        """What these headers (lower-case names) say; malformed, negative, infinite and absent ones are left out.

        The list is the same object as long as nothing changes: read it, do not change it.
        """
        changed = False
        for reading in self._readings:
            if reading.look(headers):
                changed = True
        if changed:
            self._facts = [reading.fact for reading in self._readings if reading.fact is not None]
        return self._facts


class _Reading:
    """What the headers of one limit said last."""

    __slots__ = ("_day_seen", "_limit", "_limit_text", "_period", "_remaining_text", "_told", "fact")

    def __init__(self, told: _Told) -> None:
        self.fact: HeaderFact | None = None
        self._told = told
        self._limit_text: str | None = None
        self._remaining_text: str | None = None
        self._limit: float | None = None
        self._period: float | None = None  # of the limit; None: not known yet
        self._day_seen: tuple[float, float] | None = None  # used and reset that may be those of a day

    def look(self, headers: Mapping[str, str]) -> bool:
        """Read again if the text changed; whether it did."""
        limit_text = headers.get(self._told.limit)
        remaining_text = headers.get(self._told.remaining)
        if limit_text == self._limit_text and remaining_text == self._remaining_text:
            return False
        if limit_text != self._limit_text:
            self._limit = _number(limit_text) or None  # a limit of 0 is no rate one could keep
            self._period = self._day_seen = None
            self._limit_text = limit_text
        self._remaining_text = remaining_text
        self.fact = self._read(_number(remaining_text), headers)
        return True

    def _read(self, remaining: float | None, headers: Mapping[str, str]) -> HeaderFact | None:
        if self._limit is None and (remaining is None or self._told.reset):
            return None  # without its limit, a number of requests that remain may be of a minute or a day
        if self._period is None:
            self._period = self._period_s(remaining, headers)
        if self._period is None:
            return None
        dimension = self._told.dimension
        if self._period != self._told.period_s:
            dimension = f"{dimension}_per_day"
        return HeaderFact(dimension, None if self._limit is None else self._limit / self._period, remaining)

    def _period_s(self, remaining: float | None, headers: Mapping[str, str]) -> float | None:
        """The minute or the day; None when it cannot be told yet.

        The reset header is the time until nothing is used. Where a limit refills evenly, period = reset * limit / used;
        what is used is stated in whole units, rounded up, so the period is at most a factor of 2 too short. Fixed
        windows of a minute may look like a day once, but not twice: there the reset falls while the use grows.
        """
        reset_text = headers.get(self._told.reset) if self._told.reset else None
        reset_s = None if reset_text is None else _duration_s(reset_text)
        if reset_s is None:
            return self._told.period_s
        if self._limit is None or remaining is None or remaining >= self._limit:
            return None
        used = self._limit - remaining
        period_s = reset_s * self._limit / used
        if reset_s < SHORTEST_RESET_S or period_s <= LONGEST_MINUTE_S:
            return MINUTE_S
        if not SHORTEST_DAY_S <= period_s <= LONGEST_DAY_S:
            return None
        before, self._day_seen = self._day_seen, (used, reset_s)
        grown = before is not None and used > before[0] and reset_s > before[1]
        return DAY_S if grown or reset_s > LONGEST_MINUTE_RESET_S else None


def _number(text: str | None) -> float | None:
    """A plain decimal number, 0 or more; None for anything else."""
    if text is None or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _duration_s(text: str) -> float | None:
    """OpenAI's notation of a time: ``174ms``, ``9.816s``, ``6m0s``, ``1h0m0s``."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    days, hours, minutes, rest, unit = found.groups(default="0")
    rest_s = float(rest) * (0.001 if unit == "ms" else 1.0)
    return float(days) * DAY_S + float(hours) * 3600 + float(minutes) * 60 + rest_s
