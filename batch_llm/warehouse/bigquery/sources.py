"""An input in BigQuery: a table or view, with its columns and a version.

Belongs here: opening, versions, choosing columns and rows. Not here: files (the warehouse's ``files``), looking for
tables (tables.py), writing anything (freezing.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from google.cloud import bigquery

from batch_llm.errors import ConfigurationError, InputError
from batch_llm.warehouse.base import TableInfo
from batch_llm.warehouse.bigquery.answers import answer, asked
from batch_llm.warehouse.bigquery.connection import ACCESS_DENIED, CallFailed
from batch_llm.warehouse.bigquery.jobs import JobFailed, Jobs, Query
from batch_llm.warehouse.bigquery.listing import Listing, can_be_listed
from batch_llm.warehouse.bigquery.names import TableName, quoted
from batch_llm.warehouse.bigquery.schema import arrow_schema, is_plain, kind_of
from batch_llm.warehouse.bigquery.statements import enclosed, statement
from batch_llm.warehouse.refs import FILE_SUFFIXES, listed, nearest

__all__ = [
    "Source",
    "check_where",
    "count",
    "describe",
    "head",
    "opened",
    "portable",
    "with_open_history",
    "without_sizes",
]

_HEAD_BYTES = 4 << 20  # a head of longer rows has fewer of them
_REFUSED_SQL = {"invalidQuery", "invalid"}
_MOST_NAMED = 50  # of the tables of a statement
# Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobStatistics2 (read 2026-11-29)
_SETTLED = timedelta(days=1)  # BigQuery keeps two days of history at least
_SKEW = timedelta(hours=1)  # by which this machine's clock may be wrong


@dataclass(frozen=True, slots=True)
class Source:
    """An input as it was when it was looked at."""

    ref: str
    name: TableName
    table: bigquery.Table
    version: str
    pinned_at: datetime | None  # when the table held what the version means; None: it cannot be pinned

    @property
    def fields(self) -> list[bigquery.SchemaField]:
        """The columns as they are read: what only SQL can turn into text is text."""
        return [portable(field)[1] for field in self.table.schema]

    def selected(self, columns: Sequence[str]) -> dict[str, str]:
        """Column: the expression that reads it. Raises `InputError` for an absent one; no columns means all."""
        by_name = {field.name: field for field in self.table.schema}
        for column in columns:
            if column not in by_name:
                raise InputError(
                    f"input {self.ref!r} has no column {column!r}{nearest(column, by_name)}; "
                    f"its columns: {listed(by_name)}"
                )
        return {column: portable(by_name[column])[0] for column in columns or by_name}

    @property
    def sql(self) -> str:
        """As it stands in FROM."""
        return self.name.from_sql(field.name for field in self.table.schema)

    @property
    def pinned(self) -> str:
        """What stands behind the table in FROM, so that the rows are those of the version."""
        if self.pinned_at is None:
            return ""
        microseconds = (self.pinned_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        return f"FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({microseconds})"


def portable(field: bigquery.SchemaField) -> tuple[str, bigquery.SchemaField]:
    """(the expression that reads a column, the column that comes out): JSON, GEOGRAPHY and the like come as text."""
    name = quoted(field.name)
    if is_plain(field):
        return name, field
    text = bigquery.SchemaField(field.name, "STRING")
    if field.mode != "REPEATED" and kind_of(field) == "GEOGRAPHY":
        return f"ST_ASTEXT({name})", text
    if field.mode != "REPEATED" and kind_of(field) in ("INTERVAL", "RANGE"):
        return f"CAST({name} AS STRING)", text
    return f"IF({name} IS NULL, NULL, TO_JSON_STRING({name}))", text


def opened(jobs: Jobs, ref: str) -> Source:
    """Look at an input. Raises `InputError` that says what was looked for, where, and the nearest name."""
    connection = jobs.connection
    name = connection.dataset.named(ref, InputError)
    table = connection.table(name)
    if table is None:
        if not connection.has_dataset(name):
            raise InputError(
                f"no table {ref!r}: there is no BigQuery dataset {name.project}.{name.dataset}; is its name right "
                "(BATCH_LLM_WAREHOUSE, input.table), and may this account see it?"
            )
        there = [connection.dataset.ref(found) for found in connection.names(name.project, name.dataset)]
        raise InputError(
            f"no table {ref!r} in the warehouse {name.project}.{name.dataset}{nearest(ref, there)}; tables there: "
            f"{listed(there)}. A file would end in {', '.join(FILE_SUFFIXES)}"
        )
    return Source(ref, name, table, _version(jobs, name, table), _pinned_at(table))


def with_open_history(jobs: Jobs, source: Source, where: str | None) -> Source:
    """The input as it is read: without its moment where its history is closed to this account.

    Row access policies do that. Raises `JobFailed` when it may not be read at all.
    Source: https://cloud.google.com/bigquery/docs/using-row-level-security-with-features (read 2026-11-29)
    """
    if source.pinned_at is None:
        return source
    try:
        _look(jobs, source, where)
    except JobFailed as error:
        if error.failure.reason != ACCESS_DENIED:
            raise
        source = replace(source, pinned_at=None)  # as of a view: the statement sees one moment
        _look(jobs, source, where)
    return source


def _look(jobs: Jobs, source: Source, where: str | None) -> None:
    sql = statement("rows", columns="1", source=f"{source.sql} {source.pinned}", where=enclosed(where))
    jobs.dry_run(Query("source", sql))


def _version(jobs: Jobs, name: TableName, table: bigquery.Table) -> str:
    """A token for the content. BigQuery keeps one itself, and tells it for nothing; a view's is made of its tables'.

    Where nobody can tell whether the content has changed, it is another one at each look.
    """
    tables = [table] if table.table_type in ("TABLE", "EXTERNAL") else _below(jobs, name)
    facts: list[Any] = [_facts(table), [_facts(each) for each in tables or ()]]
    if not tables or any(each.table_type == "EXTERNAL" for each in tables):  # nobody knows when its files change
        facts.append(datetime.now(UTC).isoformat())
    return "table:" + hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _below(jobs: Jobs, view: TableName) -> list[bigquery.Table] | None:
    """The tables that a view reads; None when not all of them can be looked at.

    BigQuery names some of them only when there are many, and none when they want a filter on their partitions.
    """
    try:
        looked = jobs.dry_run(Query("source", statement("rows", columns="*", source=view.sql, where="TRUE")))
    except JobFailed as error:
        if error.failure.reason in _REFUSED_SQL:
            return None
        raise
    names = [TableName(each.project, each.dataset_id, each.table_id) for each in looked.referenced_tables]
    if len(names) >= _MOST_NAMED:
        return None
    found = [jobs.connection.visible(name) for name in sorted(names, key=lambda name: name.path)]
    there = [table for table in found if table is not None]
    return there if len(there) == len(names) else None


def _facts(table: bigquery.Table) -> list[Any]:
    buffer = table.streaming_buffer  # rows that were streamed in lately change neither the etag nor the time
    streamed = None if buffer is None else (buffer.estimated_rows, buffer.estimated_bytes)
    return [table.full_table_id, table.etag, table.modified, streamed]


def _pinned_at(table: bigquery.Table) -> datetime | None:
    """A moment at which the table held just what its version means, whatever happens to it from now on.

    By BigQuery's own clock when the table changed lately, else long after its last change: this machine's clock may be
    wrong, and a moment in the future is refused.
    """
    if table.table_type != "TABLE" or table.streaming_buffer is not None or table.modified is None:
        return None  # a view has no history, and the newest rows may be in the buffer: the statement sees one moment
    now = datetime.now(UTC)
    if now - table.modified > _SETTLED:
        return now - _SKEW
    changed_at: datetime = table.modified
    return changed_at + timedelta(milliseconds=1)  # the time of the change is cut to milliseconds


def check_where(
    jobs: Jobs, source: str, where: str | None, refuse: type[ConfigurationError], beside: str = "TRUE"
) -> None:
    """That a user's filter is one boolean expression: nothing that closes its bracket, no second statement.

    ``source``: what stands in FROM. In brackets "x GROUP BY y" is refused, without them "x) OR (y" is. BigQuery judges
    both, and runs neither. ``beside``: a condition of our own that it will stand beside; some tables refuse to be read
    without it.
    """
    if where is None:
        return
    if not where.strip():
        raise refuse(f"where: {where!r} must be one condition, as after WHERE")
    for condition in (enclosed(where), where):
        try:
            judged = f"{beside} AND\n{condition}\n"
            jobs.dry_run(Query("where", statement("rows", columns="1", source=source, where=judged)))
        except JobFailed as error:
            if error.failure.reason in _REFUSED_SQL:
                raise refuse(f"where: {where!r} must be one condition, as after WHERE: {error.failure}") from None
            raise


def describe(jobs: Jobs, ref: str) -> TableInfo:
    """See `Warehouse.source`."""
    source = opened(jobs, ref)
    is_table = source.table.table_type == "TABLE"
    return TableInfo(
        ref=ref,
        version=source.version,
        rows=source.table.num_rows if is_table else None,
        size_bytes=source.table.num_bytes if is_table else None,
        modified_at=source.table.modified,
        schema=arrow_schema(without_sizes(source.fields)),
    )


def without_sizes(fields: Sequence[bigquery.SchemaField]) -> list[bigquery.SchemaField]:
    """The columns without what their descriptions say: of an input a vector is a list like any other."""
    return [bigquery.SchemaField(field.name, field.field_type, field.mode, fields=field.fields) for field in fields]


def count(jobs: Jobs, ref: str, where: str | None) -> int:
    """See `Warehouse.count`. Without a filter it reads nothing and costs nothing."""
    source = opened(jobs, ref)
    check_where(jobs, source.sql, where, InputError)
    found = answer(jobs, Query("count", statement("count", source=source.sql, where=enclosed(where))))
    return int(found.column(0)[0].as_py())


def head(jobs: Jobs, ref: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
    """See `Warehouse.head`. Of a table without a filter it costs nothing."""
    connection = jobs.connection
    source = opened(jobs, ref)
    selected = source.selected(columns)
    check_where(jobs, source.sql, where, InputError)
    fields = {field.name: field for field in without_sizes(source.fields)}
    schema = arrow_schema([fields[column] for column in selected])
    if where is None and can_be_listed(source.table, tuple(selected)):
        try:
            listing = Listing(source.table, tuple(selected), limit=rows, schema=schema)
            return _few_bytes(listing.batches(connection), schema)
        except CallFailed as error:  # with row access policies a statement may do what a list may not
            if error.failure.reason != ACCESS_DENIED:
                raise
    chosen = ", ".join(f"{expression} AS {quoted(column)}" for column, expression in selected.items())
    sql = statement("rows", columns=chosen, source=source.sql, where=enclosed(where)) + f" LIMIT {int(rows)}"
    return _few_bytes(asked(jobs, Query("head", sql), schema).batches(connection), schema)


def _few_bytes(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    taken: list[pa.RecordBatch] = []
    room_bytes = _HEAD_BYTES
    for batch in batches:
        fitting = max(1, int(batch.num_rows * min(1.0, room_bytes / max(1, batch.nbytes))))
        taken.append(batch.slice(0, fitting))
        room_bytes -= taken[-1].nbytes
        if room_bytes <= 0 or fitting < batch.num_rows:
            break
    return pa.Table.from_batches(taken, schema)
