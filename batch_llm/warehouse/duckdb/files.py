"""Files as inputs: finding them, telling their version, making them readable for DuckDB.

Belongs here: .parquet .csv .jsonl .arrow .feather, one file or a glob. Not here: tables (sources.py), the reading
of odd newlines (csv_text.py, jsonl_text.py) and of Parquet's long rows (long_rows.py), writing (parquet_file.py).
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from batch_llm.errors import InputError
from batch_llm.warehouse.duckdb import jsonl_text
from batch_llm.warehouse.duckdb.catalog import columns_of
from batch_llm.warehouse.duckdb.column_types import json_type, may_be_more_than_text, types_of_texts
from batch_llm.warehouse.duckdb.csv_text import delimiter, first_odd_line, with_one_newline
from batch_llm.warehouse.duckdb.long_rows import in_small_groups
from batch_llm.warehouse.duckdb.names import literal, quoted
from batch_llm.warehouse.duckdb.statements import reason, statement
from batch_llm.warehouse.refs import FILE_SUFFIXES, listed, nearest

__all__ = ["FileSet", "attach", "find_files", "open_files"]

_VIEW = '"batch_llm_files"'
_REGISTERED = "batch_llm_files"
_FIELDS_OF_A_MAP = 200  # DuckDB's own number: an object of more different fields, all of one type, is a map
_TEXTS = '"batch_llm_texts"'  # what a file of text holds, before its columns have types


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files that one ref means, in reading order, all of one format."""

    ref: str
    paths: tuple[Path, ...]
    suffix: str
    version: str  # of names, sizes and times of change
    size_bytes: int
    modified_at: datetime


def find_files(ref: str) -> list[Path]:
    """The files that a path or glob (``*``, ``?``, ``[..]``, ``**``) means, by name; a file of that very name wins."""
    literally = Path(ref)
    if literally.is_file():
        return [literally.absolute()]
    return sorted(Path(found).absolute() for found in glob.glob(ref, recursive=True) if Path(found).is_file())


def open_files(ref: str) -> FileSet:
    """Find and look at the files. Raises `InputError` that says what was looked for and where."""
    paths = find_files(ref)
    if not paths:
        raise InputError(_missing(Path(ref)))
    suffixes = sorted({path.suffix.lower() for path in paths})
    if len(suffixes) > 1:
        raise InputError(f"{ref!r} matches files of several formats ({', '.join(suffixes)}); one input has one format")
    if suffixes[0] not in FILE_SUFFIXES:
        raise InputError(f"{ref!r}: {suffixes[0] or 'a file without suffix'} is none of {', '.join(FILE_SUFFIXES)}")
    stats = [path.stat() for path in paths]
    if not any(stat.st_size for stat in stats):
        raise InputError(f"{ref} is empty: it has no rows, and no names of columns")
    facts = "\n".join(f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}" for path, stat in zip(paths, stats, strict=True))
    return FileSet(
        ref=ref,
        paths=tuple(paths),
        suffix=suffixes[0],
        version="files:" + hashlib.sha256(facts.encode()).hexdigest()[:32],
        size_bytes=sum(stat.st_size for stat in stats),
        modified_at=datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC),
    )


def _missing(path: Path) -> str:
    folder = path.parent
    if path.is_dir():
        return f"{path} is a folder; name its files, for example {path}/*.parquet"
    if glob.has_magic(str(path)):
        return f"no file matches {path}"
    if not folder.is_dir():
        return f"no file {path}: there is no folder {folder}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in FILE_SUFFIXES)
    return f"no file {path.name!r} in {folder}{nearest(path.name, names)}; readable files there: {listed(names)}"


def attach(connection: duckdb.DuckDBPyConnection, files: FileSet, temporary: Path) -> str:
    """Make the files one relation of this connection; returns its name for SQL. Raises `InputError`."""
    try:
        if files.suffix in (".arrow", ".feather"):
            connection.register(_REGISTERED, _ArrowFiles(files.paths))
            connection.execute(f"DESCRIBE {_VIEW}").fetchall()
        elif files.suffix == ".csv":
            _attach_csv(connection, files, temporary)
        elif files.suffix == ".parquet":
            paths = tuple(in_small_groups(path, temporary) for path in files.paths)
            _view(connection, _VIEW, statement("scan_parquet", files=_listed(paths)))
        else:
            _attach_json(connection, files, temporary)
    except UnicodeDecodeError as error:
        raise InputError(f"{files.ref} is not UTF-8 text (at byte {error.start:,}); save it as UTF-8") from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise InputError(f"{files.ref} cannot be read as {files.suffix}: {reason(error)}") from error
    return _VIEW


def _attach_csv(connection: duckdb.DuckDBPyConnection, files: FileSet, temporary: Path) -> None:
    try:
        _csv_view(connection, files.paths)
    except duckdb.InvalidInputException:  # what the strict reader says to newlines of several kinds
        copies = tuple(temporary / f"{number:06}.csv" for number in range(len(files.paths)))
        for path, copy in zip(files.paths, copies, strict=True):
            with_one_newline(path, copy)
        try:
            _csv_view(connection, copies)
        except duckdb.InvalidInputException as error:
            for path, copy in zip(files.paths, copies, strict=True):
                if odd := first_odd_line(copy):
                    raise InputError(f"{path} cannot be read as CSV: {odd}") from error
            raise


def _csv_view(connection: duckdb.DuckDBPyConnection, paths: tuple[Path, ...]) -> None:
    _view(connection, _TEXTS, statement("scan_csv", files=_listed(paths), delimiter=literal(delimiter(paths[0]))))
    _typed_view(connection, types_of_texts(connection, _TEXTS, list(columns_of(connection, _TEXTS))))


def _attach_json(connection: duckdb.DuckDBPyConnection, files: FileSet, temporary: Path) -> None:
    try:
        _json_view(connection, files.ref, files.paths)
    except (duckdb.InvalidInputException, duckdb.BinderException):  # the latter: lines that are no objects
        copies = tuple(temporary / f"{number:06}.jsonl" for number in range(len(files.paths)))
        changed = [jsonl_text.with_line_feeds(path, copy) for path, copy in zip(files.paths, copies, strict=True)]
        for path, copy in zip(files.paths, copies, strict=True):
            if odd := jsonl_text.first_odd_line(copy):
                raise InputError(f"{path} cannot be read as JSON lines: {odd}") from None
        if not any(changed):
            raise
        _json_view(connection, files.ref, copies)


def _json_view(connection: duckdb.DuckDBPyConnection, ref: str, paths: tuple[Path, ...]) -> None:
    try:
        detected = _json_columns(connection, paths, _FIELDS_OF_A_MAP)
    except duckdb.BinderException:  # so many fields of one type that DuckDB takes the whole row for a map
        detected = _json_columns(connection, paths, -1)
    uncertain = [column for column, found in detected.items() if may_be_more_than_text(found)]
    types = {column: "VARCHAR" if column in uncertain else json_type(found) for column, found in detected.items()}
    fields = ", ".join(f"{literal(column)}: {literal(type_name)}" for column, type_name in types.items())
    _view(connection, _TEXTS, statement("scan_json", files=_listed(paths), columns=f"{{{fields}}}"))
    _refuse_renamed(connection, ref, [column for column, found in detected.items() if found != '"NULL"'])
    _typed_view(connection, types | types_of_texts(connection, _TEXTS, uncertain))


def _refuse_renamed(connection: duckdb.DuckDBPyConnection, ref: str, filled: list[str]) -> None:
    """Of the fields ``id`` and ``Id`` DuckDB calls the second ``Id_1``, which no line has."""
    known = {column.lower() for column in filled}
    for column in filled:
        name, _, number = column.rpartition("_")
        if number.isdigit() and name.lower() in known:
            values = connection.execute(f"SELECT count({quoted(column)}) FROM {_TEXTS}").fetchall()[0][0]
            if not values:
                raise InputError(f"{ref}: two fields are called {name!r} but for upper and lower case; rename one")


def _json_columns(connection: duckdb.DuckDBPyConnection, paths: tuple[Path, ...], fields: int) -> dict[str, str]:
    return columns_of(connection, f"({statement('detect_json', files=_listed(paths), fields_of_a_map=str(fields))})")


def _listed(paths: tuple[Path, ...]) -> str:
    # DuckDB would read a name with brackets as a pattern; the patterns are resolved already
    return "[" + ", ".join(literal(glob.escape(str(path))) for path in paths) + "]"


def _view(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}").fetchall()


def _typed_view(connection: duckdb.DuckDBPyConnection, types: dict[str, str]) -> None:
    columns = ", ".join(f"CAST({quoted(name)} AS {type_name}) AS {quoted(name)}" for name, type_name in types.items())
    _view(connection, _VIEW, statement("select", columns=columns, source=_TEXTS, where="TRUE"))


class _ArrowFiles:
    """Arrow IPC files (file or stream format) as one stream that DuckDB may begin as often as it likes."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schemas = []
        for path in self._paths:
            with pa.memory_map(str(path)) as source:
                schemas.append(_ipc(source).schema)
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        reader = pa.RecordBatchReader.from_batches(schema, self._batches(schema))
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with pa.memory_map(str(path)) as source:
                opened = _ipc(source)
                if isinstance(opened, pa.ipc.RecordBatchFileReader):
                    batches: Iterator[pa.RecordBatch] = (
                        opened.get_batch(number) for number in range(opened.num_record_batches)
                    )
                else:
                    batches = iter(opened)
                for batch in batches:
                    yield _aligned(batch, schema)


def _ipc(source: pa.NativeFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    columns = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
