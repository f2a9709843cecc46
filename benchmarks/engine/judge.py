"""The judge: from counts and moments to figures. It knows nothing of the engine.

Belongs here: pure functions over numbers. Not here: getting the numbers (lab.py, provider_process.py), what a case
promises (cases.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["Rows", "cost_per_row", "good_answers", "median_ratio", "paid_twice", "unanswered", "use_of_limit"]

Stats = Mapping[str, Any]
"""GET /stats?detail=1 of a simulator."""


@dataclass(frozen=True, slots=True)
class Rows:
    """An output table, against the input."""

    expected: int
    stored: int
    distinct: int  # keys
    ok: int
    failed: int

    @property
    def lost(self) -> int:
        """Input rows that are not in the output, or without an end there."""
        return self.expected - min(self.distinct, self.ok + self.failed)

    @property
    def duplicated(self) -> int:
        """Output rows too many."""
        return self.stored - self.distinct


def cost_per_row(small: tuple[int, float], large: tuple[int, float]) -> float:
    """What one more row costs: each argument is (rows, cost of that run). Start and imports drop out."""
    (few, few_cost), (many, many_cost) = small, large
    if many <= few:
        raise ValueError(f"the larger run must have more rows: {many} <= {few}")
    return (many_cost - few_cost) / (many - few)


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of rounds: noise that lasts hits both sides of a round."""
    if len(above) != len(below) or not above:
        raise ValueError(f"one figure per side and round: {len(above)} and {len(below)}")
    return median(a / b for a, b in zip(above, below, strict=True))


def use_of_limit(units: float, rate_per_s: float, span_s: float, burst_units: float) -> float:
    """Accepted per what could have been accepted between the first and the last one."""
    possible = rate_per_s * span_s + burst_units
    if possible <= 0:
        raise ValueError("nothing could have been accepted")
    return units / possible


def good_answers(stats: Iterable[Stats]) -> dict[str, int]:
    """Good answers per prompt, over several lives of a provider."""
    found: dict[str, int] = {}
    for each in stats:
        for prompt, counts in each["prompts"].items():
            found[prompt] = found.get(prompt, 0) + counts["answered"]
    return found


def paid_twice(stats: Iterable[Stats]) -> int:
    """Good answers beyond the first of each prompt."""
    return sum(answers - 1 for answers in good_answers(stats).values() if answers > 1)


def unanswered(stats: Iterable[Stats]) -> int:
    """Prompts that were asked and never got a good answer: their rows may rightly fail."""
    return sum(not answers for answers in good_answers(stats).values())
