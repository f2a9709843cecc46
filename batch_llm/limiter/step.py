"""One call of a pool's schedule in the making: what the parts of the algorithm share.

Belongs here: the record. Not here: what is done with it (schedule.py and its parts).
"""

from __future__ import annotations

import math
from typing import Any

from batch_llm.limiter.memory import Memory
from batch_llm.limiter.wire import CLOCK, FIXED

__all__ = ["Step"]

LIVE_MEMORY_S = 30.0  # so long after a live request its reserve is kept for the next one


class Step:
    """The pool as one caller declares it, and where the call is. Lists are in the order of the caller's rules."""

    __slots__ = (
        "bursts",
        "declared",
        "elapsed_s",
        "full_bursts",
        "kinds",
        "limits",
        "live_bursts",
        "memory",
        "most",
        "now_s",
        "offsets",
        "periods",
        "places",
        "rates",
        "reclaim_s",
        "round_s",
        "unknown",
        "wall_s",
        "windows",
        "worker",
    )

    def __init__(self, memory: Memory, worker: str, rules: list[list[Any]], most: int, unknown: bool) -> None:
        """``most``: max_concurrency, 0 for none; ``unknown``: the rules are a guess."""
        self.memory = memory
        self.worker = worker
        self.most = most
        self.unknown = unknown
        self.now_s = 0.0  # the schedule's clock
        self.wall_s = 0.0  # the store's: a day's limit follows it
        self.elapsed_s = 0.0  # since the last call
        self.round_s = 0.0
        self.reclaim_s = 0.0  # so much deeper a lane may book that live requests keep from its share
        self.places: list[int] = [rule[0] for rule in rules]
        self.kinds: list[int] = [rule[1] for rule in rules]
        self.declared: list[float] = [rule[2] for rule in rules]
        self.full_bursts: list[float] = [rule[3] for rule in rules]
        self.live_bursts: list[float] = [rule[4] for rule in rules]
        self.periods: list[float] = [rule[5] for rule in rules]
        self.offsets: list[float] = [rule[6] for rule in rules]
        self.windows: list[float] = [rule[7] for rule in rules]
        self.limits = list(self.declared)  # units per second before slowing down
        self.rates = list(self.declared)  # in force
        self.bursts = list(self.full_bursts)  # seconds, for jobs

    def keep_live_reserve(self) -> None:
        """While there are live requests, jobs leave them a part of the burst."""
        if self.now_s - self.memory.live_seen_s < LIVE_MEMORY_S:
            for n, kind in enumerate(self.kinds):
                if kind == CLOCK:
                    self.bursts[n] = self.full_bursts[n] - self.live_bursts[n]

    def period_number(self, n: int) -> float:
        """FIXED: the number of the day it is."""
        return float(math.floor((self.wall_s - self.offsets[n]) / self.periods[n]))

    def period_ends_in_s(self, n: int) -> float:
        """FIXED: how much of the day is left."""
        return (self.period_number(n) + 1) * self.periods[n] + self.offsets[n] - self.wall_s

    def begin_days(self) -> None:
        """FIXED: a new day begins with nothing used."""
        memory = self.memory
        for n, place in enumerate(self.places):
            if self.kinds[n] == FIXED and self.period_number(n) > memory.period[place]:
                memory.period[place] = self.period_number(n)
                memory.tat[place] = 0.0
