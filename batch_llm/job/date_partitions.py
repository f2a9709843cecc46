"""Date partitions: the days, weeks or months of a job's input that are run one by one.

Belongs here: which there are, what they are called, when one is over. Not here: the rules of the job file (rules.py),
picking a partition's rows (the warehouse), Dagster's own words for them (assets).
A partition is called by its first day, as Dagster calls it; days begin at midnight UTC. Weeks begin on the weekday of
the first partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

__all__ = ["Cadence", "DatePartition", "DatePartitions", "day_of"]

Cadence = Literal["daily", "weekly", "monthly"]

_DAYS = {"daily": 1, "weekly": 7}
_MONTHS_PER_YEAR = 12


@dataclass(frozen=True, slots=True)
class DatePartition:
    """One day, week or month: from ``start`` to just before ``end``."""

    start: date
    end: date

    @property
    def key(self) -> str:
        """What it is called: its first day, as in 2026-01-03."""
        return self.start.isoformat()

    def is_over(self, now: datetime) -> bool:
        """Whether no more of it lies in the future."""
        return now >= datetime.combine(self.end, time(), UTC)


@dataclass(frozen=True, slots=True)
class DatePartitions:
    """All partitions of a cadence from a first one on."""

    cadence: Cadence
    start: date  # the first day of the first partition; of months the first of a month

    def holding(self, day: date) -> DatePartition | None:
        """The partition that a day lies in; None before the first."""
        if day < self.start:
            return None
        if self.cadence == "monthly":
            first = day.replace(day=1)
            return DatePartition(first, _next_month(first))
        length = timedelta(days=_DAYS[self.cadence])
        first = self.start + (day - self.start) // length * length
        return DatePartition(first, first + length)

    def called(self, key: str) -> DatePartition | None:
        """The partition of that name; None when there is none."""
        day = day_of(key)
        found = None if day is None else self.holding(day)
        return found if found is not None and found.start == day else None

    def latest_over(self, now: datetime) -> DatePartition | None:
        """The latest partition that is over; None while the first is not."""
        found = self.holding(now.astimezone(UTC).date())
        return None if found is None else self.holding(found.start - timedelta(days=1))


def day_of(text: str) -> date | None:
    """The day that a text means, written 2026-01-03 and in no other way."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text and day.year < date.max.year else None


def _next_month(first: date) -> date:
    years, month = divmod(first.month, _MONTHS_PER_YEAR)
    return first.replace(year=first.year + years, month=month + 1)
