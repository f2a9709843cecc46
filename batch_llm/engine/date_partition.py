"""A run over one date partition of its job's input: what it reads, and which earlier runs are of the same one.

Belongs here: what is refused before anything is frozen, the filter of the rows, the earlier runs. Not here: which
partitions there are (job/date_partitions.py), the filter's SQL (warehouse).
"""

from __future__ import annotations

import pyarrow as pa

from batch_llm.config.yaml_source import Problem
from batch_llm.engine.parts import JobParts
from batch_llm.errors import ConfigurationError, InputError
from batch_llm.job.date_partitions import DatePartition
from batch_llm.journal.base import RunRecord
from batch_llm.warehouse.base import DateRange

__all__ = ["check_partition", "date_range", "earlier_runs", "latest_run", "row_filter"]


def check_partition(parts: JobParts, schema: pa.Schema) -> None:
    """Refuse a column that holds no dates, a job whose partition nobody chose, and one that is not over yet."""
    declared, schedule = parts.declared, parts.declared.job.schedule
    if schedule is None or declared.partitions is None:
        return
    kind = schema.field(str(schedule.column)).type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        reason = (
            f"the column {schedule.column!r} holds {kind}, and dates are wanted (DATE, DATETIME or TIMESTAMP); name "
            "another one, or turn it into a date in a view and take that as the input"
        )
        raise InputError(declared.source.message([Problem(("schedule", "column"), reason)]))
    chosen = _chosen(parts)
    if chosen is not None and not chosen.is_over(parts.clock.now()):
        raise ConfigurationError(
            f"job {declared.job.name!r}: the partition {chosen.key} is not over before {chosen.end} 00:00 UTC; rows "
            "that come until then would be missed"
        )


def _chosen(parts: JobParts) -> DatePartition | None:
    """The partition to run; None for a job that has none. Raises `ConfigurationError` when nobody chose one."""
    declared = parts.declared
    chosen, partitions = declared.partition, declared.partitions
    if chosen is not None or partitions is None:
        return chosen
    latest = partitions.latest_over(parts.clock.now())
    example = "none is over yet" if latest is None else f"the latest that is over: --partition {latest.key}"
    raise ConfigurationError(
        f"job {declared.job.name!r} runs one date partition at a time ({partitions.cadence}, from {partitions.start}); "
        f"say which ({example})"
    )


def date_range(parts: JobParts) -> DateRange | None:
    """The range of dates to read; None for a job that reads all of its input."""
    schedule, chosen = parts.declared.job.schedule, parts.declared.partition
    if schedule is None or chosen is None:
        return None
    return DateRange(str(schedule.column), chosen.start, chosen.end)


def row_filter(parts: JobParts) -> str | None:
    """Which rows of the input the run is over, in the warehouse's SQL; None: all of them; blocking."""
    where, dates = parts.declared.job.input.where, date_range(parts)
    return where if dates is None else parts.warehouse.within(parts.source, dates, where)


def earlier_runs(parts: JobParts) -> list[RunRecord]:
    """The job's runs so far, newest first; of a job with date partitions those over the same one; blocking."""
    job = parts.declared.job
    return [record for record in parts.runs.all(job.name) if record.partition == job.input.partition]


def latest_run(parts: JobParts) -> RunRecord | None:
    """The newest of `earlier_runs`, if any; blocking. Raises `ConfigurationError` when nobody chose a partition."""
    _chosen(parts)
    return next(iter(earlier_runs(parts)), None)
