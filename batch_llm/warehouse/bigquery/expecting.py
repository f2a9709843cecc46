"""What a run's statements will bill, before it begins.

Belongs here: dry runs of those whose tables are there already, the least that the others bill. Not here: the freeze
(freezing.py), what they billed in the end (jobs.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batch_llm.warehouse.base import ExpectedStatement, FrozenInput
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.prior import place_of, prior_statement
from batch_llm.warehouse.refs import RUN_PLACE, is_file

__all__ = ["billed", "expected"]

LEAST_BYTES = 10 << 20
"""Billed of each table in a statement, at least; above that whole MiB.
Source: https://cloud.google.com/bigquery/pricing#on_demand_pricing (read 2026-11-28)
"""
_MIB = 1 << 20


def billed(processed_bytes: int, tables: int) -> int:
    """What a statement that reads so much of so many tables is billed."""
    if not processed_bytes:
        return 0
    return max(LEAST_BYTES * tables, -(-processed_bytes // _MIB) * _MIB)


def expected(jobs: Jobs, frozen: FrozenInput, table: str, runs: Sequence[str]) -> tuple[ExpectedStatement, ...]:
    """See `Warehouse.expected`. What reads the run's own answers cannot be known before they are there."""
    slices = len(frozen.slices)
    after = [ExpectedStatement("published", slices + 1, None, LEAST_BYTES)] if slices else []
    if slices and not is_file(table):
        after.append(ExpectedStatement("promote", 1, None, 2 * LEAST_BYTES))
    return (*_of_earlier_answers(jobs, frozen, table, runs), *after)


def _of_earlier_answers(
    jobs: Jobs, frozen: FrozenInput, table: str, runs: Sequence[str]
) -> Iterator[ExpectedStatement]:
    output = () if is_file(table) else (table,)
    for place in (*output, *(f"{RUN_PLACE}{run_id}" for run_id in runs)):
        sql = prior_statement(jobs.connection, frozen, place_of(jobs.connection, place))
        if sql is not None:
            processed = jobs.dry_run(Query("prior", sql)).total_bytes_processed
            bytes_billed = None if processed is None else billed(processed, 2)
            yield ExpectedStatement("prior", 1, bytes_billed, 2 * LEAST_BYTES if bytes_billed else 0)
