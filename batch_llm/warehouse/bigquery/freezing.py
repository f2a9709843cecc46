"""The frozen input: rows that cannot change under a resume, in slices that are the same on every machine.

Belongs here: making the run's table, checking the key, uploading slices that files were frozen into. Not here: reading
slices (slices.py). Of a table the slices are partitions of the run's table. Files are frozen on this machine, and the
slices' own files travel in parts: nothing of their types is lost, and they are the same file everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from batch_llm.errors import InputError, WarehouseError
from batch_llm.warehouse.base import FreezeSpec, FrozenInput, Warehouse
from batch_llm.warehouse.bigquery.answers import answer
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.frozen_table import MOST_SLICES, ROW, SLICE, Manifest, column_name
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.loading import Load
from batch_llm.warehouse.bigquery.names import TableName, literal
from batch_llm.warehouse.bigquery.run_tables import expires_at, sliced_table
from batch_llm.warehouse.bigquery.schema import Unstorable, cut_key, field_of, type_word
from batch_llm.warehouse.bigquery.sources import Source, check_where, opened, with_open_history, without_sizes
from batch_llm.warehouse.bigquery.statements import enclosed, statement
from batch_llm.warehouse.frozen_files import slice_path
from batch_llm.warehouse.input_rules import EXAMPLES, duplicate_key, null_key
from batch_llm.warehouse.refs import is_file

__all__ = ["PART_FIELDS", "freeze", "freeze_bytes"]

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
    known = _known(connection.table(work))
    if known is not None:
        return known
    if is_file(spec.source):
        return _freeze_files(jobs, runs_dir, files, spec)
    return _freeze_table(jobs, spec)


def _known(table: bigquery.Table | None) -> FrozenInput | None:
    manifest = Manifest.read(table)
    return manifest.frozen(table.num_rows) if manifest is not None and table is not None else None


# ---- a table


def _freeze_table(jobs: Jobs, spec: FreezeSpec) -> FrozenInput:
    connection = jobs.connection
    source = opened(jobs, spec.source)
    manifest = Manifest.of(spec, source.version, from_files=False)
    selected = source.selected(manifest.columns)
    check_where(jobs, source.sql, spec.where, InputError)
    source = with_open_history(jobs, source, spec.where)
    work = connection.dataset.work(spec.run_id)
    named = [column_name(place) for place in range(len(manifest.columns))]
    parts = {
        "work": work.sql,
        "most_slices": str(MOST_SLICES),
        "mark": literal(manifest.text()),
        "work_hours": str(max(1, round(connection.options.work_days * 24))),
        "columns": ", ".join(f"{selected[column]} AS {name}" for column, name in zip(selected, named, strict=True)),
        "key": ", ".join(selected[column] for column in spec.key),
        "source": source.sql,
        "pinned": source.pinned,
        "where": enclosed(spec.where),
        "work_key": ", ".join(f"kept.{name}" for name in named[: len(spec.key)]),
        "work_columns": ", ".join(named),
        "slice_rows": str(spec.rows_per_slice),
    }
    jobs.run(Query("freeze", statement("freeze", **parts), chain=f"{spec.run_id}-freeze"))
    table = connection.table(work)
    frozen = _known(table)
    if table is None or frozen is None:
        raise WarehouseError(f"BigQuery table {work.path} is gone again; was the run forgotten meanwhile?")
    try:
        _check_columns(table, source, manifest.columns)
        if frozen.rows:
            _check(jobs, work, spec)
    except InputError:
        connection.drop(work)  # a refused input leaves nothing behind
        raise
    return frozen


def freeze_bytes(jobs: Jobs, spec: FreezeSpec) -> int | None:
    """See `Warehouse.freeze_bytes`; a column that is read twice in the statement is billed once."""
    source = opened(jobs, spec.source)
    check_where(jobs, source.sql, spec.where, InputError)
    source = with_open_history(jobs, source, spec.where)
    columns = ", ".join(source.selected(spec.columns).values())
    sql = statement("rows", columns=columns, source=f"{source.sql} {source.pinned}", where=enclosed(spec.where))
    found: int | None = jobs.dry_run(Query("freeze", sql)).total_bytes_processed
    return found


def _check_columns(table: bigquery.Table, source: Source, columns: Sequence[str]) -> None:
    """Raise `InputError` unless what was frozen has the types of the input's columns: nothing else may be asked."""
    came = {field.name: type_word(field) for field in table.schema}
    wanted = {field.name: type_word(field) for field in without_sizes(source.fields)}
    for place, column in enumerate(columns):
        if came[column_name(place)] != wanted[column]:
            raise InputError(
                f"input {source.ref!r}: its column {column!r} is {wanted[column]}, but was read as "
                f"{came[column_name(place)]}; was the input changed meanwhile? Run the same command again"
            )


def _check(jobs: Jobs, work: TableName, spec: FreezeSpec) -> None:
    """Raise `InputError` unless the key is unique and never null, and the slices are whole."""
    named = [column_name(place) for place in range(len(spec.key))]
    parts = {
        "work": work.sql,
        "key": ", ".join(named),
        "null_counts": ", ".join(f"COUNTIF({name} IS NULL) AS nulls_{name}" for name in named),
        "null_sums": ", ".join(f"SUM(nulls_{name}) AS nulls_{name}" for name in named),
        "any_null": " OR ".join(f"{name} IS NULL" for name in named),
        "examples": str(EXAMPLES),
    }

    def ask(name: str) -> list[list[object]]:
        found = answer(jobs, Query(name, statement(name, **parts)))
        return [list(row.values()) for row in found.to_pylist()]

    keys, rows, gaps, *nulls = (int(str(value)) for value in ask("check_frozen")[0])
    if any(nulls):
        raise null_key(spec.source, spec.key, nulls, ask("null_keys"))
    if keys:
        raise duplicate_key(spec.source, spec.key, keys, rows, ask("duplicate_keys"))
    if gaps:
        raise InputError(
            f"input {spec.source!r}, where {spec.where!r}: the filter (or the view) gives other rows each time it is "
            "evaluated; use nothing random in it, for example MOD(ABS(FARM_FINGERPRINT(id)), 100) = 0 for a sample"
        )


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
    _complete(connection, work, manifest)
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


def _complete(connection: Connection, work: TableName, manifest: Manifest) -> None:
    """Only a table with a manifest is a frozen input."""
    while True:
        table = connection.table(work)
        if table is None:
            raise WarehouseError(f"BigQuery table {work.path} is gone again; was the run forgotten meanwhile?")
        table.description = manifest.text()
        if connection.change(table, ["description"]):
            return
