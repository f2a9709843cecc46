"""Which of the facts in an answer's headers the schedule is told.

Belongs here: when a fact is worth telling. Not here: reading headers (headers.py), what the schedule makes of it
(throttling.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from batch_llm.errors import LimiterError
from batch_llm.limiter.headers import HeaderFact, HeaderReader
from batch_llm.limiter.wire import CLOCK, Rule

__all__ = ["HeaderReports", "Observed"]

TELL_EVERY_S = 1.0  # per dimension
READ_EVERY_S = 0.05  # answers come by the thousand per second and say the same
LOW = 0.1  # of the limit per minute (per day): less than this remaining is worth telling
HALF = 0.5  # more than this remaining shows, once, that the provider counts by the minute
MINUTE_S = 60.0
Observed = tuple[int, float, float]
"""Place in the rules, units per second (-1: not said), remaining (-1: not said); see `wire.Call.observed`."""


class HeaderReports:
    """Collects what the next call tells."""

    def __init__(self, kind: str | None, rules: Sequence[Rule]) -> None:
        """``kind``: of the provider, see `HeaderReader`; None: its headers are not read."""
        try:
            self._reader = None if kind is None else HeaderReader(kind)
        except ValueError as error:
            raise LimiterError(str(error)) from error
        self._places = {rule.name: place for place, rule in enumerate(rules)}
        self._spans_s = [MINUTE_S if rule.kind == CLOCK else rule.period_s for rule in rules]
        self._read_s = -math.inf
        self._told_s = [-math.inf] * len(rules)
        self._told_limit = [0.0] * len(rules)
        self._told_half = [False] * len(rules)
        self._waiting: dict[int, Observed] = {}
        self.learned = [False] * len(rules)  # the provider has stated this limit

    def observe(self, headers: Mapping[str, str], limits: Sequence[float], now_s: float) -> None:
        """Read an answer's headers; ``limits``: units per second in force."""
        if self._reader is None or now_s - self._read_s < READ_EVERY_S:
            return
        self._read_s = now_s
        for fact in self._reader.read(headers):
            place = self._places.get(fact.dimension)
            if place is not None and now_s - self._told_s[place] >= TELL_EVERY_S:
                self._note(place, fact, (limits[place], now_s))

    def _note(self, place: int, fact: HeaderFact, terms: tuple[float, float]) -> None:
        limit, now_s = terms
        per_s, remaining = fact.limit_per_s, fact.remaining
        worth = False
        if per_s is not None:
            self.learned[place] = True
            worth = per_s not in (limit, self._told_limit[place])
        if remaining is not None:
            whole = (per_s or limit) * self._spans_s[place]
            half = remaining > HALF * whole and not self._told_half[place]
            self._told_half[place] = self._told_half[place] or half
            worth = worth or half or remaining < LOW * whole
        if worth:
            self._told_limit[place] = per_s or self._told_limit[place]
            self._told_s[place] = now_s
            self._waiting[place] = (place, per_s or -1.0, -1.0 if remaining is None else remaining)

    def take(self) -> list[Observed]:
        """What the next call tells; a call that fails loses it, the next answer says it again."""
        facts, self._waiting = list(self._waiting.values()), {}
        return facts

    def forget(self) -> None:
        """The schedule lost its memory: everything is worth telling again."""
        self._told_limit = [0.0] * len(self._told_limit)
        self._told_half = [False] * len(self._told_half)
