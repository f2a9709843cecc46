"""Rows from outside as a table: files and frames that users bring.

Belongs here: making such a table. Not here: what a run writes (publishing.py, promotion.py), reading files (files.py).
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from batch_llm.errors import OutputError
from batch_llm.warehouse.base import Loaded
from batch_llm.warehouse.duckdb.catalog import Entry, columns_of, find
from batch_llm.warehouse.duckdb.database import Database, transaction
from batch_llm.warehouse.duckdb.names import INTERNAL_SCHEMA, TableName, quoted
from batch_llm.warehouse.duckdb.statements import statement
from batch_llm.warehouse.duckdb.vectors import own_file
from batch_llm.warehouse.output_rules import check_loadable, refuse_taken
from batch_llm.warehouse.parquet_file import ParquetOutput

__all__ = ["load"]


def load(database: Database, table: str, rows: pa.RecordBatchReader, *, replace: bool) -> Loaded:
    """See `Warehouse.load`. The rows are collected in a file first; the warehouse is open only to take them in."""
    check_loadable(table, rows.schema)
    name = TableName.parse(table, OutputError)
    if name.schema.lower() == INTERNAL_SCHEMA:
        raise OutputError(f"table {table!r}: the schema {INTERNAL_SCHEMA} belongs to batch_llm's own tables")
    with database.read() as connection:  # before a long file is read
        _free(connection, name, replace=replace)
    with database.temporary_folder() as folder:
        collected = folder / "load.parquet"
        with ParquetOutput(collected, rows.schema, durable=False) as file:
            for batch in rows:
                file.write(batch)

        def take_in(connection: duckdb.DuckDBPyConnection) -> TableName:
            entry = _free(connection, name, replace=replace)  # somebody may have made it meanwhile
            target = entry.name if entry else name
            parts = {"schema": quoted(target.schema), "table": target.sql, "collected": own_file(collected)}
            with transaction(connection):
                for step in ("create_schema", "load_table"):
                    connection.execute(statement(step, **parts)).fetchall()
            return target

        place = database.write_lean(take_in)
        return Loaded(file.rows, collected.stat().st_size, place.ref)


def _free(connection: duckdb.DuckDBPyConnection, name: TableName, *, replace: bool) -> Entry | None:
    """What stands there and may be replaced. Raises `OutputError` when it may not."""
    entry = find(connection, name)
    if entry is not None:
        columns = () if entry.is_view else columns_of(connection, entry.name.sql)
        refuse_taken(name.ref, "view" if entry.is_view else "table", columns, replace=replace)
    return entry
