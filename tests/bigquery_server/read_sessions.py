"""The Storage Read API: sessions, their streams, the rows of a stream from an offset on.

Belongs here: what a session may be of, whose rows it has, when it ends. Not here: gRPC (read_server.py), values as
Arrow (arrow_rows.py).
Source: the comments of google/cloud/bigquery/storage/v1/storage.proto and stream.proto, as
google-cloud-bigquery-storage 2.43 carries them (read 2026-11-29); where a rule has another source, it stands there.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from google.cloud.bigquery_storage_v1 import types
from sqlglot import exp

from tests.bigquery_server.arrow_rows import arrow_schema, serialized, serialized_schema
from tests.bigquery_server.catalog import Table, TableRef
from tests.bigquery_server.errors import ApiError, invalid, invalid_query
from tests.bigquery_server.parameters import Parameters
from tests.bigquery_server.permissions import held, need_table
from tests.bigquery_server.schema import Schema, quoted
from tests.bigquery_server.state import ReadSession, State
from tests.bigquery_server.statements import Reading, duckdb_errors, parsed

__all__ = ["Place", "create", "next_message", "place_of"]

PARENT = re.compile(r"projects/[^/]+")
TABLE = re.compile(r"projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)")
STREAM = re.compile(r"(projects/[^/]+/locations/[^/]+/sessions/[^/]+)/streams/(\d+)")
MAX_STREAMS = 1_000
MAX_RESTRICTION_BYTES = 1 << 20
# Source: https://github.com/GoogleCloudDataproc/spark-bigquery-connector/issues/1316 (read 2026-11-29); the method's
# own comment says the same
SESSION_MS = 6 * 3_600_000


@dataclass(frozen=True)
class Place:
    """Where in a session a reading is."""

    session: ReadSession
    row: int  # the next one, counted from the session's first
    end: int
    begun: bool = False  # a message has gone out


def create(state: State, said: types.CreateReadSessionRequest) -> types.ReadSession:
    """CreateReadSession: the rows of one moment."""
    _check_parent(state, said.parent)
    _check_streams(said)
    wanted = said.read_session
    if wanted.data_format != types.DataFormat.ARROW:
        unknown = wanted.data_format == types.DataFormat.DATA_FORMAT_UNSPECIFIED
        raise invalid("data_format is not specified") if unknown else ApiError("notImplemented", "only ARROW here")
    table = _table(state, wanted.table)
    reading = Reading(state, table.ref.project, table.location, None, Parameters(()))
    source, schema = _source(reading, table, wanted)
    chosen = _selected(schema, list(wanted.read_options.selected_fields))
    columns = ", ".join(quoted(each.name) for each in chosen)
    with duckdb_errors():
        segment = state.storage.write(f"SELECT {columns} FROM ({source})", chosen)
    name = f"{said.parent}/locations/{table.location.lower()}/sessions/{uuid.uuid4().hex}"
    rows = sum(segment.rows.values())
    # no stream for a table without rows: google-cloud-bigquery's own `_pandas_helpers.py` says so (read 2026-11-29)
    streams = 0 if not table.now.rows else min(said.max_stream_count or state.settings.read_streams, MAX_STREAMS)
    session = ReadSession(name, chosen, segment, rows, streams, state.clock.now_ms() + SESSION_MS)
    state.sessions[name] = session
    return _told(session, wanted)


def _check_parent(state: State, parent: str) -> None:
    if not PARENT.fullmatch(parent):
        raise invalid(f"parent must be of the form projects/{{project_id}}: {parent!r}")
    if not held(state, "bigquery.readsessions.create"):
        # words: https://github.com/GoogleCloudDataproc/spark-bigquery-connector/issues/478 and others (read 2026-11-29)
        raise ApiError(
            "accessDenied",
            f"request failed: the user does not have 'bigquery.readsessions.create' permission for '{parent}'",
        )


def _check_streams(said: types.CreateReadSessionRequest) -> None:
    if said.max_stream_count < 0:
        raise invalid("max_stream_count must be non-negative")
    if said.max_stream_count and said.preferred_min_stream_count > said.max_stream_count:
        raise invalid("max_stream_count must be greater than or equal to preferred_min_stream_count")


def _table(state: State, path: str) -> Table:
    found = TABLE.fullmatch(path)
    if found is None:
        raise invalid(f"table must be of the form projects/{{}}/datasets/{{}}/tables/{{}}: {path!r}")
    # google-cloud-bigquery refuses both before it calls (`_pandas_helpers.py`, read 2026-11-29)
    if "$" in found[3] or "@" in found[3]:
        raise invalid(f"Reading from a specific partition or snapshot is not supported in the name of a table: {path}")
    table = state.catalog.table(TableRef(*found.groups()))
    need_table(state, "bigquery.tables.getData", str(table.ref))
    if table.view is not None:
        # words: https://github.com/GoogleCloudDataproc/spark-bigquery-connector and others (read 2026-11-29)
        raise invalid("request failed: non-table entities cannot be read with the storage API")
    return table


def _source(reading: Reading, table: Table, wanted: types.ReadSession) -> tuple[str, Schema]:
    """SQL for DuckDB: the rows that the restriction lets through, of the moment that was asked for."""
    at = wanted.table_modifiers.snapshot_time
    moment, schema = "", table.now.schema
    if at is not None:
        at_us = round(at.timestamp() * 1_000_000)
        schema = reading.state.catalog.as_of(table, at_us).schema
        moment = f" FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({at_us})"
    ref = table.ref
    whole = f"SELECT * FROM `{ref.project}`.`{ref.dataset}`.`{ref.table}`{moment}"
    text = wanted.read_options.row_restriction
    if len(text.encode()) > MAX_RESTRICTION_BYTES:
        raise invalid("read_session.read_options.row_restriction exceeded maximum allowed length")
    if not text.strip():
        return reading.sql(parsed(whole)[0]), schema
    statement = parsed(f"{whole} WHERE (\n{text}\n)")
    _check_restriction(statement)
    condition = statement[0].args["where"].this
    judged = statement[0].copy()
    judged.set("where", None)
    judged.set("expressions", [exp.alias_(condition.copy(), "condition")])
    kind = reading.describe(reading.sql(judged))[0]
    if kind.type != "BOOLEAN" or kind.mode == "REPEATED":
        raise invalid(f"row_restriction must be of type BOOL, not {kind.sql}")
    return reading.sql(statement[0]), schema


def _check_restriction(statements: list[exp.Expression]) -> None:
    """One condition and nothing else."""
    where = statements[0].args.get("where")
    other = [key for key in ("group", "having", "order", "limit", "joins", "qualify") if statements[0].args.get(key)]
    if len(statements) > 1 or not isinstance(statements[0], exp.Select) or other:
        raise invalid_query("Syntax error in row_restriction: it must be one condition")
    if where is None or not isinstance(where.this, exp.Paren):
        raise invalid_query("Syntax error in row_restriction: it must be one condition")
    if next(where.find_all(exp.AggFunc), None) is not None:
        raise invalid("row_restriction: aggregates are not supported")


def _selected(schema: Schema, fields: list[str]) -> Schema:
    """The columns in the table's order, whatever the order of the names."""
    if not fields:
        return schema
    if any("." in each for each in fields):
        raise ApiError("notImplemented", "This fake of BigQuery selects whole columns only")
    wanted = {each.lower() for each in fields}
    unknown = sorted(wanted - {each.name.lower() for each in schema})
    if unknown:
        # words: googleapis/nodejs-bigquery-storage, system tests of the reader (read 2026-11-29)
        told = ", ".join(unknown)
        raise invalid(f"request failed: The following selected fields do not exist in the table schema: {told}")
    return tuple(each for each in schema if each.name.lower() in wanted)


def _told(session: ReadSession, wanted: types.ReadSession) -> types.ReadSession:
    return types.ReadSession(
        name=session.name,
        expire_time=datetime.fromtimestamp(session.expires_ms / 1000, UTC),
        data_format=wanted.data_format,
        arrow_schema=types.ArrowSchema(serialized_schema=serialized_schema(arrow_schema(session.schema))),
        table=wanted.table,
        table_modifiers=wanted.table_modifiers,
        read_options=wanted.read_options,
        streams=[types.ReadStream(name=f"{session.name}/streams/{number}") for number in range(session.streams)],
        estimated_row_count=session.rows,
        estimated_total_bytes_scanned=sum(session.segment.bytes.values()),
    )


# ---- rows


def place_of(state: State, said: types.ReadRowsRequest) -> Place:
    """Where a ReadRows begins and ends."""
    found = STREAM.fullmatch(said.read_stream)
    if found is None:
        raise invalid(f"read_stream must be of the form projects/../locations/../sessions/../streams/..: {said}")
    session = state.sessions.get(found[1])
    number = int(found[2])
    if session is None or number >= session.streams:
        raise ApiError("notFound", f"Not found: read stream {said.read_stream}")
    where = f"there was an error operating on '{said.read_stream}'"
    if session.expires_ms <= state.clock.now_ms():
        # Source: https://github.com/GoogleCloudDataproc/spark-bigquery-connector/issues/684 (read 2026-11-29)
        ended = datetime.fromtimestamp(session.expires_ms / 1000, UTC).isoformat()
        raise ApiError("conditionNotMet", f"{where}: session expired at {ended}")
    if not held(state, "bigquery.readsessions.getData"):
        # Source: https://github.com/googleapis/google-cloud-go/pull/8666 (read 2026-11-29)
        told = f"the user does not have 'bigquery.readsessions.getData' permission for '{said.read_stream}'"
        raise ApiError("accessDenied", f"{where}: {told}")
    first = session.rows * number // session.streams
    end = session.rows * (number + 1) // session.streams
    # what a larger one gives is "undefined": here an error. At the very end clients resume a stream that was cut after
    # its last message (`_reconnect` of google-cloud-bigquery-storage's reader.py, read 2026-11-29)
    if not 0 <= said.offset <= end - first:
        raise invalid(f"{where}: offset {said.offset} is beyond the {end - first} rows of the stream")
    return Place(session, first + said.offset, end)


def next_message(state: State, place: Place) -> tuple[types.ReadRowsResponse | None, Place]:
    """The next message (None: there are no more rows) and where the one after it begins.

    The schema is in the first message only.
    """
    session = place.session
    if place.row >= place.end:
        return None, place
    row_bytes = max(1, sum(session.segment.bytes.values()) // max(1, session.rows))
    end = min(place.end, place.row + max(1, state.settings.read_message_bytes // row_bytes))
    columns = ", ".join(quoted(each.name) for each in session.schema)
    rows = state.storage.arrow(
        f"SELECT {columns} FROM {session.segment.name} WHERE rowid >= {place.row} AND rowid < {end} ORDER BY rowid"
    )
    schema: dict[str, Any] = {}
    if not place.begun:
        schema["arrow_schema"] = types.ArrowSchema(serialized_schema=serialized_schema(arrow_schema(session.schema)))
    message = types.ReadRowsResponse(
        arrow_record_batch=types.ArrowRecordBatch(serialized_record_batch=serialized(rows, session.schema)),
        row_count=rows.num_rows,
        **schema,
    )
    return message, replace(place, row=end, begun=True)
