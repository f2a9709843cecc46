"""BigQuery's limits: how often a table may be changed, how many partitions a job may touch.

Belongs here: the numbers, counting. Not here: the work that is counted.
Source: https://cloud.google.com/bigquery/quotas (read 2026-11-28).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.bigquery_server.catalog import Table, TableRef
from tests.bigquery_server.clock import Clock
from tests.bigquery_server.errors import ApiError

__all__ = ["Limits", "Modifications"]

DAY_MS = 86_400_000
TEN_SECONDS_MS = 10_000


@dataclass(frozen=True)
class Limits:
    """Set by ``server.configure(...)``: a test can make them small, or large to be out of the way."""

    table_changes_per_day: int = 1_500  # loads, copies, query appends and overwrites; failed ones count
    partition_changes_per_day: int = 30_000  # the same, of a table partitioned by a column
    ingestion_partition_changes_per_day: int = 11_000  # the same, of a table partitioned by the time of the load
    table_changes_per_10_s: int = 5
    partitioned_table_changes_per_10_s: int = 50
    metadata_changes_per_10_s: int = 5  # tables.insert, patch and update, DDL
    partitions_per_job: int = 4_000
    partitions_per_table: int = 10_000
    row_bytes: int = 100 * 1024 * 1024  # of a line of JSON
    dml_running_per_table: int = 2
    dml_queued_per_table: int = 20


class Modifications:
    """Counts the jobs that change a table."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._times_ms: dict[TableRef, deque[int]] = {}
        self._metadata_ms: dict[TableRef, deque[int]] = {}

    def count(self, ref: TableRef, table: Table | None, limits: Limits) -> None:
        """One more, or the error that it is too many."""
        times, now_ms = self._times_ms.setdefault(ref.whole, deque()), self.clock.now_ms()
        while times and times[0] <= now_ms - DAY_MS:
            times.popleft()
        times.append(now_ms)
        partitioned = table is not None and table.partitioning is not None
        lately = sum(1 for each in times if each > now_ms - TEN_SECONDS_MS)
        if lately > (limits.partitioned_table_changes_per_10_s if partitioned else limits.table_changes_per_10_s):
            raise _too_fast()
        if len(times) > self._per_day(table, limits):
            what = (
                "number of partition modifications to a column partitioned table"
                if partitioned
                else ("imports or query appends per table")
            )
            raise ApiError(
                "quotaExceeded",
                f"Quota exceeded: Your table exceeded quota for {what}. For more information, see "
                "https://cloud.google.com/bigquery/docs/troubleshoot-quotas",
            )

    def count_metadata(self, ref: TableRef, limits: Limits) -> None:
        """One more change of what is known of a table, or the error that it is too many.

        Source: https://github.com/OHDSI/CohortMethod/issues/94 (read 2026-11-28).
        """
        times, now_ms = self._metadata_ms.setdefault(ref.whole, deque()), self.clock.now_ms()
        while times and times[0] <= now_ms - TEN_SECONDS_MS:
            times.popleft()
        times.append(now_ms)
        if len(times) > limits.metadata_changes_per_10_s:
            raise _too_fast()

    @staticmethod
    def _per_day(table: Table | None, limits: Limits) -> int:
        if table is None or table.partitioning is None:
            return limits.table_changes_per_day
        by_column = table.partitioning.column is not None
        return limits.partition_changes_per_day if by_column else limits.ingestion_partition_changes_per_day


def _too_fast() -> ApiError:
    return ApiError(
        "rateLimitExceeded",
        "Exceeded rate limits: too many table update operations for this table. For more information, see "
        "https://cloud.google.com/bigquery/docs/troubleshoot-quotas",
    )
