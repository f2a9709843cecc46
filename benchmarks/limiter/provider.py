"""A simulated provider that answers while rows are sent: admits them or says 429.

Belongs here: how a provider counts (strict bucket, fixed day), shared by all workers of a case. Not here: replaying a
finished run (judge.py). It knows the declared numbers only, not the limiter.
What is rejected takes nothing. A bucket starts empty of debt and forgives none; after a cut both its speed and its
depth are smaller.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from batch_llm.limiter.base import Cost
from benchmarks.limiter.case import Case

__all__ = ["CELLS", "DAY_S", "MOST_COUNTERS", "Counter", "LiveProvider", "counters_of", "shared_provider"]

MINUTE_S, DAY_S = 60.0, 86_400.0
ROUNDING = 1e-6
CELLS = 2  # doubles of shared memory per counter: what is counted, and when it was looked at last
MOST_COUNTERS = 4
Cells: TypeAlias = "list[float] | memoryview[float]"


@dataclass(frozen=True, slots=True)
class Counter:
    """One limit of the provider, a leaking bucket or a fixed day."""

    name: str  # requests | tokens | requests_per_day
    rate: float  # units per second
    depth: float  # units
    day_offset_s: float | None = None  # a fixed day begins when (wall clock - offset) is a multiple of it

    def level(self, cells: Cells, at_s: float, factor: float) -> float:
        """What is counted at ``at_s``."""
        counted, last_s = cells
        at_s = max(at_s, last_s)
        if self.day_offset_s is None:
            counted = max(0.0, counted - self.rate * factor * (at_s - last_s))
        elif math.floor((at_s - self.day_offset_s) / DAY_S) > math.floor((last_s - self.day_offset_s) / DAY_S):
            counted = 0.0
        cells[0], cells[1] = counted, at_s
        return counted


class LiveProvider:
    """Admits or rejects, one row at a time; all workers of a case share its cells."""

    def __init__(
        self, case: Case, cells: Cells, guard: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        """``cells``: two doubles per counter, zeros at first; ``guard``: held while one row is looked at."""
        self._case = case
        self._counters = counters_of(case)
        self._cells = [cells[CELLS * n : CELLS * n + CELLS] for n in range(len(self._counters))]
        self._guard = guard
        self.cut_at_s = math.inf  # from when on the limit is smaller

    def admit(self, at_s: float, cost: Cost) -> str | None:
        """Take a row that is sent now; or name the limit it exceeds."""
        factor = self._factor(at_s)
        amounts = [self._at_first(counter.name, cost) for counter in self._counters]
        with self._guard():
            for counter, cells, amount in zip(self._counters, self._cells, amounts, strict=True):
                depth = max(counter.depth * factor, amount)
                if counter.level(cells, at_s, factor) + amount > depth + ROUNDING:
                    return counter.name
            for cells, amount in zip(self._cells, amounts, strict=True):
                cells[0] += amount
        return None

    def answer(self, at_s: float, cost: Cost, actual: Cost) -> None:
        """A row was answered: correct what was counted when it came."""
        if self._case.limits.debit == "input_plus_max_tokens":
            return
        factor = self._factor(at_s)
        with self._guard():
            for counter, cells in zip(self._counters, self._cells, strict=True):
                if counter.name == "tokens":
                    used = actual.input_tokens + actual.output_tokens
                    counter.level(cells, at_s, factor)
                    cells[0] = max(0.0, cells[0] + used - self._at_first(counter.name, cost))

    def _factor(self, at_s: float) -> float:
        return self._case.provider.cut_to if at_s >= self.cut_at_s else 1.0

    def _at_first(self, name: str, cost: Cost) -> float:
        """What is counted when a row comes, by the provider's formula."""
        if name != "tokens":
            return float(cost.requests)
        if self._case.limits.debit == "actual":
            return float(cost.input_tokens)  # it cannot know more
        return float(cost.input_tokens + (cost.max_output_tokens or cost.output_tokens))


def counters_of(case: Case) -> tuple[Counter, ...]:
    """What the provider of a case counts."""
    limits, depth_s = case.limits, case.provider.bucket_s or 0.0
    found = []
    for name, per_minute in (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)):
        if per_minute is not None:
            rate = per_minute / MINUTE_S
            found.append(Counter(name, rate, rate * depth_s))
    if limits.requests_per_day is not None:
        offset_s = None if limits.day_resets is None else _midnight_s(limits.day_resets)
        found.append(Counter("requests_per_day", limits.requests_per_day / DAY_S, limits.requests_per_day, offset_s))
    return tuple(found)


def _midnight_s(zone: str) -> float:
    """When the day begins there, seconds after midnight UTC; in winter, like all of a case."""
    offset = datetime(2026, 1, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset()
    return 0.0 if offset is None else -offset.total_seconds() % DAY_S


def shared_provider(case: Case, path: Path) -> LiveProvider:
    """The provider of all processes that open the same file; it stays open until the process ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, 8 * CELLS * MOST_COUNTERS)
    cells = memoryview(mmap.mmap(file, 8 * CELLS * MOST_COUNTERS)).cast("d")

    @contextmanager
    def guard() -> Iterator[None]:
        fcntl.lockf(file, fcntl.LOCK_EX)  # goes with its process, so a killed worker blocks nobody
        try:
            yield
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN)

    return LiveProvider(case, cells, guard)
