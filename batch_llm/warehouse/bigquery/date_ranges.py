"""The filter that picks a range of dates out of an input.

Belongs here: the condition in BigQuery's SQL. Not here: which ranges there are (job/date_partitions.py).
The column stands alone on its side, against constants: so BigQuery reads, and bills, only the partitions of the range
where the table is partitioned by that column.
Source: https://cloud.google.com/bigquery/docs/querying-partitioned-tables (read 2026-11-29).
"""

from __future__ import annotations

from batch_llm.errors import InputError
from batch_llm.warehouse.base import DateRange
from batch_llm.warehouse.bigquery.jobs import Jobs
from batch_llm.warehouse.bigquery.names import quoted
from batch_llm.warehouse.bigquery.schema import kind_of, type_word
from batch_llm.warehouse.bigquery.sources import check_where, opened
from batch_llm.warehouse.bigquery.statements import enclosed
from batch_llm.warehouse.input_rules import no_dates

__all__ = ["within"]

_MIDNIGHTS = {
    "DATE": "DATE '{day}'",
    "DATETIME": "DATETIME '{day} 00:00:00'",
    "TIMESTAMP": "TIMESTAMP '{day} 00:00:00+00'",
}


def within(jobs: Jobs, ref: str, dates: DateRange, where: str | None) -> str:
    """See `Warehouse.within`."""
    source = opened(jobs, ref)
    source.selected((dates.column,))
    field = next(field for field in source.table.schema if field.name == dates.column)
    midnight = _MIDNIGHTS.get(kind_of(field)) if field.mode != "REPEATED" else None
    if midnight is None:
        raise no_dates(ref, dates.column, type_word(field))
    first, end = (midnight.format(day=day) for day in (dates.start, dates.end))
    column = quoted(dates.column)
    picked = f"{column} >= {first} AND {column} < {end}"
    check_where(jobs, source.sql, where, InputError, picked)
    return f"{picked} AND {enclosed(where)}"
