"""Files as inputs: finding them, telling their version, making them readable for DuckDB.

Belongs here: .parquet .csv .jsonl .arrow .feather, one file or a glob. Not here: tables (sources.py), what DuckDB is
told of a file (scans.py), odd newlines (csv_text.py, jsonl_text.py), Parquet's long rows (long_rows.py).
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
from batch_llm.warehouse.duckdb.csv_text import first_odd_line, with_one_newline
from batch_llm.warehouse.duckdb.folder_columns import Folders, folder_values
from batch_llm.warehouse.duckdb.long_rows import in_small_groups
from batch_llm.warehouse.duckdb.scans import csv_view, json_view, parquet_view
from batch_llm.warehouse.duckdb.statements import reason
from batch_llm.warehouse.refs import FILE_SUFFIXES, listed, nearest

__all__ = ["FileSet", "attach", "find_files", "open_files"]

_VIEW = '"batch_llm_files"'
_REGISTERED = "batch_llm_files"


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
    folders = folder_values(files.ref, files.paths)
    try:
        if files.suffix in (".arrow", ".feather"):
            connection.register(_REGISTERED, _ArrowFiles(files.paths))
            connection.execute(f"DESCRIBE {_VIEW}").fetchall()
        elif files.suffix == ".csv":
            _attach_csv(connection, files, folders, temporary)
        elif files.suffix == ".parquet":
            parquet_view(connection, _VIEW, [in_small_groups(path, temporary) for path in files.paths], folders)
        else:
            _attach_json(connection, files, folders, temporary)
    except UnicodeDecodeError as error:
        raise InputError(f"{files.ref} is not UTF-8 text (at byte {error.start:,}); save it as UTF-8") from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise InputError(f"{files.ref} cannot be read as {files.suffix}: {reason(error)}") from error
    return _VIEW


def _attach_csv(connection: duckdb.DuckDBPyConnection, files: FileSet, folders: Folders, temporary: Path) -> None:
    try:
        csv_view(connection, _VIEW, files.paths, folders)
    except duckdb.InvalidInputException:  # what the strict reader says to newlines of several kinds
        copies = tuple(temporary / f"{number:06}.csv" for number in range(len(files.paths)))
        for path, copy in zip(files.paths, copies, strict=True):
            with_one_newline(path, copy)
        try:
            csv_view(connection, _VIEW, copies, folders)
        except duckdb.InvalidInputException as error:
            for path, copy in zip(files.paths, copies, strict=True):
                if odd := first_odd_line(copy):
                    raise InputError(f"{path} cannot be read as CSV: {odd}") from error
            raise


def _attach_json(connection: duckdb.DuckDBPyConnection, files: FileSet, folders: Folders, temporary: Path) -> None:
    try:
        json_view(connection, _VIEW, files.paths, folders, files.ref)
    except duckdb.InvalidInputException:
        copies = tuple(temporary / f"{number:06}.jsonl" for number in range(len(files.paths)))
        changed = [jsonl_text.with_line_feeds(path, copy) for path, copy in zip(files.paths, copies, strict=True)]
        for path, copy in zip(files.paths, copies, strict=True):
            if odd := jsonl_text.first_odd_line(copy):
                raise InputError(f"{path} cannot be read as JSON lines: {odd}") from None
        if not any(changed):
            raise
        json_view(connection, _VIEW, copies, folders, files.ref)


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
