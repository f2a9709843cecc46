"""Promotion: a run's published rows into the output table or file, all or nothing.

Belongs here: which row takes the place of which, and doing it. Not here: whether the output can take the rows at
all (outputs.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.warehouse.base import Mode, Published
from batch_llm.warehouse.duckdb.catalog import columns_of, find, key_comment
from batch_llm.warehouse.duckdb.database import Database, transaction
from batch_llm.warehouse.duckdb.names import TableName, quoted
from batch_llm.warehouse.duckdb.publishing import required_run_table
from batch_llm.warehouse.duckdb.sources import streamed
from batch_llm.warehouse.duckdb.statements import statement
from batch_llm.warehouse.duckdb.vectors import own_file
from batch_llm.warehouse.output_rules import GIVES_WAY, refuse_foreign
from batch_llm.warehouse.parquet_file import ParquetOutput, sync_folder
from batch_llm.warehouse.refs import is_file

__all__ = ["KEY_METADATA", "promote"]

KEY_METADATA = b"batch_llm.key"  # in the footer of an output file: the key columns, JSON


def promote(database: Database, run_id: str, table: str, key: Sequence[str], mode: Mode) -> Published:
    """See `Warehouse.promote`."""
    parts = {
        "same_key": " AND ".join(f"present.{quoted(column)} = incoming.{quoted(column)}" for column in key),
        "gives_way": GIVES_WAY[mode],
    }

    def bring_in(connection: duckdb.DuckDBPyConnection) -> Published:
        whole = {**parts, "incoming": required_run_table(connection, run_id).sql}
        if is_file(table):
            return _promote_to_file(connection, Path(table), tuple(key), mode, whole)
        return _promote_to_table(connection, TableName.parse(table, OutputError), tuple(key), mode, whole)

    # the file's merge takes the warehouse's turn as well, so that two promotions into one file do not cross
    return database.write_lean(bring_in)


def _promote_to_table(
    connection: duckdb.DuckDBPyConnection, name: TableName, key: tuple[str, ...], mode: Mode, parts: dict[str, str]
) -> Published:
    entry = find(connection, name)
    target = entry.name if entry else name
    parts = {**parts, "present": target.sql, "schema": quoted(target.schema), "comment": key_comment(key)}
    if entry is None:
        steps = ["create_schema", "create_output", "comment_output"]
    else:
        refuse_foreign(columns_of(connection, target.sql), name.ref)
        steps = []
    if mode == "replace":
        steps.append("delete_other_keys")
    with transaction(connection):
        for step in (*steps, "delete_what_gives_way", "insert_missing_keys"):
            connection.execute(statement(step, **parts)).fetchall()
    rows = connection.execute(f"SELECT count(*) FROM {target.sql}").fetchall()[0][0]
    return Published(rows, target.ref)


def _promote_to_file(
    connection: duckdb.DuckDBPyConnection, path: Path, key: tuple[str, ...], mode: Mode, parts: dict[str, str]
) -> Published:
    path = Path(os.path.realpath(path))  # a link stays a link, what it points to is rewritten
    query = f"SELECT * FROM {parts['incoming']}"
    if path.exists():
        present = own_file(path)
        refuse_foreign(columns_of(connection, present), str(path))
        parts = {**parts, "present": present}
        kept = statement("has_incoming", **parts) if mode == "replace" else "TRUE"
        query = statement("merge_file", **parts, kept=kept)
    reader = streamed(connection, query, WarehouseError, f"output {str(path)!r}")
    schema = reader.schema.with_metadata({KEY_METADATA: json.dumps(key).encode()})
    beside = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ParquetOutput(beside, schema) as file:
            for batch in reader:
                file.write(batch)
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise WarehouseError(f"output {str(path)!r} cannot be written: {error}; the old file is as it was") from error
    finally:
        reader.close()
        beside.unlink(missing_ok=True)
    return Published(file.rows, str(path))
