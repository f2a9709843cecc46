"""The rows of one job: an endless (or counted) backlog with sizes drawn from a seed.

Belongs here: making rows, guessing output lengths as a job would. Not here: sending them (feeder.py).
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from batch_llm.limiter.base import Cost
from benchmarks.limiter.case import Load

__all__ = ["Backlog", "Row"]

PREPARED = 2048  # rows with drawn sizes, used again and again: drawing them is not what is measured
FIRST_GUESS = 200.0  # output tokens, before any answer came
GUESS_COUNTS = 20  # as so many answers
LEAST_TOKENS = 2


class Row(NamedTuple):
    """A row as the limiter sees it, and what it really takes."""

    cost: Cost
    actual: Cost


class Backlog:
    """What one feeder has to send."""

    def __init__(self, load: Load, seed: str, rows: int | None = None) -> None:
        """``rows``: how many there are; None: endless."""
        self._load = load
        self._random = random.Random(seed)
        self._left = rows
        self._next: deque[Row] = deque()
        self._answers, self._sum = GUESS_COUNTS, FIRST_GUESS * GUESS_COUNTS
        self._prepared = [] if load.output_sigma is not None else self._prepare()
        self._number = 0

    @property
    def has_more(self) -> bool:
        """Whether rows follow those listed."""
        return self._left is None or self._left > 0

    def listed(self, most: int) -> Sequence[Row]:
        """The next rows, in order, at most so many; they stay until `sent`."""
        while len(self._next) < most and self.has_more:
            self._next.append(self._new())
            if self._left is not None:
                self._left -= 1
        if len(self._next) <= most:
            return list(self._next)
        return [self._next[n] for n in range(most)]

    def sent(self, count: int) -> None:
        """The first so many were sent."""
        for _ in range(count):
            self._next.popleft()

    def again(self, row: Row) -> None:
        """A row that was rejected goes first."""
        self._next.appendleft(row)

    def learn(self, actual: Cost) -> None:
        """An answer came."""
        self._answers += 1
        self._sum += actual.output_tokens

    def _new(self) -> Row:
        if self._prepared:
            self._number = (self._number + 1) % len(self._prepared)
            return self._prepared[self._number]
        load = self._load
        cap = load.max_output_tokens or 10**9
        drawn = load.output_median * math.exp(self._random.gauss(0, load.output_sigma or 0.0))
        given = round(load.tokens)
        guess = min(cap, round(self._sum / self._answers))
        return Row(Cost(given, guess, load.max_output_tokens), Cost(given, max(1, min(cap, round(drawn))), None))

    def _prepare(self) -> list[Row]:
        rows = []
        sigma = self._load.sigma
        for _ in range(PREPARED if sigma else 1):
            tokens = self._load.tokens * math.exp(self._random.gauss(0, sigma) - sigma * sigma / 2)
            whole = max(LEAST_TOKENS, round(tokens))
            cost = Cost(whole - whole // 4, whole // 4)
            rows.append(Row(cost, cost))
        return rows
