"""The published slices of a run: one table per run, one partition per slice.

Belongs here: publish, its counters, the live view, dropping them. Not here: the output table (promotion.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pyarrow as pa
import pyarrow.compute as pc
from google.cloud import bigquery

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.warehouse.base import Published, PublishedVersion, StatusCounts
from batch_llm.warehouse.bigquery.answers import answer
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.listing import Listing
from batch_llm.warehouse.bigquery.loading import Load
from batch_llm.warehouse.bigquery.marks import mark, read_mark
from batch_llm.warehouse.bigquery.names import TableName, literal
from batch_llm.warehouse.bigquery.run_tables import sliced_table
from batch_llm.warehouse.bigquery.schema import Unstorable, field_of
from batch_llm.warehouse.bigquery.statements import statement
from batch_llm.warehouse.bigquery.tables import kind_of_table
from batch_llm.warehouse.output_rules import live_name_taken

__all__ = [
    "SLICE_COLUMN",
    "Counters",
    "drop_published",
    "live_view",
    "output_fields",
    "publish",
    "published_version",
    "required_out",
    "standing_view",
    "stored_slice",
    "viewed_run",
]

_COUNTS = tuple(field.name for field in fields(StatusCounts))
SLICE_COLUMN = "llm_slice"


def output_fields(schema: pa.Schema, place: str) -> tuple[bigquery.SchemaField, ...]:
    """The columns of such rows in BigQuery. Raises `OutputError` for one that it cannot hold."""
    try:
        return tuple(field_of(field) for field in schema)
    except Unstorable as error:
        raise OutputError(f"output {place!r}: {error}") from None


def publish(jobs: Jobs, run: tuple[str, int], batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Published:
    """See `Warehouse.publish`; ``run``: id and slice. The rows are collected in a file, then loaded in one job."""
    connection = jobs.connection
    run_id, number = run
    out = connection.dataset.out(run_id)
    fields_ = output_fields(schema, out.table)
    standing = connection.table(out)
    if standing is None:  # only then: BigQuery counts each attempt as a change of the table's metadata
        connection.make(sliced_table(out, fields_, SLICE_COLUMN, description=mark(run=run_id)))
    else:
        connection.keep(standing)
    load = Load("publish", f"{run_id}-publish-{number}", out.slice_path(number), fields_)
    loaded = load.run(jobs, _of_slice(batches, run_id, number))
    return Published(loaded.rows, connection.dataset.ref(out))


def _of_slice(batches: Iterator[pa.RecordBatch], run_id: str, number: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        own = pc.sum(pc.equal(batch.column(SLICE_COLUMN), number)).as_py() or 0
        if own != batch.num_rows:  # they would stay when this slice is published again
            raise WarehouseError(
                f"slice {number} of run {run_id}: {batch.num_rows - own} rows carry another llm_slice; not published"
            )
        yield batch


class Counters:
    """The counters of published slices, from the stored rows; a process asks each state of a run's table once."""

    def __init__(self, jobs: Jobs) -> None:
        """Nothing is asked yet."""
        self._jobs = jobs
        self._newest: tuple[str, str, dict[int, StatusCounts]] | None = None  # run, etag of its table, all slices

    def of(self, run_id: str, number: int | None = None) -> dict[int, StatusCounts]:
        """See `Warehouse.published`. Of one slice only its partition is read."""
        connection = self._jobs.connection
        table = connection.table(connection.dataset.out(run_id))
        if table is None or not table.num_rows:
            return {}
        if self._newest is not None and self._newest[:2] == (run_id, table.etag):
            known = self._newest[2]
            return dict(known) if number is None else {each: known[each] for each in known if each == number}
        counts = _counted(self._jobs, run_id, number)
        if number is None:
            self._newest = run_id, table.etag, counts  # they may be newer than the etag: then that is another by now
        return dict(counts)


def _counted(jobs: Jobs, run_id: str, number: int | None) -> dict[int, StatusCounts]:
    parameters = [bigquery.ScalarQueryParameter("run", "STRING", run_id)]
    which = "TRUE"
    if number is not None:
        parameters.append(bigquery.ScalarQueryParameter("number", "INT64", number))
        which = f"{SLICE_COLUMN} = @number"
    sql = statement("status_counts", table=jobs.connection.dataset.out(run_id).sql, which=which)
    found = answer(jobs, Query("published", sql, tuple(parameters), run=(run_id, number)))
    rows = [list(row.values()) for row in found.to_pylist()]
    return {row[0]: StatusCounts(**dict(zip(_COUNTS, row[1:], strict=True))) for row in rows}


def published_version(connection: Connection, run_id: str) -> PublishedVersion:
    """See `Warehouse.published_version`: what BigQuery itself says of the table."""
    table = connection.table(connection.dataset.out(run_id))
    return PublishedVersion(0, "") if table is None else PublishedVersion(table.num_rows or 0, str(table.etag))


def required_out(connection: Connection, run_id: str) -> bigquery.Table:
    """The table of a run's published slices. Raises `WarehouseError` when nothing was published."""
    out = connection.dataset.out(run_id)
    table = connection.table(out)
    if table is None:
        raise WarehouseError(f"run {run_id} has published nothing in {out.path}; was it forgotten?")
    return table


def stored_slice(connection: Connection, run_id: str, number: int, columns: tuple[str, ...] | None = None) -> Listing:
    """The published rows of one slice; of some columns, or of all."""
    return Listing(required_out(connection, run_id), columns, number)


def live_view(jobs: Jobs, run_id: str, table: str) -> str:
    """See `Warehouse.live_view`."""
    connection = jobs.connection
    view, out = connection.dataset.live(table), connection.dataset.out(run_id)
    required_out(connection, run_id)
    standing = standing_view(connection, table)
    if standing is not None and viewed_run(standing) == run_id:  # it stays until the run's rows are dropped
        return connection.dataset.ref(view)
    _remember_view(connection, run_id, view)  # first: a view that nobody knows of would never be dropped
    parts = {"view": view.sql, "mark": literal(mark(live=run_id)), "table": out.sql}
    jobs.run(Query("live_view", statement("live_view", **parts), chain=f"{run_id}-live"))
    return connection.dataset.ref(view)


def standing_view(connection: Connection, table: str) -> bigquery.Table | None:
    """An output's live view, if there is one. Raises `OutputError` where something stands that is none."""
    found = connection.table(connection.dataset.live(table))
    if found is not None and viewed_run(found) is None:
        raise live_name_taken(table, kind_of_table(found), connection.dataset.live(table).path)
    return found


def _remember_view(connection: Connection, run_id: str, view: TableName) -> None:
    while True:
        table = required_out(connection, run_id)
        views = _views(table)
        if view in views:
            return
        stored = [[each.project, each.dataset, each.table] for each in (*views, view)]
        table.description = mark(run=run_id, views=stored)
        if connection.change(table, ["description"]):
            return


def _views(table: bigquery.Table) -> list[TableName]:
    found = read_mark(table.description) or {}
    return [TableName(*parts) for parts in found.get("views", [])]


def viewed_run(view: bigquery.Table) -> str | None:
    """The run that a live view shows; None when it is no live view."""
    found = read_mark(view.description) or {}
    run_id = found.get("live")
    return str(run_id) if view.table_type == "VIEW" and run_id is not None else None


def drop_published(connection: Connection, run_id: str) -> None:
    """Drop the views over a run's rows, then the rows."""
    out = connection.dataset.out(run_id)
    table = connection.table(out)
    if table is None:
        return
    for view in _views(table):
        standing = connection.table(view)
        if standing is not None and viewed_run(standing) == run_id:  # it may show another run by now
            connection.drop(view)
    connection.drop(out)
