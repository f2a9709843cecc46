"""Calls on rows: tabledata.list, tabledata.insertAll; and a page of any rows.

Belongs here: pages pinned to a version, streaming inserts. Not here: how a value is written (values.py).
Sources (read 2026-11-28): https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/list,
https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tests.bigquery_server.calls import Call, Reply
from tests.bigquery_server.catalog import Table
from tests.bigquery_server.errors import ApiError, invalid, not_found
from tests.bigquery_server.files_schema import arrow_of
from tests.bigquery_server.paging import read_token, token_of
from tests.bigquery_server.partitions import UNPARTITIONED
from tests.bigquery_server.permissions import need_all_rows
from tests.bigquery_server.schema import Schema
from tests.bigquery_server.state import State
from tests.bigquery_server.storage import Part, Version, select_of, whole
from tests.bigquery_server.tables_api import ref_of
from tests.bigquery_server.values import parsed_row, shower

__all__ = ["Page", "insert_all", "list_rows", "rows_of"]

MAX_PAGE_ROWS = 100_000
MAX_STREAMED_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class Page:
    """Which rows of which parts."""

    start: int
    most: int | None
    int64_timestamps: bool


def rows_of(state: State, parts: Sequence[Part], schema: Schema, page: Page) -> tuple[list[dict[str, Any]], int | None]:
    """Rows as REST shows them, and where the next page starts (None: there is none)."""
    total = sum(part.rows for part in parts)
    row_bytes = max(1, sum(part.bytes for part in parts) // max(1, total))
    fits = max(1, state.settings.page_bytes // row_bytes)
    most = min(fits, MAX_PAGE_ROWS if page.most is None else page.most)
    end = min(total, page.start + most)
    shows = [(each.name, shower(each, int64_timestamps=page.int64_timestamps)) for each in schema]
    rows: list[dict[str, Any]] = []
    for select in _selects(parts, schema, page.start, end):
        rows.extend(_shown(state.storage.arrow(select), shows))
    return rows, end if end < total else None


def _shown(table: pa.Table, shows: Sequence[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    columns = [[show(value) for value in table.column(place).to_pylist()] for place, (_, show) in enumerate(shows)]
    for values in zip(*columns, strict=True):
        yield {"f": [{"v": value} for value in values]}


def _selects(parts: Sequence[Part], schema: Schema, start: int, end: int) -> Iterator[str]:
    before = 0
    for part in parts:
        first, last = max(start - before, 0), min(end - before, part.rows)
        if first < last:
            yield f"{select_of([part], schema)} LIMIT {last - first} OFFSET {first}"
        before += part.rows


def list_rows(state: State, call: Call) -> Reply:
    """tabledata.list: the pages of one reading are all of the version that the first was of."""
    ref = ref_of(call)
    table = state.catalog.table(ref)
    if table.view is not None:
        raise invalid(f"Cannot list a table of type VIEW: {ref}")
    if "externalDataConfiguration" in table.properties:
        raise invalid(f"Cannot list a table of type EXTERNAL: {ref}")
    need_all_rows(state, ref.whole, "Listing rows")
    version, start = _place(table, call)
    parts = version.parts
    if ref.partition is not None:
        if table.partitioning is None:
            raise invalid(f"Cannot read partition {ref}: {ref.whole} is not partitioned.")
        table.partitioning.check(ref.partition, str(ref.whole))
        parts = version.only(ref.partition)
    schema = _selected(version.schema, call.query.get("selectedFields"))
    int64 = call.query.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    rows, after = rows_of(state, parts, schema, Page(start, call.number("maxResults"), int64))
    told: dict[str, Any] = {
        "kind": "bigquery#tableDataList",
        "etag": table.etag,
        "totalRows": str(sum(part.rows for part in parts)),
        "rows": rows,
    }
    if after is not None:
        told["pageToken"] = token_of(version=version.at_us, start=after)
    return Reply(told)


def _place(table: Table, call: Call) -> tuple[Version, int]:
    token = call.query.get("pageToken")
    if not token:
        return table.now, call.number("startIndex") or 0
    said = read_token(token)
    version = next((each for each in table.history if each.at_us == said.get("version")), None)
    if version is None:
        raise not_found("Table", f"{table.ref}: the page token is of another table")
    return version, int(said["start"])


def _selected(schema: Schema, fields: str | None) -> Schema:
    if not fields:
        return schema
    wanted = [each.strip().split(".")[0].lower() for each in fields.split(",")]
    unknown = set(wanted) - {each.name.lower() for each in schema}
    if unknown:
        raise invalid(f"Invalid value for selectedFields: no such field: {min(unknown)}", "selectedFields")
    return tuple(each for each in schema if each.name.lower() in wanted)


# ---- streaming


def insert_all(state: State, call: Call) -> Reply:
    """tabledata.insertAll: HTTP 200 with an error per row; one wrong row stops all, unless invalid rows are skipped."""
    ref, body = ref_of(call), call.json
    table = state.catalog.table(ref)
    if len(call.body) > MAX_STREAMED_BYTES:
        raise ApiError("invalid", "Request payload size exceeds the limit: 10485760 bytes.", status=413)
    if not body.get("rows"):
        raise invalid("No rows present in the request.")
    rows, errors = _parsed(table, body)
    if errors and not body.get("skipInvalidRows"):
        wrong = {each["index"] for each in errors}
        stopped = [{"reason": "stopped", "location": "", "debugInfo": "", "message": ""}]
        errors += [{"index": each, "errors": stopped} for each in range(len(body["rows"])) if each not in wrong]
        rows = []
    if rows:
        _append(state, table, rows)
    return Reply({"kind": "bigquery#tableDataInsertAllResponse"} | ({"insertErrors": errors} if errors else {}))


def _parsed(table: Table, body: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows, errors = [], []
    for index, each in enumerate(body["rows"]):
        try:
            ignore = bool(body.get("ignoreUnknownValues"))
            rows.append(parsed_row(each.get("json"), table.schema, ignore_unknown=ignore))
        except ApiError as error:
            told = {"reason": "invalid", "location": error.location or "", "debugInfo": "", "message": error.message}
            errors.append({"index": index, "errors": [told]})
    return rows, errors


def _append(state: State, table: Table, rows: list[dict[str, Any]]) -> None:
    """Rows of a table that is cut by the time of the load wait unpartitioned."""
    partition = "''"
    if table.partitioning is not None:
        by_load = table.partitioning.column is None
        partition = f"'{UNPARTITIONED}'" if by_load else table.partitioning.expression(state.clock.now())
    with state.storage.given(pa.Table.from_pylist(rows, arrow_of(table.schema))) as name:
        segment = state.storage.write(f"SELECT * FROM {name}", table.schema, partition)
    streamed = replace(table, streamed_ms=state.clock.now_ms())
    state.catalog.commit(streamed, (*table.now.parts, *whole(segment)), table.schema, frozenset(segment.rows))
