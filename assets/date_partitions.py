"""A job's date partitions as Dagster knows them.

Belongs here: that translation. Not here: which days belong together (batch_llm/job/date_partitions.py), slices.
"""

from __future__ import annotations

import dagster as dg

from batch_llm.job.date_partitions import DatePartitions

__all__ = ["time_partitions"]


def time_partitions(partitions: DatePartitions | None) -> dg.TimeWindowPartitionsDefinition | None:
    """The same partitions by the same names; None where a job has none."""
    if partitions is None:
        return None
    start = partitions.start.isoformat()
    if partitions.cadence == "daily":
        return dg.DailyPartitionsDefinition(start_date=start, timezone="UTC")
    if partitions.cadence == "weekly":
        weekday = partitions.start.isoweekday() % 7  # Dagster counts from Sunday, 0
        return dg.WeeklyPartitionsDefinition(start_date=start, timezone="UTC", day_offset=weekday)
    return dg.MonthlyPartitionsDefinition(start_date=start, timezone="UTC")
