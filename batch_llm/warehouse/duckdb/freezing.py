"""The frozen input: slices that cannot change under a resume.

Belongs here: checking the key, writing the slices, reading them back. Not here: opening inputs (sources.py).
In a run's folder: frozen/0000.parquet .. and frozen/manifest.json. The folder appears by one rename when all of it is
on the disk, so a crash leaves no half-frozen input.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.errors import InputError, WarehouseError, WarehouseRefused
from batch_llm.folders import private_folder, remove_tree, sync_to_disk
from batch_llm.warehouse.base import FreezeSpec, FrozenInput, SliceInfo
from batch_llm.warehouse.duckdb.database import Database
from batch_llm.warehouse.duckdb.names import parquet_scan, quoted
from batch_llm.warehouse.duckdb.sources import opened, selection, streamed
from batch_llm.warehouse.duckdb.statements import statement
from batch_llm.warehouse.frozen_files import PARTIAL, frozen_folder, slice_path
from batch_llm.warehouse.input_rules import EXAMPLES, duplicate_key, null_key
from batch_llm.warehouse.parquet_file import ParquetOutput

__all__ = ["distinct", "forget_slices", "freeze", "read"]

_MANIFEST = "manifest.json"
# rows are taken out of DuckDB so many at a time: rows of 1 MB are 64 MB then, and 600,000 short ones freeze in 1.0 s
# instead of 0.7 (measured, 2.0.0)
_FREEZE_ROWS = 64


def freeze(database: Database, runs_dir: Path, spec: FreezeSpec) -> FrozenInput:
    """See `Warehouse.freeze`. A run that is frozen already comes back as it was, whatever else the spec says."""
    folder = frozen_folder(runs_dir, spec.run_id)
    if folder.exists():
        return _load(folder)
    private_folder(folder.parent)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PARTIAL))
    try:
        frozen = _freeze_into(partial, database, spec)
        partial.rename(folder)
    except FileExistsError:  # somebody froze the same run meanwhile
        return _load(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # renamed: nothing is there any more
        with suppress(OSError):  # a refused input leaves not even a folder
            folder.parent.rmdir()
    sync_to_disk(folder.parent)
    return frozen


def _freeze_into(folder: Path, database: Database, spec: FreezeSpec) -> FrozenInput:
    columns = tuple(dict.fromkeys((*spec.key, *spec.columns)))
    with opened(database, spec.source) as source:
        version = source.version()
        query = selection(source, columns, spec.where)
        reader = streamed(source.connection, query, InputError, f"input {spec.source!r}", _FREEZE_ROWS)
        sizes = _write_slices(reader, folder, spec.rows_per_slice)
        if source.files is not None and source.version() != version:  # a table stands still while it is open
            raise InputError(f"input {spec.source!r} changed while it was read; run again when it is complete")
    if sizes:
        _check_key(database, folder, spec)
    slices = tuple(SliceInfo(number, rows) for number, rows in enumerate(sizes))
    frozen = FrozenInput(spec.run_id, spec.source, version, spec.key, columns, slices)
    (folder / _MANIFEST).write_text(json.dumps(asdict(frozen), indent=1), "utf-8")
    sync_to_disk(folder / _MANIFEST)
    sync_to_disk(folder)
    return frozen


def _write_slices(reader: pa.RecordBatchReader, folder: Path, rows_per_slice: int) -> list[int]:
    """Cut the stream into files of ``rows_per_slice`` rows; returns the rows of each."""
    sizes: list[int] = []
    with ExitStack() as stack:
        file: ParquetOutput | None = None
        try:
            for batch in reader:
                start = 0
                while start < batch.num_rows:
                    if file is None or file.rows == rows_per_slice:
                        stack.close()  # the slice before this one is complete
                        file = stack.enter_context(ParquetOutput(folder / f"{len(sizes):04}.parquet", reader.schema))
                        sizes.append(0)
                    part = batch.slice(start, rows_per_slice - file.rows)
                    file.write(part)
                    sizes[-1], start = file.rows, start + part.num_rows
        except pa.ArrowNotImplementedError as error:
            raise InputError(f"a column of the input has a type that cannot be frozen: {error}") from error
    return sizes


def _check_key(database: Database, folder: Path, spec: FreezeSpec) -> None:
    """Raise `InputError` with examples unless the key is unique and never null; DuckDB does it, spilling to disk."""
    parts = {
        "frozen": parquet_scan(*sorted(folder.glob("*.parquet"))),
        "key": ", ".join(quoted(column) for column in spec.key),
        "any_null": " OR ".join(f"{quoted(column)} IS NULL" for column in spec.key),
        "null_counts": ", ".join(f"count(*) - count({quoted(column)})" for column in spec.key),
    }
    database.scratch_lean(lambda connection: _look_for_bad_keys(connection, spec, parts))


def _look_for_bad_keys(connection: duckdb.DuckDBPyConnection, spec: FreezeSpec, parts: dict[str, str]) -> None:
    nulls = connection.execute(statement("null_counts", **parts)).fetchall()[0]
    if any(nulls):
        examples = connection.execute(statement("null_keys", **parts), [EXAMPLES]).fetchall()
        raise null_key(spec.source, spec.key, nulls, examples)
    keys, rows = connection.execute(statement("duplicate_counts", **parts)).fetchall()[0]
    if keys:
        examples = connection.execute(statement("duplicate_keys", **parts), [EXAMPLES]).fetchall()
        raise duplicate_key(spec.source, spec.key, keys, rows, examples)


def _load(folder: Path) -> FrozenInput:
    stored = json.loads((folder / _MANIFEST).read_text("utf-8"))
    slices = tuple(SliceInfo(**info) for info in stored.pop("slices"))
    return FrozenInput(**{**stored, "key": tuple(stored["key"]), "columns": tuple(stored["columns"]), "slices": slices})


def read(runs_dir: Path, frozen: FrozenInput, number: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """See `Warehouse.read`."""
    path = slice_path(runs_dir, frozen.run_id, number)
    if not path.exists():
        raise WarehouseError(f"slice {number} of run {frozen.run_id} is not there ({path}); was the run forgotten?")
    return _batches(path, frozen.columns, batch_rows)


def _batches(path: Path, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    # the file holds these columns and no others; a filter by name would take a dot for a nested field. Row group by row
    # group: a batch made of several would hold ``batch_rows`` rows however long they are
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_rows, row_groups=[group]):
                yield batch.select(list(columns))


def distinct(database: Database, runs_dir: Path, frozen: FrozenInput, columns: Sequence[str]) -> int:
    """See `Warehouse.distinct`. By 64-bit hashes, which hardly ever meet."""
    if not frozen.slices:
        return 0
    files = parquet_scan(*(slice_path(runs_dir, frozen.run_id, info.number) for info in frozen.slices))
    query = statement("distinct_values", columns=", ".join(quoted(column) for column in columns), frozen=files)
    found: int = database.scratch_lean(lambda connection: connection.execute(query).fetchall()[0][0])
    return found


def forget_slices(runs_dir: Path, run_id: str) -> None:
    """Delete the frozen slices, and what a killed freeze left. Raises `WarehouseRefused` when they cannot be."""
    folder = frozen_folder(runs_dir, run_id)
    for leftover in (folder, *folder.parent.glob(f"{PARTIAL}*")):
        _erase(leftover)
    with suppress(OSError):  # a run's record or journal may lie beside it
        folder.parent.rmdir()


def _erase(folder: Path) -> None:
    try:
        remove_tree(folder)
    except OSError as error:
        raise WarehouseRefused(
            f"{folder} (with all that is in it) cannot be erased: {error.strerror or error}. It holds rows of the "
            "input: have its owner allow it, or erase it, and then do the same again"
        ) from error
