"""The output as it stands: can it take a job's rows, and what is in it.

Belongs here: checking an output before anything is spent, reading outputs. Not here: writing rows (publishing.py,
promotion.py), files as outputs (the warehouse's ``files``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from google.cloud import bigquery

from batch_llm.errors import OutputError
from batch_llm.warehouse.bigquery.answers import Answer, asked
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.listing import Listing, can_be_listed, standing_rows
from batch_llm.warehouse.bigquery.marks import stored_key
from batch_llm.warehouse.bigquery.names import PREFIX, TableName, quoted
from batch_llm.warehouse.bigquery.publishing import SLICE_COLUMN, output_fields, standing_view, viewed_run
from batch_llm.warehouse.bigquery.schema import answers_schema, cut_key, type_word
from batch_llm.warehouse.bigquery.sources import check_where, portable
from batch_llm.warehouse.bigquery.statements import enclosed, statement
from batch_llm.warehouse.bigquery.tables import kind_of_table
from batch_llm.warehouse.output_rules import check_columns, check_names, of_slice
from batch_llm.warehouse.refs import RUN_PLACE, is_file, listed, nearest
from batch_llm.warehouse.spool import spooled

__all__ = ["Rows", "check_column_names", "ensure", "fitted", "read_rows", "require_dataset", "version"]

# Source: https://cloud.google.com/bigquery/docs/schemas#column_names (read 2026-11-28)
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
_RESERVED = ("_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER")


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a place are wanted."""

    place: str  # a table, or run:<run_id>
    columns: tuple[str, ...] | None = None  # None: all
    where: str | None = None
    limit: int | None = None
    slice_number: int | None = None  # None: of all


def ensure(connection: Connection, table: str, schema: pa.Schema, key: Sequence[str], source: str | None) -> None:
    """See `Warehouse.ensure`."""
    check_names(table, schema, key)
    name = connection.dataset.named(table, OutputError)
    if source is not None and not is_file(source) and _same_table(name, connection.dataset.named(source, OutputError)):
        raise OutputError(f"output {table!r} is the input {source!r}; give the output another name")
    if name.is_internal:
        raise OutputError(f"output {table!r}: names that begin with {PREFIX} belong to batch_llm's own tables")
    check_column_names(f"output {table!r}", schema.names, "in the input (a view) or in output.schema")
    if complaint := cut_key(schema, key):
        raise OutputError(f"output {table!r}: {complaint}")
    if fitted(connection, name, table, output_fields(schema, table), tuple(key)) is None:
        require_dataset(connection, name, f"output {table!r}")
    standing_view(connection, table)


def _same_table(one: TableName, other: TableName) -> bool:
    return one.path.lower() == other.path.lower()


def check_column_names(what: str, names: Sequence[str], where: str) -> None:
    """Raise `OutputError` for names that BigQuery's columns cannot have. ``where``: where they can be changed."""
    bad = [column for column in names if not _is_column_name(column)]
    if bad:
        raise OutputError(
            f"{what}: BigQuery has no columns called {listed(repr(column) for column in bad)} (letters, digits and _ "
            f"only, no digit first); rename them {where}"
        )


def _is_column_name(column: str) -> bool:
    return _COLUMN.fullmatch(column) is not None and not column.upper().startswith(_RESERVED)


def fitted(
    connection: Connection, name: TableName, ref: str, wanted: Sequence[bigquery.SchemaField], key: tuple[str, ...]
) -> bigquery.Table | None:
    """The output, columns that were missing added; None when there is none. Raises `OutputError` if it is no match."""
    while (table := connection.table(name)) is not None:
        missing = _missing(table, ref, wanted, key)
        table.schema = [*table.schema, *missing]
        if not missing or connection.change(table, ["schema"]):
            break
    return table


def version(connection: Connection, table: str) -> str:
    """See `Warehouse.output_version`: what BigQuery itself says of the table."""
    found = connection.table(connection.dataset.named(table, OutputError))
    return "" if found is None else f"{found.etag} {found.modified} {found.num_rows}"


def _missing(
    table: bigquery.Table, ref: str, wanted: Sequence[bigquery.SchemaField], key: tuple[str, ...]
) -> list[bigquery.SchemaField]:
    if table.table_type != "TABLE":
        raise OutputError(f"output {ref!r} is a {kind_of_table(table)}; give the output another name")
    present = {field.name: type_word(field) for field in table.schema}
    check_columns(ref, present, {each.name: type_word(each) for each in wanted}, stored_key(table.description), key)
    there = {column.lower() for column in present}
    return [field for field in wanted if field.name.lower() not in there]


def require_dataset(connection: Connection, name: TableName, what: str) -> None:
    """Raise `OutputError` unless the dataset of a table that is to be made exists."""
    if not connection.has_dataset(name):
        raise OutputError(
            f"{what}: there is no BigQuery dataset {name.project}.{name.dataset}; make it: "
            f"`bq --location={connection.location} mk --dataset {name.project}:{name.dataset}`"
        )


def read_rows(jobs: Jobs, wanted: Rows) -> Iterator[pa.RecordBatch]:
    """See `Warehouse.rows`. All of them are here before the first is handed out. Without a filter it costs nothing."""
    connection = jobs.connection
    table = _standing(connection, wanted.place)
    by_name = {field.name: field for field in table.schema}
    for column in wanted.columns or ():
        if column not in by_name:
            raise OutputError(f"{wanted.place!r} has no column {column!r}{nearest(column, by_name)}")
    columns = wanted.columns or tuple(by_name)
    schema = answers_schema([portable(by_name[column])[1] for column in columns])
    if wanted.where is None and _is_cut(table, wanted.slice_number) and can_be_listed(table, columns):
        listing = Listing(table, columns, wanted.slice_number, wanted.limit, schema)
        return standing_rows(connection, listing, jobs.temporary)
    where = of_slice(wanted.where, wanted.slice_number)
    found = _selected(jobs, table, Rows(wanted.place, columns, where, wanted.limit), schema)
    return spooled(pa.RecordBatchReader.from_batches(schema, found.batches(connection)), jobs.temporary)


def _is_cut(table: bigquery.Table, slice_number: int | None) -> bool:
    """Whether these rows are a partition of their own: of a run's table, not of an output."""
    by = table.range_partitioning
    return slice_number is None or (by is not None and by.field == SLICE_COLUMN)


def _standing(connection: Connection, place: str) -> bigquery.Table:
    """The table of a place; of a live view the table that it shows, which can be listed."""
    run_id = place.removeprefix(RUN_PLACE) if place.startswith(RUN_PLACE) else None
    name = connection.dataset.out(run_id) if run_id is not None else connection.dataset.named(place, OutputError)
    table = connection.table(name)
    viewed = viewed_run(table) if table is not None else None
    if viewed is not None:
        table = connection.table(connection.dataset.out(viewed))
    if table is None:
        what = f"run {run_id} has published nothing" if run_id is not None else f"no table {place!r}"
        raise OutputError(f"{what} in the warehouse {connection.dataset}")
    return table


def _selected(jobs: Jobs, table: bigquery.Table, wanted: Rows, schema: pa.Schema) -> Answer:
    by_name = {field.name: field for field in table.schema}
    source = TableName(table.project, table.dataset_id, table.table_id).from_sql(by_name)
    check_where(jobs, source, wanted.where, OutputError)
    chosen = ", ".join(f"{portable(by_name[column])[0]} AS {quoted(column)}" for column in wanted.columns or ())
    sql = statement("rows", columns=chosen, source=source, where=enclosed(wanted.where))
    if wanted.limit is not None:
        sql += f" LIMIT {int(wanted.limit)}"
    run_id = wanted.place.removeprefix(RUN_PLACE)
    run = (run_id, None) if run_id != wanted.place else None
    return asked(jobs, Query("rows", sql, run=run), schema)
