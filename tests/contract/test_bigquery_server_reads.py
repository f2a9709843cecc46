"""The fake BigQuery's Storage Read API, judged by the real BigQueryReadClient.

Belongs here: what google/cloud/bigquery/storage/v1/*.proto says of sessions and streams, and what others saw. Not here:
how the product reads (test_warehouse_bigquery_reads.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from google.api_core import exceptions as api
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient

from tests.bigquery_server.process import Fault
from tests.contract.bigquery_lab import BY_SLICE, BigQueryLab

ROWS = pa.table({"id": pa.array(range(100), pa.int64()), "slice": [n % 4 for n in range(100)], "text": ["x"] * 100})
CREATE, READ = "storage.createReadSession", "storage.readRows"


class Reads:
    """The real client on the server of a lab, without its own retries."""

    def __init__(self, bq: BigQueryLab, client: BigQueryReadClient) -> None:
        self.bq, self.client, self.project = bq, client, bq.server.project

    def path(self, name: str) -> str:
        return f"projects/{self.project}/datasets/d/tables/{name}"

    def session(self, name: str = "t", *fields: str, where: str = "", streams: int = 1, **said: Any) -> Any:
        options = {"selected_fields": list(fields), "row_restriction": where}
        session = {"table": self.path(name), "data_format": "ARROW", "read_options": options} | said.pop("session", {})
        request = {"parent": f"projects/{self.project}", "read_session": session, "max_stream_count": streams} | said
        return self.client.create_read_session(request=request, retry=None, timeout=20)

    def messages(self, session: Any, stream: int = 0, offset: int = 0) -> Iterator[types.ReadRowsResponse]:
        name = session if isinstance(session, str) else session.streams[stream].name
        yield from self.client.read_rows(read_stream=name, offset=offset, retry=None, timeout=20)

    def rows(self, session: Any, stream: int = 0, offset: int = 0) -> list[dict[str, Any]]:
        return [row for each in self.messages(session, stream, offset) for row in batch(session, each).to_pylist()]

    def ids(self, session: Any, stream: int = 0, offset: int = 0) -> list[int]:
        return [row["id"] for row in self.rows(session, stream, offset)]


def schema(session: Any) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))


def batch(session: Any, message: types.ReadRowsResponse) -> pa.RecordBatch:
    return pa.ipc.read_record_batch(
        pa.py_buffer(message.arrow_record_batch.serialized_record_batch), schema(session)
    )  # fmt: skip


@pytest.fixture
def reads(bq: BigQueryLab) -> Iterator[Reads]:
    """A table `t` of 100 rows and the client."""
    bq.load("t", ROWS)
    with bq.server.reader() as client:
        yield Reads(bq, client)


@contextmanager
def refused(kind: type[api.GoogleAPICallError], words: str) -> Iterator[None]:
    with pytest.raises(kind, match=re.escape(words)) as caught:
        yield
    assert type(caught.value) is kind


# ---- sessions


def test_a_session_holds_all_rows_of_a_table(reads: Reads) -> None:
    session = reads.session()
    assert re.fullmatch(rf"projects/{reads.project}/locations/us/sessions/\w+", session.name)
    assert [each.name for each in session.streams] == [f"{session.name}/streams/0"]
    assert reads.rows(session) == ROWS.to_pylist()
    assert session.estimated_row_count == 100
    assert timedelta(hours=5.9) < session.expire_time - datetime.now(UTC) <= timedelta(hours=6)


def test_columns_come_in_the_tables_order_whatever_was_asked(reads: Reads) -> None:
    """Source: TableReadOptions.selected_fields; https://github.com/meztez/bigrquerystorage/issues/72"""
    session = reads.session("t", "TEXT", "id")
    assert schema(session).names == ["id", "text"]
    assert reads.rows(session)[0] == {"id": 0, "text": "x"}


def test_an_unknown_column_is_refused(reads: Reads) -> None:
    with refused(api.InvalidArgument, "The following selected fields do not exist in the table schema: absent"):
        reads.session("t", "id", "absent")


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("id > 97", [98, 99]),
        ("`slice` = 3 AND id < 8", [3, 7]),
        ("text IS NULL", []),
        ("id BETWEEN 5 AND 6 OR id = CAST('9' AS INT64)", [5, 6, 9]),
        (" \n", list(range(100))),
    ],
)
def test_a_restriction_is_a_condition(reads: Reads, where: str, ids: list[int]) -> None:
    """On any column, chosen or not."""
    assert reads.ids(reads.session("t", "id", where=where)) == ids


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("id >", "Syntax error"),
        ("id > 1) OR (id < 9", "it must be one condition"),
        ("id > 1) GROUP BY (id", "it must be one condition"),
        ("id > 1); DROP TABLE d.t; SELECT (1", "it must be one condition"),
        ("COUNT(*) > 1", "aggregates are not supported"),
        ("id", "must be of type BOOL"),
        ("absent = 1", "Unrecognized name: absent"),
        ("text = '" + "x" * (1 << 20) + "'", "exceeded maximum allowed length"),
    ],
)
def test_a_restriction_that_is_none_is_refused(reads: Reads, where: str, words: str) -> None:
    """Source of the last: https://github.com/GoogleCloudDataproc/spark-bigquery-connector/issues/1301"""
    with refused(api.InvalidArgument, words):
        reads.session(where=where)
    assert len(reads.bq.rows("t")) == 100


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ({"parent": "fake-project"}, api.InvalidArgument, "parent must be of the form"),
        ({"session": {"table": "fake-project.d.t"}}, api.InvalidArgument, "table must be of the form"),
        ({"name": "absent"}, api.NotFound, "Not found: Table fake-project:d.absent"),
        ({"name": "t$3"}, api.InvalidArgument, "specific partition or snapshot is not supported"),
        ({"name": "t@1"}, api.InvalidArgument, "specific partition or snapshot is not supported"),
        ({"session": {"data_format": 0}}, api.InvalidArgument, "data_format is not specified"),
        ({"session": {"data_format": "AVRO"}}, api.MethodNotImplemented, "only ARROW"),
        ({"streams": -1}, api.InvalidArgument, "must be non-negative"),
        ({"preferred_min_stream_count": 2}, api.InvalidArgument, "greater than or equal to preferred_min"),
    ],
)
def test_what_a_session_cannot_be_of(
    reads: Reads, said: dict[str, Any], kind: type[api.GoogleAPICallError], words: str
) -> None:
    with refused(kind, words):
        reads.session(**said)


def test_a_view_cannot_be_read(reads: Reads) -> None:
    reads.bq.query("CREATE VIEW d.v AS SELECT * FROM d.t")
    with refused(api.InvalidArgument, "non-table entities cannot be read with the storage API"):
        reads.session("v")


def test_a_session_is_of_one_moment(reads: Reads) -> None:
    before = reads.session()
    reads.bq.query("DELETE FROM d.t WHERE id >= 10")
    assert reads.ids(before) == list(range(100))
    assert reads.ids(reads.session()) == list(range(10))


def test_a_session_may_be_of_an_earlier_moment(reads: Reads) -> None:
    at = reads.bq.client.get_table(reads.bq.ref("t")).modified + timedelta(milliseconds=1)
    reads.bq.query("DELETE FROM d.t WHERE id >= 10")
    modifiers = {"table_modifiers": {"snapshot_time": at}}
    assert reads.ids(reads.session(session=modifiers)) == list(range(100))
    with refused(api.InvalidArgument, "Invalid time travel timestamp"):
        reads.session(session={"table_modifiers": {"snapshot_time": at - timedelta(days=8)}})


@pytest.mark.parametrize(
    ("permission", "words"),
    [
        (
            "bigquery.readsessions.create",
            "the user does not have 'bigquery.readsessions.create' permission for 'projects/fake-project'",
        ),
        ("bigquery.tables.getData", "Permission bigquery.tables.getData denied on table fake-project:d.t"),
    ],
)
def test_a_session_needs_rights(reads: Reads, permission: str, words: str) -> None:
    """Source: https://github.com/googleapis/google-cloud-java/pull/13018 (read 2026-11-29)."""
    reads.bq.server.configure(missing_permissions=[permission])
    with refused(api.PermissionDenied, words):
        reads.session()


# ---- streams


def test_streams_have_each_row_once(reads: Reads) -> None:
    session = reads.session(streams=7)
    assert len(session.streams) == 7
    assert [each for stream in range(7) for each in reads.ids(session, stream)] == list(range(100))
    assert len(reads.session(streams=0).streams) == 2
    assert len(reads.session(streams=5_000).streams) == 1_000


def test_an_empty_table_has_no_stream(reads: Reads) -> None:
    reads.bq.create("empty", "id INT64")
    session = reads.session("empty")
    assert list(session.streams) == []
    assert schema(session).names == ["id"]


def test_messages_are_small_and_the_first_has_the_schema(reads: Reads) -> None:
    reads.bq.server.configure(read_message_bytes=200)
    session = reads.session()
    messages = list(reads.messages(session))
    assert len(messages) == 10
    assert [each.row_count for each in messages] == [batch(session, each).num_rows for each in messages]
    assert messages[0].arrow_schema.serialized_schema == session.arrow_schema.serialized_schema
    assert {bool(each.arrow_schema.serialized_schema) for each in messages[1:]} == {False}


@pytest.mark.parametrize("offset", [0, 1, 42, 99, 100])
def test_a_stream_is_read_from_an_offset(reads: Reads, offset: int) -> None:
    reads.bq.server.configure(read_message_bytes=500)
    session = reads.session()
    assert reads.ids(session, offset=offset) == list(range(offset, 100))
    two = reads.session(streams=2)
    assert reads.ids(two, 1, offset=min(offset, 50)) == list(range(50 + min(offset, 50), 100))


@pytest.mark.parametrize("offset", [-1, 101])
def test_an_offset_outside_the_stream_is_refused(reads: Reads, offset: int) -> None:
    with refused(api.InvalidArgument, f"offset {offset} is beyond the 100 rows"):
        reads.ids(reads.session(), offset=offset)


def test_a_session_expires_after_six_hours(reads: Reads) -> None:
    """Sources in read_sessions.py."""
    session = reads.session()
    reads.bq.server.advance(6 * 3_600 - 60)
    assert len(reads.ids(session)) == 100
    reads.bq.server.advance(61)
    with refused(api.FailedPrecondition, f"operating on '{session.streams[0].name}': session expired at 2"):
        reads.ids(session)


def test_a_stream_nobody_made_is_not_found(reads: Reads) -> None:
    session = reads.session()
    for name in (f"{session.name}/streams/1", session.name.replace("sessions/", "sessions/0") + "/streams/0"):
        with refused(api.NotFound, "Not found: read stream"):
            list(reads.messages(name))
    with refused(api.InvalidArgument, "read_stream must be of the form"):
        list(reads.messages("t"))


def test_reading_needs_a_right_of_its_own(reads: Reads) -> None:
    session = reads.session()
    reads.bq.server.configure(missing_permissions=["bigquery.readsessions.getData"])
    with refused(api.PermissionDenied, "does not have 'bigquery.readsessions.getData' permission"):
        reads.ids(session)


# ---- values


def test_every_type_is_what_google_says(reads: Reads) -> None:
    """Source: https://cloud.google.com/bigquery/docs/reference/storage#arrow_schema_details (read 2026-11-29)."""
    reads.bq.query(
        r"""CREATE TABLE d.all AS SELECT
        TRUE b, b'\x00z' y, DATE '2024-02-29' d, DATETIME '2024-02-29T01:02:03.000004' dt, 1.5 f, 7 i,
        NUMERIC '1.000000001' n, BIGNUMERIC '-1.5' bn, 'ü' s, TIME '01:02:03.000004' t,
        TIMESTAMP '2024-02-29 01:02:03.000004+00' ts, JSON '{"a":1}' j, [1, 2] l,
        STRUCT('x' AS a, [BIGNUMERIC '2'] AS b) r"""
    )
    session = reads.session("all")
    item = pa.list_(pa.field("item", pa.decimal256(76, 38)))
    expected = {
        "b": pa.bool_(), "y": pa.binary(), "d": pa.date32(), "dt": pa.timestamp("us"), "f": pa.float64(),
        "i": pa.int64(), "n": pa.decimal128(38, 9), "bn": pa.decimal256(76, 38), "s": pa.string(),
        "t": pa.time64("us"), "ts": pa.timestamp("us", "UTC"), "j": pa.string(),
        "l": pa.list_(pa.field("item", pa.int64())), "r": pa.struct([("a", pa.string()), ("b", item)]),
    }  # fmt: skip
    assert dict(zip(schema(session).names, schema(session).types, strict=True)) == expected
    (row,) = reads.rows(session)
    (shown,) = reads.bq.client.list_rows(reads.bq.ref("all"), reads.bq.client.get_table(reads.bq.ref("all")).schema)
    assert row["j"] == '{"a":1}'
    assert {**row, "j": None} == {**dict(shown.items()), "j": None}


def test_a_required_column_and_a_missing_list(reads: Reads) -> None:
    reads.bq.create("modes", "id INT64 REQUIRED", "l STRING REPEATED", "s STRING")
    reads.bq.load("modes", [{"id": 1}], write_disposition="WRITE_APPEND")
    session = reads.session("modes")
    assert [each.nullable for each in schema(session)] == [False, True, True]
    assert reads.rows(session) == [{"id": 1, "l": [], "s": None}]


# ---- faults


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("backendError", api.ServiceUnavailable),
        ("internalError", api.InternalServerError),
        ("rateLimitExceeded", api.ResourceExhausted),
        ("accessDenied", api.PermissionDenied),
        ("invalid", api.InvalidArgument),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_is_a_status(reads: Reads, reason: str, kind: type[api.GoogleAPICallError], when: Any) -> None:
    reads.bq.server.faults(Fault(CREATE, reason=reason, when=when, calls=(1,), message="no"))
    with refused(kind, "no"):
        reads.session()
    assert [each["status"] for each in reads.bq.server.log() if each["operation"] == CREATE] == [
        kind.grpc_status_code.name
    ]
    assert len(reads.ids(reads.session())) == 100


@pytest.mark.parametrize("messages", [0, 1, 3])
def test_a_stream_may_be_cut_after_some_messages(reads: Reads, messages: int) -> None:
    reads.bq.server.configure(read_message_bytes=500)
    session = reads.session()
    whole = [each.row_count for each in reads.messages(session)]
    for fault, expected in (
        (Fault(READ, kind="reset", messages=messages), whole[:messages]),
        (Fault(READ, kind="reset", when="after"), whole),
    ):
        reads.bq.server.faults(fault)
        came: list[int] = []
        with pytest.raises(api.ServiceUnavailable):
            came.extend(each.row_count for each in reads.messages(session))
        assert came == expected


def test_every_call_is_logged(reads: Reads) -> None:
    reads.bq.create("p", "id INT64", "slice INT64", range_partitioning=BY_SLICE)
    reads.bq.load("p", ROWS.select(["id", "slice"]), write_disposition="WRITE_APPEND")
    session = reads.session("p", "id", where="slice = 1")
    assert reads.ids(session, offset=20) == list(range(81, 100, 4))
    created, read = reads.bq.server.log()[-2:]
    assert (created["operation"], created["status"], created["query"]["restriction"]) == (CREATE, "OK", "slice = 1")
    assert (read["operation"], read["status"], read["query"]["offset"], read["messages"]) == (READ, "OK", 20, 1)
