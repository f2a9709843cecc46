"""The form of a case: what it shows, what is promised, how it runs.

Belongs here: records. Not here: the list of cases (cases.py), running one (the file of each kind).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Case", "Findings", "Scope", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it must be."""

    figure: str  # a key of Findings.figures
    bound: Literal[">=", "<="]
    value: float

    def is_met(self, value: float | None) -> bool:
        """Whether the figure is there and good enough; a number that is none never is."""
        if value is None:
            return False
        return value >= self.value if self.bound == ">=" else value <= self.value


@dataclass(slots=True)
class Findings:
    """What one run of a case gave."""

    figures: dict[str, float] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)  # what the user saw, and what else is worth a line
    trouble: list[str] = field(default_factory=list)  # why the figures cannot be trusted; fails the case


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of a case to run, and where."""

    folder: Path  # empty, the case's own
    quick: bool = False
    part: float = 1.0  # of the rows; below 1 only to see that a case works

    def rows(self, full: int, quick: int) -> int:
        """How many rows, at least 20."""
        return max(20, round((quick if self.quick else full) * self.part))


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    about: str
    run: Callable[[Scope], Findings]
    targets: tuple[Target, ...] = ()
