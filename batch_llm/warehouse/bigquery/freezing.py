"""The frozen input: rows that cannot change under a resume, in slices that are the same on every machine.

Belongs here: making the run's table, uploading slices that files were frozen into. Not here: the statements
(table_freeze.py), what plans leave to runs (drafts.py), reading slices (slices.py). Of a table the slices are
partitions of the run's table. Files are frozen on this machine, and the slices' own files travel in parts: nothing of
their types is lost, and they are the same file everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from batch_llm.errors import InputError, WarehouseError
from batch_llm.warehouse.base import FreezeBill, FreezeSpec, FrozenInput, Warehouse
from batch_llm.warehouse.bigquery.drafts import PLAN_DAYS, complete, drafted, frozen_in, kept_minutes, taken_over
from batch_llm.warehouse.bigquery.frozen_table import MOST_SLICES, ROW, SLICE, Manifest, column_name
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.loading import Load
from batch_llm.warehouse.bigquery.run_tables import expires_at, sliced_table
from batch_llm.warehouse.bigquery.schema import Unstorable, cut_key, field_of
from batch_llm.warehouse.bigquery.statements import enclosed, statement
from batch_llm.warehouse.bigquery.table_freeze import Making, TableFreeze
from batch_llm.warehouse.frozen_files import slice_path
from batch_llm.warehouse.refs import is_file

__all__ = ["PART_FIELDS", "freeze", "freeze_bill", "freeze_for_plan"]

PART_BYTES = 2 << 20  # of a slice's file in one row: small beside a page, large beside a row's overhead
PART_FIELDS = (
    bigquery.SchemaField(SLICE, "INT64"),
    bigquery.SchemaField("part", "INT64"),
    bigquery.SchemaField("content", "BYTES"),
)
_KEY_ROWS = 5000


def freeze(jobs: Jobs, runs_dir: Path, files: Warehouse, spec: FreezeSpec) -> FrozenInput:
    """See `Warehouse.freeze`. A run that is frozen already comes back as it was, whatever else the spec says."""
    connection = jobs.connection
    work = connection.dataset.work(spec.run_id)
    known = frozen_in(connection, work, spec.run_id)
    if known is not None:
        return known
    if is_file(spec.source):
        return _freeze_files(jobs, runs_dir, files, spec)
    return _freeze_table(jobs, spec)


def freeze_for_plan(jobs: Jobs, runs_dir: Path, files: Warehouse, spec: FreezeSpec) -> FrozenInput:
    """See `Warehouse.freeze_for_plan`; files are read by this machine, at no cost."""
    if is_file(spec.source):
        return _freeze_files(jobs, runs_dir, files, spec)
    freeze = TableFreeze.of(jobs, spec)
    return drafted(jobs, freeze) if freeze.can_be_shared else _made(jobs, freeze, PLAN_DAYS)


# ---- a table


def _freeze_table(jobs: Jobs, spec: FreezeSpec) -> FrozenInput:
    freeze = TableFreeze.of(jobs, spec)
    taken = taken_over(jobs, freeze) if freeze.can_be_shared else None
    return taken or _made(jobs, freeze, jobs.connection.options.work_days)


def _made(jobs: Jobs, freeze: TableFreeze, kept_days: float) -> FrozenInput:
    connection, run_id = jobs.connection, freeze.spec.run_id
    work = connection.dataset.work(run_id)
    freeze.make(jobs, Making(work, freeze.manifest.text(), kept_days, f"{run_id}-freeze"))
    frozen = frozen_in(connection, work, run_id)
    if frozen is None:
        raise WarehouseError(f"BigQuery table {work.path} is gone again; was the run forgotten meanwhile?")
    try:
        freeze.check(jobs, work)
    except InputError:
        connection.drop(work)  # a refused input leaves nothing behind
        raise
    return frozen


def freeze_bill(jobs: Jobs, spec: FreezeSpec) -> FreezeBill:
    """See `Warehouse.freeze_bill`; a column that is read twice in the statement is billed once."""
    freeze = TableFreeze.of(jobs, spec)
    source = freeze.source
    columns = ", ".join(source.selected(spec.columns).values())
    sql = statement("rows", columns=columns, source=f"{source.sql} {source.pinned}", where=enclosed(spec.where))
    return FreezeBill(jobs.dry_run(Query("freeze", sql)).total_bytes_processed, kept_minutes(freeze))


# ---- files


def _freeze_files(jobs: Jobs, runs_dir: Path, files: Warehouse, spec: FreezeSpec) -> FrozenInput:
    connection = jobs.connection
    rows = files.count(spec.source, spec.where)
    asked = replace(spec, rows_per_slice=max(spec.rows_per_slice, -(-rows // MOST_SLICES)))
    frozen = files.freeze(asked)
    paths = [slice_path(runs_dir, spec.run_id, info.number) for info in frozen.slices]
    manifest = Manifest.of(asked, frozen.version, from_files=True)
    if frozen.slices:
        manifest = replace(manifest, rows_per_slice=frozen.slices[0].rows)  # it may have been frozen before
    keys = [*_place_fields(), *_key_fields(files, spec)]
    dataset, work = connection.dataset, connection.dataset.work(spec.run_id)
    expires = expires_at(connection.options.work_days)
    for name, fields, batches in (
        (dataset.files(spec.run_id), PART_FIELDS, _parts(paths)),
        (work, tuple(keys), _keys(paths, spec.key, pa.int64())),
    ):
        connection.make(sliced_table(name, fields, SLICE, expires=expires))
        Load("freeze", f"{spec.run_id}-{name.table}", name.path, fields, sliced_by=SLICE).run(jobs, batches)
    complete(connection, work, manifest)
    return frozen


def _place_fields() -> tuple[bigquery.SchemaField, ...]:
    return bigquery.SchemaField(SLICE, "INT64"), bigquery.SchemaField(ROW, "INT64")


def _key_fields(files: Warehouse, spec: FreezeSpec) -> list[bigquery.SchemaField]:
    schema = files.source(spec.source).schema
    if schema is None:
        raise InputError(f"{spec.source}: its columns cannot be read")
    if complaint := cut_key(schema, spec.key):
        raise InputError(f"input {spec.source!r}: {complaint}")
    try:
        return [field_of(pa.field(column_name(n), schema.field(name).type)) for n, name in enumerate(spec.key)]
    except Unstorable as error:
        raise InputError(f"input {spec.source!r}: the key ({', '.join(spec.key)}) cannot be kept: {error}") from None


def _parts(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    """The slices' files, cut into rows."""
    for number, path in enumerate(paths):
        with path.open("rb") as file:
            part = 0
            while content := file.read(PART_BYTES):
                columns = [
                    pa.array([number], pa.int64()),
                    pa.array([part], pa.int64()),
                    pa.array([content], pa.binary()),
                ]
                yield pa.RecordBatch.from_arrays(columns, names=[field.name for field in PART_FIELDS])
                part += 1


def _keys(paths: list[Path], key: tuple[str, ...], kind: pa.DataType) -> Iterator[pa.RecordBatch]:
    """The slices' keys, with their places."""
    for number, path in enumerate(paths):
        row = 0
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(_KEY_ROWS, row_groups=[group]):
                    rows = batch.num_rows
                    places = [pa.repeat(pa.scalar(number, kind), rows), pa.array(range(row, row + rows), kind)]
                    columns = [*places, *(batch.column(name) for name in key)]
                    yield pa.RecordBatch.from_arrays(columns, names=[str(n) for n in range(len(columns))])
                    row += rows
