"""An input, opened: a table or view of the DuckDB file, or files, as one relation with columns and a version.

Belongs here: opening, versions, choosing columns and rows, streaming. Not here: writing anything (freezing.py).
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.errors import BatchLLMError, InputError, WarehouseError
from batch_llm.warehouse.base import TableInfo
from batch_llm.warehouse.duckdb.catalog import columns_of, find, tables_and_views
from batch_llm.warehouse.duckdb.column_types import portable_type
from batch_llm.warehouse.duckdb.database import Database
from batch_llm.warehouse.duckdb.files import FileSet, attach, find_files, open_files
from batch_llm.warehouse.duckdb.names import INTERNAL_SCHEMA, TableName, quoted
from batch_llm.warehouse.duckdb.statements import condition, reason, statement
from batch_llm.warehouse.refs import FILE_SUFFIXES, LIVE_SUFFIX, is_file, listed, nearest

__all__ = ["Source", "count", "describe", "file_rows", "head", "matching", "opened", "selection", "streamed"]

STREAM_ROWS = 2048  # DuckDB's own vector; larger batches only cost memory
_HEAD_STEP_ROWS = 8
_HEAD_BYTES = 4 << 20  # a head of longer rows has fewer of them


@dataclass(frozen=True, slots=True)
class Source:
    """An input that is open on a connection, until the block of `opened` ends."""

    ref: str
    connection: duckdb.DuckDBPyConnection
    relation: str  # what stands after FROM
    columns: dict[str, str]  # name: DuckDB type
    files: FileSet | None  # None for a table

    def version(self) -> str:
        """Changes whenever the content may have changed. A table is read through for it: DuckDB keeps no versions."""
        if self.files is not None:
            return open_files(self.ref).version
        parts = {"source": self.relation, "columns": ", ".join(quoted(column) for column in self.columns)}
        content = self.connection.execute(statement("table_version", **parts)).fetchall()[0]
        return "table:" + hashlib.sha256(repr((content, self.columns)).encode()).hexdigest()[:32]


@contextmanager
def opened(database: Database, ref: str) -> Iterator[Source]:
    """Open an input. Raises `InputError` that says what was looked for, where, and the nearest name."""
    if is_file(ref):
        files = open_files(ref)
        with database.temporary_folder() as temporary, database.scratch() as connection:
            relation = attach(connection, files, temporary)
            yield Source(ref, connection, relation, columns_of(connection, relation), files)
        return
    name = TableName.parse(ref, InputError)
    with database.read() as connection:
        entry = find(connection, name)
        if entry is None:
            there = [e.name.ref for e in tables_and_views(connection) if e.name.schema != INTERNAL_SCHEMA]
            raise InputError(
                f"no table {ref!r} in the warehouse {database.path}{nearest(ref, there)}; tables there: "
                f"{listed(there)}. A file would end in {', '.join(FILE_SUFFIXES)}"
            )
        relation = entry.name.sql
        yield Source(ref, connection, relation, columns_of(connection, relation), None)


def selection(source: Source, columns: Sequence[str], where: str | None) -> str:
    """The statement that reads these columns and rows. Raises `InputError` for an absent column or a bad filter."""
    for column in columns:
        if column not in source.columns:
            raise InputError(
                f"input {source.ref!r} has no column {column!r}{nearest(column, source.columns)}; "
                f"its columns: {listed(source.columns)}"
            )
    chosen = ", ".join(_portable(column, source.columns[column]) for column in columns or source.columns)
    query = statement("select", columns=chosen, source=source.relation, where=condition(where, InputError, "where"))
    try:
        source.connection.execute(f"DESCRIBE {query}").fetchall()
    except duckdb.Error as error:
        raise InputError(f"input {source.ref!r}, where {where!r}: {reason(error)}") from error
    return query


def _portable(column: str, type_name: str) -> str:
    cast = portable_type(type_name)
    return f"CAST({quoted(column)} AS {cast}) AS {quoted(column)}" if cast else quoted(column)


def streamed(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    refuse: type[BatchLLMError],
    what: str,
    batch_rows: int = STREAM_ROWS,
) -> pa.RecordBatchReader:
    """The rows of a query as they are computed; a failure on the way raises ``refuse``. Drain it or close it."""
    try:
        reader = connection.sql(query).to_arrow_reader(batch_rows)
    except duckdb.Error as error:
        raise _failure(error, refuse, what) from error
    return pa.RecordBatchReader.from_batches(reader.schema, _guarded(reader, refuse, what))


def _guarded(reader: pa.RecordBatchReader, refuse: type[BatchLLMError], what: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # 2.0 reports a failing row as OSError, 1.5 as its own
        raise _failure(error, refuse, what) from error
    finally:
        reader.close()


def _failure(error: Exception, refuse: type[BatchLLMError], what: str) -> BatchLLMError:
    if "out of memory" in str(error).lower():
        return WarehouseError(f"{what} does not fit into the warehouse's memory limit: {reason(error)}")
    if "no space left on device" in str(error).lower():  # what spills, or a file beside it
        return WarehouseError(f"{what}: the disk is full; free some space and run the job again ({reason(error)})")
    return refuse(f"{what}: {reason(error)}")


def describe(database: Database, ref: str) -> TableInfo:
    """See `Warehouse.source`."""
    with opened(database, ref) as source:
        reader = streamed(source.connection, selection(source, (), "FALSE"), InputError, f"input {ref!r}")
        schema = reader.schema
        reader.close()
        files = source.files
        return TableInfo(
            ref=ref,
            version=source.version(),
            rows=_cheap_rows(source),
            size_bytes=files.size_bytes if files else None,
            modified_at=files.modified_at if files else None,
            schema=schema,
        )


def _cheap_rows(source: Source) -> int | None:
    if source.files is None:
        return int(source.connection.execute(f"SELECT count(*) FROM {source.relation}").fetchall()[0][0])
    if source.files.suffix == ".parquet":
        return sum(int(pq.read_metadata(path).num_rows) for path in source.files.paths)
    return None  # the others would have to be read through


def count(database: Database, ref: str, where: str | None) -> int:
    """See `Warehouse.count`."""
    with opened(database, ref) as source:
        query = selection(source, (), where)
        reader = streamed(source.connection, f"SELECT count(*) FROM ({query})", InputError, f"input {ref!r}")
        return int(reader.read_all().column(0)[0].as_py())


def head(database: Database, ref: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
    """See `Warehouse.head`."""
    with opened(database, ref) as source:
        query = selection(source, columns, where)  # without LIMIT: for that DuckDB makes all the rows before the first
        reader = streamed(source.connection, query, InputError, f"input {ref!r}", _HEAD_STEP_ROWS)
        taken: list[pa.RecordBatch] = []
        room_bytes = _HEAD_BYTES
        for batch in reader:
            taken.append(batch.slice(0, rows))
            rows, room_bytes = rows - taken[-1].num_rows, room_bytes - taken[-1].nbytes
            if rows <= 0 or room_bytes <= 0:
                break
        reader.close()
        return pa.Table.from_batches(taken, reader.schema)


@contextmanager
def file_rows(database: Database, path: str) -> Iterator[pa.RecordBatchReader]:
    """See `Warehouse.file_rows`."""
    if not is_file(path):
        raise InputError(f"{path!r} is no file that can be read ({', '.join(FILE_SUFFIXES)})")
    with opened(database, path) as source:
        reader = streamed(source.connection, selection(source, (), None), InputError, f"input {path!r}")
        try:
            yield reader
        finally:
            reader.close()


def matching(database: Database, pattern: str) -> Iterator[TableInfo]:
    """See `Warehouse.tables`. Files are only looked at from outside: no rows, no schema."""
    if is_file(pattern):
        for path in find_files(pattern):
            if path.suffix.lower() in FILE_SUFFIXES:
                yield _listed_file(path)
        return
    wanted = TableName.parse(pattern, InputError)
    with database.read() as connection:
        names = [entry.name for entry in tables_and_views(connection) if _wanted(entry.name, wanted)]
    for name in names:
        yield describe(database, name.ref)


def _listed_file(path: Path) -> TableInfo:
    stat = path.stat()
    modified_at = datetime.fromtimestamp(stat.st_mtime, UTC)
    # a name with a bracket in it is found as itself before it is taken for a pattern
    return TableInfo(str(path), open_files(str(path)).version, None, stat.st_size, modified_at, None)


def _wanted(name: TableName, pattern: TableName) -> bool:
    if name.schema == INTERNAL_SCHEMA or name.table.endswith(LIVE_SUFFIX):
        return False
    return fnmatch.fnmatchcase(name.schema, pattern.schema) and fnmatch.fnmatchcase(name.table, pattern.table)
