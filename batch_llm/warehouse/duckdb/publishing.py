"""The published slices of a run: one table per run, replaced slice by slice.

Belongs here: publish, its counters, the live view, forgetting. Not here: the output table (promotion.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import duckdb
import pyarrow as pa

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.base import Published, StatusCounts
from batch_llm.warehouse.duckdb.catalog import find, tables_and_views
from batch_llm.warehouse.duckdb.database import Database, transaction
from batch_llm.warehouse.duckdb.names import INTERNAL_SCHEMA, TableName, literal, live_name, quoted, run_table
from batch_llm.warehouse.duckdb.statements import statement
from batch_llm.warehouse.duckdb.vectors import own_file
from batch_llm.warehouse.output_rules import live_name_taken
from batch_llm.warehouse.parquet_file import ParquetOutput

__all__ = ["forget_published", "free_view", "live_view", "publish", "published", "required_run_table"]

_LIVE = "batch_llm: what is done of run "  # so begins the comment of a live view
_COUNTS = tuple(field.name for field in fields(StatusCounts))


def publish(
    database: Database, run_id: str, number: int, batches: Iterator[pa.RecordBatch], schema: pa.Schema
) -> Published:
    """See `Warehouse.publish`. The rows are collected in a file first; the warehouse is open only to take them in."""
    table = run_table(run_id)
    with database.temporary_folder() as folder:
        collected = folder / "slice.parquet"
        rows = _collect(batches, schema, collected)
        parts = {
            "schema": quoted(INTERNAL_SCHEMA),
            "table": table.sql,
            "collected": own_file(collected),
        }

        def take_in(connection: duckdb.DuckDBPyConnection) -> None:
            _refuse_other_slices(connection, parts, run_id, number)
            with transaction(connection):
                connection.execute(statement("create_run_table", **parts)).fetchall()
                connection.execute(statement("delete_slice", **parts), [number]).fetchall()
                connection.execute(statement("insert_slice", **parts)).fetchall()

        database.write_lean(take_in)
    return Published(rows, table.ref)


def _collect(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    with ParquetOutput(path, schema, durable=False) as file:
        for batch in batches:
            file.write(batch)
    return file.rows


def _refuse_other_slices(
    connection: duckdb.DuckDBPyConnection, parts: dict[str, str], run_id: str, number: int
) -> None:
    others = connection.execute(statement("other_slices", **parts), [number]).fetchall()[0][0]
    if others:  # they would stay when this slice is published again
        raise WarehouseError(f"slice {number} of run {run_id}: {others} rows carry another llm_slice; not published")


def published(database: Database, run_id: str, number: int | None = None) -> dict[int, StatusCounts]:
    """See `Warehouse.published`."""
    table = run_table(run_id)
    with database.read() as connection:
        if find(connection, table) is None:
            return {}
        wanted = {"run": run_id, "number": number}
        rows = connection.execute(statement("status_counts", table=table.sql), wanted).fetchall()
    return {row[0]: StatusCounts(**dict(zip(_COUNTS, row[1:], strict=True))) for row in rows}


def live_view(database: Database, run_id: str, table: str) -> str:
    """See `Warehouse.live_view`."""
    with database.write() as connection:
        source = required_run_table(connection, run_id)
        view = free_view(connection, table)
        parts = {
            "schema": quoted(view.schema),
            "view": view.sql,
            "table": source.sql,
            "comment": literal(_view_comment(run_id)),
        }
        with transaction(connection):
            for step in ("create_schema", "create_live_view", "comment_live_view"):
                connection.execute(statement(step, **parts)).fetchall()
    return view.ref


def free_view(connection: duckdb.DuckDBPyConnection, table: str) -> TableName:
    """The name of an output's live view. Raises `OutputError` where something stands that is none."""
    view = live_name(table)
    taken = find(connection, view)
    if taken is not None and not (taken.is_view and (taken.comment or "").startswith(_LIVE)):
        raise live_name_taken(table, "view" if taken.is_view else "table", taken.name.ref)
    return view


def _view_comment(run_id: str) -> str:
    return f"{_LIVE}{run_id}"


def required_run_table(connection: duckdb.DuckDBPyConnection, run_id: str) -> TableName:
    """The table of a run's published slices. Raises `WarehouseError` when nothing was published."""
    table = run_table(run_id)
    if find(connection, table) is None:
        raise WarehouseError(f"run {run_id} has published nothing in {table.ref}; was it forgotten?")
    return table


def forget_published(database: Database, run_id: str) -> None:
    """Drop the views over a run's rows, then the rows; the space is given back to the file at once."""
    table = run_table(run_id)
    if not database.path.exists():
        return
    with database.write() as connection:
        views = [entry.name for entry in tables_and_views(connection) if entry.comment == _view_comment(run_id)]
        with transaction(connection):
            for view in views:
                connection.execute(f"DROP VIEW IF EXISTS {view.sql}").fetchall()
            connection.execute(f"DROP TABLE IF EXISTS {table.sql}").fetchall()
        connection.execute("CHECKPOINT").fetchall()
