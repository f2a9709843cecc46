"""Promotion: a run's published rows into the output table or file, all or nothing.

Belongs here: bringing them in, and columns that an output lacks. Not here: looking before anything is spent
(outputs.py), which row takes the place of which (output_rules.py).
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.folders import sync_to_disk
from batch_llm.warehouse.base import Mode, Published
from batch_llm.warehouse.duckdb.catalog import Entry, columns_of, find, key_comment, stored_key
from batch_llm.warehouse.duckdb.database import Database, transaction
from batch_llm.warehouse.duckdb.names import TableName, quoted, run_table
from batch_llm.warehouse.duckdb.publishing import required_run_table
from batch_llm.warehouse.duckdb.sources import streamed
from batch_llm.warehouse.duckdb.statements import statement
from batch_llm.warehouse.duckdb.vectors import own_file
from batch_llm.warehouse.output_rules import GIVES_WAY, IS_THE_SAME, check_columns
from batch_llm.warehouse.parquet_file import ParquetOutput
from batch_llm.warehouse.refs import is_file

__all__ = ["add_columns", "holds", "lacking", "promote", "replacement", "stored_file_key"]

_PARTIAL = ".partial-"
_KEY_METADATA = b"batch_llm.key"  # in the footer of an output file: the key columns, JSON


def promote(database: Database, run_id: str, table: str, key: Sequence[str], mode: Mode) -> Published:
    """See `Warehouse.promote`."""
    parts = _parts(key, mode)

    def bring_in(connection: duckdb.DuckDBPyConnection) -> Published:
        whole = {**parts, "incoming": required_run_table(connection, run_id).sql}
        if is_file(table):
            return _promote_to_file(connection, Path(table), tuple(key), mode, whole)
        return _promote_to_table(connection, TableName.parse(table, OutputError), tuple(key), mode, whole)

    # the file's merge takes the warehouse's turn as well, so that two promotions into one file do not cross
    return database.write_lean(bring_in)


def holds(database: Database, run_id: str, table: str, key: Sequence[str], mode: Mode) -> bool:
    """See `Warehouse.holds`."""
    others = "TRUE" if mode == "replace" else "FALSE"
    with database.read() as connection:
        incoming, present = find(connection, run_table(run_id)), _standing(connection, table)
        if incoming is None or present is None:
            return False
        parts = {**_parts(key, mode), "incoming": incoming.name.sql, "present": present}
        query = statement("differing", **parts, same=IS_THE_SAME, others=others)
        return bool(connection.execute(query).fetchall()[0][0] == 0)


def _standing(connection: duckdb.DuckDBPyConnection, table: str) -> str | None:
    """The output, to stand after FROM; None when there is none."""
    if is_file(table):
        return own_file(Path(table)) if Path(table).is_file() else None
    entry = find(connection, TableName.parse(table, OutputError))
    return None if entry is None else entry.name.sql


def _parts(key: Sequence[str], mode: Mode) -> dict[str, str]:
    same_key = " AND ".join(f"llm_present.{quoted(column)} = llm_incoming.{quoted(column)}" for column in key)
    return {"same_key": same_key, "gives_way": GIVES_WAY[mode]}


def _promote_to_table(
    connection: duckdb.DuckDBPyConnection, name: TableName, key: tuple[str, ...], mode: Mode, parts: dict[str, str]
) -> Published:
    entry = find(connection, name)
    target = entry.name if entry else name
    parts = {**parts, "present": target.sql, "schema": quoted(target.schema), "comment": key_comment(key)}
    if entry is None:
        steps = ["create_schema", "create_output", "comment_output"]
        missing: dict[str, str] = {}
    else:
        steps, missing = [], lacking(connection, entry, columns_of(connection, parts["incoming"]), key)
    if mode == "replace":
        steps.append("delete_other_keys")
    with transaction(connection):
        add_columns(connection, target, missing)
        for step in (*steps, "delete_what_gives_way", "insert_missing_keys"):
            connection.execute(statement(step, **parts)).fetchall()
    rows = connection.execute(f"SELECT count(*) FROM {target.sql}").fetchall()[0][0]
    return Published(rows, target.ref)


def lacking(
    connection: duckdb.DuckDBPyConnection, entry: Entry, wanted: Mapping[str, str], key: tuple[str, ...]
) -> dict[str, str]:
    """The columns, of those ``wanted``, that an output table has not. Raises `OutputError` if it cannot take them."""
    if entry.is_view:
        raise OutputError(f"output {entry.name.ref!r} is a view; give the output another name")
    present = columns_of(connection, entry.name.sql)
    check_columns(entry.name.ref, present, wanted, stored_key(entry.comment), key)
    there = {column.lower() for column in present}
    return {column: kind for column, kind in wanted.items() if column.lower() not in there}


def add_columns(connection: duckdb.DuckDBPyConnection, table: TableName, missing: Mapping[str, str]) -> None:
    """Give an output table columns that it lacks."""
    for column, kind in missing.items():
        added = f"ALTER TABLE {table.sql} ADD COLUMN IF NOT EXISTS {quoted(column)} {kind}"
        connection.execute(added).fetchall()


def stored_file_key(path: Path) -> tuple[str, ...] | None:
    """The key that an output file remembers. Raises `OutputError` for a file that is no Parquet file."""
    try:
        stored = (pq.read_metadata(path).metadata or {}).get(_KEY_METADATA)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"output {str(path)!r} exists and is no Parquet file: {error}") from error
    return tuple(json.loads(stored)) if stored else None


def _promote_to_file(
    connection: duckdb.DuckDBPyConnection, path: Path, key: tuple[str, ...], mode: Mode, parts: dict[str, str]
) -> Published:
    path = Path(os.path.realpath(path))  # a link stays a link, what it points to is rewritten
    query = f"SELECT * FROM {parts['incoming']}"
    if path.exists():
        present = own_file(path)
        wanted = columns_of(connection, parts["incoming"])
        check_columns(str(path), columns_of(connection, present), wanted, stored_file_key(path), key)
        parts = {**parts, "present": present}
        kept = statement("has_incoming", **parts) if mode == "replace" else "TRUE"
        query = statement("merge_file", **parts, kept=kept)
    reader = streamed(connection, query, WarehouseError, f"output {str(path)!r}")
    schema = reader.schema.with_metadata({_KEY_METADATA: json.dumps(key).encode()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path) as beside:
            with ParquetOutput(beside, schema, private=False) as file:
                for batch in reader:
                    file.write(batch)
            os.replace(beside, path)
        sync_to_disk(path.parent)
    except OSError as error:
        raise WarehouseError(f"output {str(path)!r} cannot be written: {error}; the old file is as it was") from error
    finally:
        reader.close()
    return Published(file.rows, str(path))


@contextmanager
def replacement(path: Path, mark: str | None = None) -> Iterator[Path]:
    """A file beside an output, to take its place; gone afterwards, and with it what killed promotions left.

    ``mark``: tells it from those of others, the process when not given. Its lock says that somebody writes it.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}{_PARTIAL}*"):
        with suppress(OSError):  # another process was faster, or is still at it
            _unlink_unlocked(left)
    beside = path.with_name(f".{path.name}{_PARTIAL}{mark or os.getpid()}")
    file = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield beside
    finally:
        os.close(file)
        beside.unlink(missing_ok=True)


def _unlink_unlocked(path: Path) -> None:
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(file)
