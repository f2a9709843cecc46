"""What a request takes from each dimension, by the provider's own formula, and the rules of a pool.

Belongs here: the debit rules, the declared limits as rules. Not here: when a request may be sent (schedule.py), how
tokens are predicted (tokens.py). Reserving by the provider's formula, not the quality of the prediction, decides how
many requests it rejects.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from batch_llm.limiter.base import Cost, Limits
from batch_llm.limiter.wire import CLOCK, DIMENSIONS, FIXED, ROLLING, Rule

__all__ = ["DAY_S", "Debit", "is_corrected", "midnight_s", "rules_of"]

MINUTE_S = 60.0
DAY_S = 86_400.0
LIVE_SHARE = 0.5  # of the provider's burst kept for requests a person waits for, while there are any
LIVE_BURST_MOST_S = 1.0


def rules_of(limits: Limits, now: datetime) -> list[Rule]:
    """The declared limits, in the order of `DIMENSIONS`; ``now`` tells which offset a zone has."""
    live_burst_s = min(limits.burst_s * LIVE_SHARE, LIVE_BURST_MOST_S)
    rules = []
    for name in DIMENSIONS[:4]:
        per_minute = getattr(limits, f"{name}_per_minute")
        if per_minute is not None:
            rules.append(
                Rule(name, CLOCK, per_minute / MINUTE_S, limits.burst_s, live_burst_s, window_s=limits.window_s or 0.0)
            )
    for name in DIMENSIONS[4:]:
        per_day = getattr(limits, name)
        if per_day is None:
            continue
        if limits.day_resets is None:
            rules.append(Rule(name, ROLLING, per_day / DAY_S, DAY_S, 0.0, DAY_S))
        else:
            rules.append(Rule(name, FIXED, per_day / DAY_S, 0.0, 0.0, DAY_S, midnight_s(limits.day_resets, now)))
    return rules


def midnight_s(zone: str, now: datetime) -> float:
    """Seconds after midnight UTC at which the day begins in ``zone``."""
    offset = now.astimezone(ZoneInfo(zone)).utcoffset()
    return 0.0 if offset is None else -offset.total_seconds() % DAY_S


def is_corrected(limits: Limits) -> bool:
    """Whether the provider's count follows the tokens that were really used."""
    return limits.debit != "input_plus_max_tokens"


class Debit:
    """The debit rule of one pool, aligned with its rules."""

    def __init__(self, limits: Limits, rules: list[Rule]) -> None:
        """``rules`` as `rules_of` made them."""
        self._capped = limits.debit != "actual"
        self._corrected = is_corrected(limits)
        self._places = [DIMENSIONS.index(rule.name) for rule in rules]

    def reserved(self, cost: Cost) -> list[float]:
        """What to reserve. Without a cap on the output the prediction stands in for it."""
        output = cost.output_tokens
        if self._capped and cost.max_output_tokens is not None:
            output = cost.max_output_tokens
        given = cost.input_tokens
        every = (cost.requests, given + output, given, output, cost.requests, given + output)
        return [float(every[place]) for place in self._places]

    def used(self, cost: Cost, actual: Cost) -> list[float]:
        """What an answered request really took. A request that was sent stays counted."""
        if not self._corrected:
            return self.reserved(cost)
        given, output = actual.input_tokens, actual.output_tokens
        every = (cost.requests, given + output, given, output, cost.requests, given + output)
        return [float(every[place]) for place in self._places]
