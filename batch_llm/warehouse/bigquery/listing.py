"""Rows out of a table, without a statement: by the Storage Read API where there is one, else by ``tabledata.list``.

Belongs here: reading whole tables and single slices, which of the two ways. Not here: sessions and streams
(storage_reading.py), statements (jobs.py). `bigquery.Client` itself never takes the Storage Read API: it would do so
wherever its package is installed, and no emulator's address reaches it. Of its methods that give rows only
``to_arrow_iterable`` leaves it alone unless it is handed a client of that API.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
from google.api_core import exceptions as api
from google.cloud import bigquery

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery.connection import ANSWER_S, Connection
from batch_llm.warehouse.bigquery.names import TableName, quoted
from batch_llm.warehouse.bigquery.schema import answers_schema, is_plain, shaped
from batch_llm.warehouse.bigquery.storage_reading import Stored, stored_rows
from batch_llm.warehouse.spool import spooled

__all__ = ["Listing", "can_be_listed", "standing_rows"]

_PAGE_BYTES = 4 << 20  # in memory at a time, roughly: Python objects on the way take some times as much
_PAGE_ROWS = 5000
_UNKNOWN_ROW_BYTES = 4096
_READINGS = 5  # of a table that is changed while it is read


@dataclass(frozen=True, slots=True)
class Listing:
    """Which rows of a table are wanted."""

    table: bigquery.Table
    columns: tuple[str, ...] | None = None  # None: all
    slice_number: int | None = None  # None: of all
    limit: int | None = None
    schema: pa.Schema | None = None  # in which types; None: those of the table

    @property
    def fields(self) -> list[bigquery.SchemaField]:
        """The columns, as BigQuery describes them."""
        by_name = {field.name.lower(): field for field in self.table.schema}
        return [by_name[column.lower()] for column in self.columns or by_name]

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns, as a reader gets them."""
        return self.schema or answers_schema(self.fields)

    @property
    def name(self) -> TableName:
        """The table."""
        return TableName(self.table.project, self.table.dataset_id, self.table.table_id)

    def batches(self, connection: Connection) -> Iterator[pa.RecordBatch]:
        """The rows, some MB at a time, in no order; none for no rows. Raises `WarehouseError`."""
        schema = self.arrow_schema
        with connection.told(f"reading BigQuery table {self._place}"):
            for batch in self._streamed(connection) or self._pages(connection):
                if batch.num_rows:
                    yield shaped(batch, schema)

    @property
    def _place(self) -> str:
        return self.name.path if self.slice_number is None else self.name.slice_path(self.slice_number)

    def _streamed(self, connection: Connection) -> Iterator[pa.RecordBatch] | None:
        """By the Storage Read API; None when there is none, or it may not be used.

        It has no limit of rows, and bills what it reads.
        """
        reader = connection.reader if self.limit is None else None
        if reader is None:
            return None
        column = self.table.range_partitioning.field if self.slice_number is not None else None
        where = "" if column is None else f"{quoted(column)} = {self.slice_number}"
        rows = stored_rows(connection, reader, Stored(self.name, tuple(field.name for field in self.fields), where))
        try:
            first = next(rows, None)
        except (api.PermissionDenied, api.MethodNotImplemented):
            connection.drop_reader()
            return None
        return chain(() if first is None else (first,), rows)

    def _pages(self, connection: Connection) -> Iterator[pa.RecordBatch]:
        """By REST, which gives the columns in the table's order, whatever was asked.

        Source: https://github.com/googleapis/nodejs-bigquery/pull/712 (read 2026-11-29)
        """
        names = [field.name for field in self.fields]
        in_order = [field for field in self.table.schema if field.name in names]
        found = connection.client.list_rows(
            self._place, selected_fields=in_order, max_results=self.limit, page_size=self._page_rows(),
            retry=connection.retry, timeout=ANSWER_S,
        )  # fmt: skip
        for batch in found.to_arrow_iterable():
            yield batch.select(names)

    def _page_rows(self) -> int:
        rows, size_bytes = self.table.num_rows, self.table.num_bytes
        row_bytes = size_bytes / rows if rows and size_bytes else _UNKNOWN_ROW_BYTES
        page = max(1, min(_PAGE_ROWS, int(_PAGE_BYTES / row_bytes)))
        return page if self.limit is None else max(1, min(page, self.limit))


def can_be_listed(table: bigquery.Table, columns: Sequence[str] | None = None) -> bool:
    """Whether its rows can be read without a statement: no view, and no type that only SQL can turn into text."""
    if table.table_type != "TABLE":
        return False
    wanted = None if columns is None else {column.lower() for column in columns}
    return all(is_plain(field) for field in table.schema if wanted is None or field.name.lower() in wanted)


def standing_rows(connection: Connection, listing: Listing, temporary: Path) -> Iterator[pa.RecordBatch]:
    """All rows as they stood at one moment, set aside on the disk first: a slow reader keeps nobody from writing.

    A table that changed between two pages is read again; a session of the Storage Read API is of one moment.
    """
    name = listing.name
    for _ in range(_READINGS):
        pages = _Counted(listing.batches(connection))
        rows = spooled(pa.RecordBatchReader.from_batches(listing.arrow_schema, pages), temporary)
        one_moment = pages.count <= 1 or (listing.limit is None and connection.reader is not None)
        now = listing.table if one_moment else connection.table(name)
        if now is not None and now.etag == listing.table.etag:
            return rows
        if now is None:
            break
        listing = Listing(now, listing.columns, listing.slice_number, listing.limit, listing.schema)
    raise WarehouseError(f"BigQuery table {name.path} was changed each time it was read; try again later")


class _Counted:
    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.count = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.count += 1
            yield batch
