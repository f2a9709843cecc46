"""A frozen slice on this machine: fetched once, then read from its file.

Belongs here: bringing one slice here, whole and in its order. Not here: making slices (freezing.py), reading the file
(the warehouse's ``files``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from google.cloud import bigquery

from batch_llm.errors import WarehouseError
from batch_llm.folders import private_folder, sync_to_disk
from batch_llm.warehouse.base import FrozenInput
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.freezing import PART_FIELDS
from batch_llm.warehouse.bigquery.frozen_table import ROW, Manifest, column_name
from batch_llm.warehouse.bigquery.listing import Listing
from batch_llm.warehouse.bigquery.schema import arrow_schema
from batch_llm.warehouse.bigquery.sources import without_sizes
from batch_llm.warehouse.frozen_files import PARTIAL, slice_path
from batch_llm.warehouse.parquet_file import ParquetOutput

__all__ = ["fetched"]

_STEP_ROWS = 256


def fetched(connection: Connection, runs_dir: Path, frozen: FrozenInput, number: int) -> Path:
    """The slice's file; it appears by one rename, whole. Raises `WarehouseError` when the run was forgotten."""
    path = slice_path(runs_dir, frozen.run_id, number)
    if path.exists():
        return path
    work = connection.dataset.work(frozen.run_id)
    table = connection.table(work)
    manifest = Manifest.read(table)
    if table is None or manifest is None or number >= len(frozen.slices):
        raise WarehouseError(
            f"slice {number} of run {frozen.run_id} is not there (neither {path} nor {work.path}); was the run "
            "forgotten, or not touched for longer than its tables are kept?"
        )
    private_folder(path.parent)
    # beside the slices, not among them: what lies there is shipped to a shared journal store
    with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix=PARTIAL) as folder:
        partial = Path(folder) / path.name
        if manifest.from_files:
            _fetch_file(connection, frozen.run_id, number, partial)
        else:
            _fetch_rows(connection, table, frozen, number, partial)
        os.replace(partial, path)
    sync_to_disk(path.parent)
    return path


def _fetch_file(connection: Connection, run_id: str, number: int, partial: Path) -> None:
    """The parts of the file, each written to its place."""
    name = connection.dataset.files(run_id)
    table = connection.table(name)
    if table is None:
        raise WarehouseError(f"slice {number} of run {run_id} is not there ({name.path} is gone)")
    parts: dict[int, bytes] = {}
    with partial.open("wb") as file:
        due = 0
        listing = Listing(table, tuple(field.name for field in PART_FIELDS), number)
        for batch in listing.batches(connection):
            parts.update(zip(batch["part"].to_pylist(), batch["content"].to_pylist(), strict=True))
            while due in parts:  # they come nearly in order
                file.write(parts.pop(due))
                due += 1
        file.flush()
        os.fsync(file.fileno())
    if parts or not due:
        raise WarehouseError(f"slice {number} of run {run_id}: part {due} of its file is missing in {name.path}")


def _fetch_rows(connection: Connection, table: bigquery.Table, frozen: FrozenInput, number: int, partial: Path) -> None:
    """The rows, set aside as they come, then written in their order."""
    by_name = {field.name: field for field in without_sizes(table.schema)}
    fields = [by_name[column_name(place)] for place in range(len(frozen.columns))]
    schema = pa.schema([kind.with_name(name) for kind, name in zip(arrow_schema(fields), frozen.columns, strict=True)])
    listing = Listing(table, (ROW, *(field.name for field in fields)), number)
    with tempfile.NamedTemporaryFile(dir=partial.parent, prefix=".rows-", suffix=".arrow") as aside:
        with pa.OSFile(aside.name, "wb") as sink, pa.ipc.new_file(sink, listing.arrow_schema) as writer:
            for batch in listing.batches(connection):
                writer.write_batch(batch)
        with pa.memory_map(aside.name) as mapped, ParquetOutput(partial, schema) as output:
            for batch in _in_order(pa.ipc.open_file(mapped), frozen.slices[number].rows, f"{table.table_id}${number}"):
                output.write(pa.RecordBatch.from_arrays(batch.columns[1:], schema=schema))


def _in_order(file: pa.ipc.RecordBatchFileReader, rows: int, place: str) -> Iterator[pa.RecordBatch]:
    """The rows by number, some at a time; BigQuery hands them out in any order."""
    numbers = [file.get_batch(batch).column(0).to_numpy() for batch in range(file.num_record_batches)]
    found = np.concatenate(numbers) if numbers else np.empty(0, "int64")
    if len(found) != rows or not np.array_equal(np.sort(found), np.arange(rows)):
        raise WarehouseError(
            f"BigQuery table {place} holds {len(found):,} rows that are not numbered 0 to {rows - 1:,}"
        )
    sorted_places = np.argsort(found)
    starts = np.cumsum([0, *(len(each) for each in numbers)])
    for start in range(0, rows, _STEP_ROWS):
        places = sorted_places[start : start + _STEP_ROWS]
        batches = np.searchsorted(starts, places, side="right") - 1
        grouped = np.argsort(batches, kind="stable")
        taken = [
            file.get_batch(int(batch)).take(pa.array(places[grouped][batches[grouped] == batch] - starts[batch]))
            for batch in np.unique(batches)
        ]
        back = np.empty_like(grouped)
        back[grouped] = np.arange(len(grouped))
        yield pa.concat_batches(taken).take(pa.array(back))
