"""Tables of ours that hold a run's rows slice by slice.

Belongs here: how they are made. Not here: what is in them (freezing.py, publishing.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.cloud import bigquery

from batch_llm.warehouse.bigquery.frozen_table import MOST_SLICES
from batch_llm.warehouse.bigquery.names import TableName

__all__ = ["expires_at", "one_per_slice", "sliced_table"]


def expires_at(days: float) -> datetime:
    """When a table that is made now is dropped by itself."""
    return datetime.now(UTC) + timedelta(days=days)


def one_per_slice(by: str) -> bigquery.RangePartitioning:
    """A partition for each slice; ``by``: the column with the slice's number."""
    return bigquery.RangePartitioning(field=by, range_=bigquery.PartitionRange(start=0, end=MOST_SLICES, interval=1))


def sliced_table(
    name: TableName,
    fields: Sequence[bigquery.SchemaField],
    by: str,
    *,
    expires: datetime | None = None,
    description: str | None = None,
) -> bigquery.Table:
    """A table that is to be made, one partition per slice; ``by``: the column with the slice's number."""
    table = bigquery.Table(name.path, schema=list(fields))
    table.range_partitioning = one_per_slice(by)
    table.expires = expires
    table.description = description
    return table
