"""Tables about tables: INFORMATION_SCHEMA.TABLES, COLUMNS, PARTITIONS and `dataset.__TABLES__`.

Belongs here: their columns and rows. Not here: how a statement reads them (statements.py).
Sources (read 2026-11-28): https://cloud.google.com/bigquery/docs/information-schema-partitions,
https://cloud.google.com/bigquery/docs/information-schema-tables; `__TABLES__` is not documented by Google, its columns
are those that public code reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from tests.bigquery_server.catalog import DatasetRef, Table
from tests.bigquery_server.errors import ApiError, invalid_query

if TYPE_CHECKING:
    from tests.bigquery_server.statements import Reading

__all__ = ["view_of"]

Row = tuple[Any, ...]

TABLES = {
    "table_catalog": "VARCHAR", "table_schema": "VARCHAR", "table_name": "VARCHAR", "table_type": "VARCHAR",
    "is_insertable_into": "VARCHAR", "is_typed": "VARCHAR", "creation_time": "TIMESTAMPTZ",
}  # fmt: skip
COLUMNS = {
    "table_catalog": "VARCHAR", "table_schema": "VARCHAR", "table_name": "VARCHAR", "column_name": "VARCHAR",
    "ordinal_position": "BIGINT", "is_nullable": "VARCHAR", "data_type": "VARCHAR", "is_partitioning_column": "VARCHAR",
    "clustering_ordinal_position": "BIGINT",
}  # fmt: skip
PARTITIONS = {
    "table_catalog": "VARCHAR", "table_schema": "VARCHAR", "table_name": "VARCHAR", "partition_id": "VARCHAR",
    "total_rows": "BIGINT", "total_logical_bytes": "BIGINT", "last_modified_time": "TIMESTAMPTZ",
    "storage_tier": "VARCHAR",
}  # fmt: skip
UNDERSCORED = {
    "project_id": "VARCHAR", "dataset_id": "VARCHAR", "table_id": "VARCHAR", "creation_time": "BIGINT",
    "last_modified_time": "BIGINT", "row_count": "BIGINT", "size_bytes": "BIGINT", "type": "BIGINT",
}  # fmt: skip


def view_of(node: exp.Table, reading: Reading) -> tuple[str, str] | None:
    """What a name of a table about tables holds, as SQL, and that name; None for any other table."""
    parts = [each for part in node.parts for each in str(part.name).split(".")]
    upper = [each.upper() for each in parts]
    if "INFORMATION_SCHEMA" in upper:
        place = upper.index("INFORMATION_SCHEMA")
        name, before = ".".join(upper[place + 1 :]), parts[:place]
        if name not in VIEWS or not before:
            raise invalid_query(
                f"This fake of BigQuery has no INFORMATION_SCHEMA.{name} of {'.'.join(before) or 'a project'}"
            )
        columns, rows = VIEWS[name]
    elif upper[-1] == "__TABLES__":
        name, before = "__TABLES__", parts[:-1]
        columns, rows = UNDERSCORED, _underscored
    else:
        return None
    ref = DatasetRef(before[0] if len(before) > 1 else reading.project, before[-1])
    dataset = reading.state.catalog.dataset(ref)
    reading.location = reading.location or dataset.location
    if dataset.location.lower() != reading.location.lower():
        raise ApiError("notFound", f"Not found: Dataset {ref} was not found in location {reading.location}")
    found = (row for table in reading.state.catalog.tables_of(ref) for row in rows(table))
    return _select(columns, list(found)), name


def _select(columns: dict[str, str], rows: list[Row]) -> str:
    names = ", ".join(columns)
    casts = ", ".join(f"CAST({name} AS {type_}) AS {name}" for name, type_ in columns.items())
    values = ", ".join("(" + ", ".join(_sql(each) for each in row) + ")" for row in rows)
    if not rows:
        values = "(" + ", ".join("NULL" for _ in columns) + ")"
    return f"SELECT {casts} FROM (VALUES {values}) AS rows({names})" + ("" if rows else " WHERE FALSE")


def _sql(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def _tables(table: Table) -> Iterator[Row]:
    kind = "VIEW" if table.view is not None else "BASE TABLE"
    insertable = "NO" if table.view is not None else "YES"
    ref = table.ref
    yield ref.project, ref.dataset, ref.table, kind, insertable, "NO", _time(table.created_ms)


def _columns(table: Table) -> Iterator[Row]:
    cut_by = (table.partitioning.column or "").lower() if table.partitioning else None
    clustered = {name.lower(): place for place, name in enumerate(table.clustering, start=1)}
    for place, field in enumerate(table.schema, start=1):
        yield (
            table.ref.project, table.ref.dataset, table.ref.table, field.name, place,
            "NO" if field.mode == "REQUIRED" else "YES", field.sql,
            "YES" if field.name.lower() == cut_by else "NO", clustered.get(field.name.lower()),
        )  # fmt: skip


def _partitions(table: Table) -> Iterator[Row]:
    """A table that is not partitioned has one row, without a partition_id."""
    if table.view is not None:
        return
    ref = table.ref
    found = table.now.partitions()
    if table.partitioning is None:
        found = {"": (table.now.rows, table.now.bytes)}
    for partition, (rows, size) in sorted(found.items()):
        changed_ms = table.partitions_modified_ms.get(partition, table.modified_ms)
        yield ref.project, ref.dataset, ref.table, partition or None, rows, size, _time(changed_ms), "ACTIVE"


def _underscored(table: Table) -> Iterator[Row]:
    ref, view = table.ref, table.view is not None
    rows, size = (0, 0) if view else (table.now.rows, table.now.bytes)
    yield ref.project, ref.dataset, ref.table, table.created_ms, table.modified_ms, rows, size, 2 if view else 1


VIEWS: dict[str, tuple[dict[str, str], Callable[[Table], Iterator[Row]]]] = {
    "COLUMNS": (COLUMNS, _columns),
    "PARTITIONS": (PARTITIONS, _partitions),
    "TABLES": (TABLES, _tables),
}
