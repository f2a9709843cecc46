"""The filter that picks a range of dates out of an input.

Belongs here: the condition in DuckDB's SQL. Not here: which ranges there are (job/date_partitions.py).
"""

from __future__ import annotations

from batch_llm.errors import InputError
from batch_llm.warehouse.base import DateRange
from batch_llm.warehouse.duckdb.database import Database
from batch_llm.warehouse.duckdb.names import quoted
from batch_llm.warehouse.duckdb.sources import opened, selection
from batch_llm.warehouse.duckdb.statements import condition
from batch_llm.warehouse.input_rules import no_dates

__all__ = ["within"]


def within(database: Database, ref: str, dates: DateRange, where: str | None) -> str:
    """See `Warehouse.within`."""
    with opened(database, ref) as source:
        selection(source, (dates.column,), where)
        kind = source.columns[dates.column]
    if kind != "DATE" and not kind.startswith("TIMESTAMP"):
        raise no_dates(ref, dates.column, kind)
    if kind == "DATE":
        first, end = f"DATE '{dates.start}'", f"DATE '{dates.end}'"
    elif "TIME ZONE" in kind:
        first, end = f"TIMESTAMPTZ '{dates.start} 00:00:00+00'", f"TIMESTAMPTZ '{dates.end} 00:00:00+00'"
    else:
        first, end = f"TIMESTAMP '{dates.start} 00:00:00'", f"TIMESTAMP '{dates.end} 00:00:00'"
    column = quoted(dates.column)
    return f"{column} >= {first} AND {column} < {end} AND {condition(where, InputError, 'where')}"
