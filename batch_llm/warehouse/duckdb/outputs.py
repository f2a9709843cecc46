"""The output as it stands: can it take a job's rows, and what is in it.

Belongs here: checking an output before anything is spent, reading outputs and earlier answers. Not here: writing
rows (publishing.py, promotion.py).
"""

from __future__ import annotations

import fnmatch
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.warehouse.duckdb.catalog import columns_of, find
from batch_llm.warehouse.duckdb.database import Database, transaction
from batch_llm.warehouse.duckdb.files import find_files, open_files
from batch_llm.warehouse.duckdb.names import INTERNAL_SCHEMA, TableName, parquet_scan, quoted, run_table
from batch_llm.warehouse.duckdb.promotion import add_columns, lacking, stored_file_key
from batch_llm.warehouse.duckdb.publishing import free_view
from batch_llm.warehouse.duckdb.sources import streamed
from batch_llm.warehouse.duckdb.statements import condition, statement
from batch_llm.warehouse.duckdb.vectors import own_file
from batch_llm.warehouse.output_rules import check_columns, check_names
from batch_llm.warehouse.refs import RUN_PLACE, is_file, nearest
from batch_llm.warehouse.spool import no_rows, spooled

__all__ = ["Rows", "ensure", "output_version", "prior", "read_rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a place are wanted."""

    place: str  # a table, a .parquet path, or run:<run_id>
    columns: tuple[str, ...] | None = None  # None: all
    where: str | None = None
    limit: int | None = None


def ensure(database: Database, table: str, schema: pa.Schema, key: Sequence[str], source: str | None) -> None:
    """See `Warehouse.ensure`."""
    check_names(table, schema, key)
    if source is not None and _is_input(table, source):
        raise OutputError(f"output {table!r} is (or belongs to) the input {source!r}; give the output another name")
    if is_file(table):
        with database.read() as connection:
            free_view(connection, table)
        _ensure_file(database, Path(table), schema, tuple(key))
    else:
        _ensure_table(database, table, schema, tuple(key))


def _is_input(table: str, source: str) -> bool:
    if is_file(table) != is_file(source):
        return False
    if is_file(table):
        output = os.path.realpath(table)
        found = {os.path.realpath(source), *(os.path.realpath(path) for path in find_files(source))}
        # an output that is not there yet must not become an input of the next run
        return output in found or Path(table).absolute().match(source) or _crosses_folders(table, source)
    names = [TableName.parse(ref, OutputError) for ref in (table, source)]
    return names[0].sql.lower() == names[1].sql.lower()


def _crosses_folders(table: str, pattern: str) -> bool:
    return "**" in pattern and fnmatch.fnmatchcase(str(Path(table).absolute()), pattern)


def _ensure_table(database: Database, table: str, schema: pa.Schema, key: tuple[str, ...]) -> None:
    name = TableName.parse(table, OutputError)
    if name.schema.lower() == INTERNAL_SCHEMA:
        raise OutputError(f"output {name.ref!r}: the schema {INTERNAL_SCHEMA} belongs to batch_llm's own tables")
    with database.temporary_folder() as folder:
        with database.read() as connection:
            free_view(connection, table)
            entry = find(connection, name)
            if entry is None:
                return
            missing = lacking(connection, entry, _types(connection, schema, folder), key)
        if missing:
            with database.write() as connection, transaction(connection):
                add_columns(connection, entry.name, missing)


def _ensure_file(database: Database, path: Path, schema: pa.Schema, key: tuple[str, ...]) -> None:
    if path.suffix.lower() != ".parquet":
        raise OutputError(f"output {str(path)!r}: an output is a .parquet file, or a table (no slash in its name)")
    if path.is_dir():
        raise OutputError(f"output {str(path)!r} is a folder; name a .parquet file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output {str(path)!r}: its folder cannot be made: {error}") from error
    try:
        tempfile.TemporaryFile(dir=path.parent).close()  # rights alone do not tell: /proc, a disk that is read only
    except OSError as error:
        raise OutputError(f"output {str(path)!r} cannot be written in {path.parent}: {error.strerror}") from error
    if path.exists():
        _check_file(database, path, schema, key)


def _check_file(database: Database, path: Path, schema: pa.Schema, key: tuple[str, ...]) -> None:
    stored = stored_file_key(path)
    with database.temporary_folder() as folder, database.scratch() as connection:
        present = columns_of(connection, own_file(path))
        wanted = _types(connection, schema, folder)
    check_columns(str(path), present, wanted, stored, key)


def _types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema, folder: Path) -> dict[str, str]:
    """The DuckDB types these columns get, by the very way that publishing takes: through Parquet."""
    empty = folder / "types.parquet"
    pq.write_table(pa.Table.from_batches([no_rows(schema)]), empty)
    return columns_of(connection, own_file(empty))


def read_rows(database: Database, wanted: Rows) -> Iterator[pa.RecordBatch]:
    """See `Warehouse.rows`. The warehouse is closed before the first batch is handed out."""
    place = wanted.place
    if is_file(place):
        if not Path(place).is_file():
            raise OutputError(f"no output file {place}")
        with database.scratch() as connection:
            return _spooled(database, connection, own_file(place), wanted)
    run_id = place.removeprefix(RUN_PLACE) if place.startswith(RUN_PLACE) else None
    name = run_table(run_id) if run_id is not None else TableName.parse(place, OutputError)
    with database.read() as connection:
        if find(connection, name) is None:
            what = f"run {run_id} has published nothing" if run_id is not None else f"no table {place!r}"
            raise OutputError(f"{what} in the warehouse {database.path}")
        return _spooled(database, connection, name.sql, wanted)


def _spooled(
    database: Database, connection: duckdb.DuckDBPyConnection, relation: str, wanted: Rows
) -> Iterator[pa.RecordBatch]:
    there = columns_of(connection, relation)
    for column in wanted.columns or ():
        if column not in there:
            raise OutputError(f"{wanted.place!r} has no column {column!r}{nearest(column, there)}")
    chosen = ", ".join(quoted(column) for column in wanted.columns or there)
    query = statement("select", columns=chosen, source=relation, where=condition(wanted.where, OutputError, "where"))
    if wanted.limit is not None:
        query += f" LIMIT {int(wanted.limit)}"
    return spooled(streamed(connection, query, OutputError, repr(wanted.place)), database.temporary)


def output_version(database: Database, table: str) -> str:
    """See `Warehouse.output_version`: who answered which question. A file's is that of an input."""
    if is_file(table):
        return open_files(table).version if Path(table).is_file() else ""
    with database.read() as connection:
        relation = _relation(connection, table)
        if relation is None or "llm_request_hash" not in columns_of(connection, relation):
            return ""
        content = connection.execute(statement("output_version", present=relation)).fetchall()[0]
    return "output:" + "-".join(map(str, content))


def prior(database: Database, slice_file: Path, key: Sequence[str], place: str) -> Iterator[pa.RecordBatch]:
    """See `Warehouse.prior`; ``slice_file`` holds the slice's keys.

    A place that does not exist, or has another key, holds nothing.
    """
    incoming = parquet_scan(slice_file)
    with database.read() as connection:
        relation = _relation(connection, place)
        if relation is None:
            return iter(())
        wanted, there = columns_of(connection, incoming), columns_of(connection, relation)
        if "llm_status" not in there or any(there.get(column) != wanted[column] for column in key):
            return iter(())
        same = " AND ".join(f"llm_present.{quoted(column)} = llm_incoming.{quoted(column)}" for column in key)
        keys = f"(SELECT {', '.join(quoted(column) for column in key)} FROM {incoming})"  # others may have any name
        query = statement("prior", present=relation, incoming=keys, same_key=same)
        reader = streamed(connection, query, WarehouseError, f"earlier answers in {relation}")
        return spooled(reader, database.temporary)


def _relation(connection: duckdb.DuckDBPyConnection, place: str) -> str | None:
    """What stands after FROM for an output or a run's published rows; None where there is none."""
    if place.startswith(RUN_PLACE):
        entry = find(connection, run_table(place.removeprefix(RUN_PLACE)))
    elif is_file(place):
        return own_file(place) if Path(place).is_file() else None
    else:
        entry = find(connection, TableName.parse(place, OutputError))
    return None if entry is None else entry.name.sql
