"""The BigQuery warehouse by the Storage Read API: the same rows as by REST, whatever happens to calls and streams.

Belongs here: which way is taken, streams that are cut. Not here: what every warehouse promises (test_warehouse*.py,
which run over this way as well), the API itself (test_bigquery_server_reads.py).
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.cloud import bigquery as google

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery import Options, open_client, open_reader
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.listing import Listing, standing_rows
from batch_llm.warehouse.bigquery.names import Dataset, TableName
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.bigquery_warehouse_lab import hasty, read_all
from tests.contract.warehouse_lab import BigQueryLab, BigQueryStorageLab, input_table, publish, spec, stored

CREATE, READ, LIST = "storage.createReadSession", "storage.readRows", "tabledata.list"
ROWS = 600


@pytest.fixture
def server(bigquery: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> BigQueryServer:
    """Both ways; a stream has many messages."""
    monkeypatch.setenv("BIGQUERY_STORAGE_GRPC_ENDPOINT", bigquery.grpc_address)
    bigquery.configure(read_message_bytes=250)
    return bigquery


@pytest.fixture
def lab(server: BigQueryServer, tmp_path: Path) -> BigQueryStorageLab:
    made = BigQueryStorageLab(tmp_path / "home", options=Options(patience=hasty(), make_reader=open_reader))
    made.put("texts", input_table(ROWS))
    return made


@pytest.fixture
def connection(lab: BigQueryStorageLab) -> Connection:
    return Connection(Dataset(lab.project, "tables"), partial(open_client, lab.project), lab.options)


def table_of(connection: Connection, name: str) -> google.Table:
    found = connection.table(TableName(connection.dataset.project, "tables", name))
    assert found is not None
    return found


def ids(connection: Connection, **asked: Any) -> list[str]:
    listing = Listing(table_of(connection, "texts"), ("id",), **asked)
    return [each for batch in listing.batches(connection) for each in batch["id"].to_pylist()]


def calls(server: BigQueryServer) -> list[str]:
    return [each["operation"] for each in server.log() if each["operation"] in (CREATE, READ, LIST)]


EVERY = [f"k{number:05}" for number in range(ROWS)]


# ---- the same rows

EVERY_TYPE = r"""
CREATE TABLE every (
  b BOOL, y BYTES, d DATE, dt DATETIME, f FLOAT64, i INT64 NOT NULL, n NUMERIC, bn BIGNUMERIC, s STRING, t TIME,
  ts TIMESTAMP, l ARRAY<INT64>, r STRUCT<a STRING, b ARRAY<BIGNUMERIC>, c STRUCT<d DATE>>, rr ARRAY<STRUCT<a INT64>>,
  v ARRAY<FLOAT64> OPTIONS(description='float32[2]')
) AS
SELECT TRUE, b'\x00z', DATE '2024-02-29', DATETIME '2024-02-29T01:02:03.000004', 1.5, 7, NUMERIC '-1.000000001',
  BIGNUMERIC '1.5', 'ü', TIME '01:02:03.000004', TIMESTAMP '2024-02-29 01:02:03.000004+00', [1, 2],
  STRUCT('x' AS a, [BIGNUMERIC '2'] AS b, STRUCT(DATE '0001-01-01' AS d) AS c), [STRUCT(1 AS a)], [0.5, 1.5]
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, 8, NULL, NULL, NULL, NULL, NULL, [], NULL, [], []
"""


@pytest.mark.parametrize("reversed_", [False, True])
def test_both_ways_give_the_same_columns_types_and_values(
    lab: BigQueryStorageLab, connection: Connection, server: BigQueryServer, *, reversed_: bool
) -> None:
    lab.execute(EVERY_TYPE)
    table = table_of(connection, "every")
    columns = tuple(field.name for field in table.schema)
    listing = Listing(table, columns[::-1] if reversed_ else columns)
    by_storage = pa.Table.from_batches(listing.batches(connection), listing.arrow_schema)
    connection.drop_reader()
    by_rest = pa.Table.from_batches(listing.batches(connection), listing.arrow_schema)
    assert calls(server) == [CREATE, READ, LIST]
    assert by_storage.sort_by("i").equals(by_rest.sort_by("i"))
    assert by_storage.schema.names == list(listing.columns or ())
    assert by_storage.sort_by("i")["s"].to_pylist() == ["ü", None]


def test_a_slice_is_one_partition_and_no_more(lab: BigQueryStorageLab, server: BigQueryServer) -> None:
    frozen = lab.warehouse.freeze(spec("r1", "texts", rows_per_slice=200))
    before = len(server.log())
    assert sorted(row["id"] for row in read_all(lab.warehouse, frozen)) == EVERY
    sessions = [each["query"] for each in server.log()[before:] if each["operation"] == CREATE]
    assert [each["restriction"] for each in sessions] == ["`_slice` = 0", "`_slice` = 1", "`_slice` = 2"]
    assert [each["fields"] for each in sessions] == [["_row", "c0", "c1"]] * 3
    assert LIST not in calls(server)


def test_earlier_answers_and_published_rows_come_this_way(lab: BigQueryStorageLab, server: BigQueryServer) -> None:
    frozen = lab.warehouse.freeze(spec("r1", "texts", rows_per_slice=200))
    publish(lab.warehouse, "r0", 0, dict.fromkeys(EVERY[:50], "ok"))
    found = [
        row["id"] for info in frozen.slices for batch in lab.warehouse.prior(frozen, info.number, "run:r0")
        for row in batch.to_pylist()
    ]  # fmt: skip
    assert sorted(found) == EVERY[:50]
    assert set(stored(lab.warehouse, "run:r0")) == set(EVERY[:50])
    assert LIST not in calls(server)


def test_an_empty_table_and_an_empty_slice_have_no_rows(lab: BigQueryStorageLab, connection: Connection) -> None:
    lab.execute("CREATE TABLE none (id STRING)")
    lab.execute("CREATE TABLE cut (id STRING, n INT64) PARTITION BY RANGE_BUCKET(n, GENERATE_ARRAY(0, 9, 1))")
    lab.execute("INSERT INTO cut VALUES ('a', 1)")
    assert list(Listing(table_of(connection, "none")).batches(connection)) == []
    cut = table_of(connection, "cut")
    assert list(Listing(cut, ("id",), 2).batches(connection)) == []
    assert [each.to_pydict() for each in Listing(cut, ("id",), 1).batches(connection)] == [{"id": ["a"]}]


# ---- cut streams


@pytest.mark.parametrize("messages", [0, 1, 4])
@pytest.mark.parametrize("kind", ["reset", "http"])
def test_a_stream_that_is_cut_goes_on_where_it_was(
    connection: Connection, server: BigQueryServer, messages: int, kind: Any
) -> None:
    """Each time after so many messages; no row is lost, none comes twice."""
    server.faults(Fault(READ, kind=kind, reason="internalError", messages=messages, calls=(1, 2, 3)))
    assert ids(connection) == EVERY
    offsets = [each["query"]["offset"] for each in server.log() if each["operation"] == READ]
    assert len(offsets) == 4
    assert offsets == sorted(offsets)
    assert (offsets[-1] > 0) is (messages > 0)
    assert calls(server).count(CREATE) == 1


def test_a_stream_that_is_cut_behind_its_last_row_is_done(connection: Connection, server: BigQueryServer) -> None:
    server.faults(Fault(READ, kind="reset", when="after", calls=(1,)))
    assert ids(connection) == EVERY
    assert server.log()[-1]["query"]["offset"] == ROWS


def test_a_stream_that_is_cut_again_and_again_gets_to_its_end(connection: Connection, server: BigQueryServer) -> None:
    """Patience is for a stream that does not move: each message that comes begins it anew."""
    server.faults(Fault(READ, kind="reset", messages=1))
    server.configure(read_message_bytes=100)
    connection.patience.limit_s = 0.3
    assert ids(connection) == EVERY
    assert calls(server).count(READ) > 30


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("reason", ["backendError", "internalError", "rateLimitExceeded"])
def test_a_session_is_asked_for_again(
    connection: Connection, server: BigQueryServer, reason: str, when: Any
) -> None:  # fmt: skip
    server.faults(Fault(CREATE, reason=reason, when=when, calls=(1, 2)))
    assert ids(connection) == EVERY
    assert calls(server) == [CREATE, CREATE, CREATE, READ]


def test_any_call_may_fail_in_passing(lab: BigQueryStorageLab, server: BigQueryServer) -> None:
    frozen = lab.warehouse.freeze(spec("r1", "texts", rows_per_slice=100))
    server.faults(
        Fault("*", share=0.2, seed=1, when="after", kind="reset"),
        Fault("*", share=0.2, seed=2, when="before", reason="rateLimitExceeded"),
        Fault(READ, share=0.5, seed=3, kind="reset", messages=1),
    )
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda n: list(lab.warehouse.read(frozen, n)), range(6)))
    assert sorted(each for slice_ in found for batch in slice_ for each in batch["id"].to_pylist()) == EVERY
    assert LIST not in calls(server)


# ---- what is said


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(CREATE, reason="invalid", message="wrong"), r"texts: wrong \(invalid, 400\)"),
        (Fault(CREATE, reason="notFound", message="gone"), r"texts: gone \(notFound, 404\); it was dropped or never"),
        (Fault(READ, reason="accessDenied", messages=1, message="no"), r"texts: no \(accessDenied, 403\); ask for"),
        (Fault(CREATE, reason="backendError", message="away"), r"texts: away \(serviceUnavailable, 503\)"),
        (Fault(READ, kind="reset", messages=1, message="cut"), r"texts: cut \(serviceUnavailable, 503\)"),
        (Fault(READ, reason="rateLimitExceeded", message="fast"), r"texts: fast \(rateLimitExceeded, 429\)"),
    ],
)
def test_what_does_not_pass_is_said(
    connection: Connection, server: BigQueryServer, fault: Fault, words: str
) -> None:  # fmt: skip
    connection.patience.limit_s = 0.2
    if fault.kind == "reset":  # nothing more comes
        server.faults(Fault(READ, kind="reset", messages=1, calls=(1,), message="cut"), Fault(READ, message="cut"))
    else:
        server.faults(fault)
    with pytest.raises(WarehouseError, match=words):
        ids(connection)


def test_a_session_that_expired_is_said(connection: Connection, server: BigQueryServer) -> None:
    """Another session would have the rows in another order."""
    batches = Listing(table_of(connection, "texts"), ("id",)).batches(connection)
    server.faults(Fault(READ, kind="reset", messages=1, calls=(1,)))
    next(batches)
    server.advance(6 * 3_600 + 1)
    with pytest.raises(WarehouseError, match=r"session expired at .*FAILED_PRECONDITION"):
        list(batches)


# ---- which way


@pytest.mark.parametrize("right", ["bigquery.readsessions.create", "bigquery.readsessions.getData"])
def test_without_the_right_rows_come_by_rest(connection: Connection, server: BigQueryServer, right: str) -> None:
    """Tried once."""
    server.configure(missing_permissions=[right])
    assert ids(connection) == EVERY
    assert ids(connection) == EVERY
    assert calls(server) == [CREATE, *([READ] if "getData" in right else []), LIST, LIST]


def test_without_the_right_to_the_table_that_is_said(connection: Connection, server: BigQueryServer) -> None:
    table = table_of(connection, "texts")
    server.configure(missing_permissions=["bigquery.tables.getData"])
    with pytest.raises(WarehouseError, match=r"bigquery\.tables\.getData denied on table"):
        list(Listing(table).batches(connection))


def test_some_rows_come_by_rest(lab: BigQueryStorageLab, connection: Connection, server: BigQueryServer) -> None:
    """The Storage Read API knows no limit, and bills what it reads."""
    assert len(ids(connection, limit=7)) == 7
    assert lab.warehouse.head("texts", ["id"], None, 3).num_rows == 3
    assert calls(server) == [LIST, LIST]


def test_an_emulator_that_names_no_address_is_read_by_rest(
    connection: Connection, server: BigQueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIGQUERY_STORAGE_GRPC_ENDPOINT")
    assert ids(connection) == EVERY
    assert calls(server) == [LIST]


def test_an_emulator_without_the_api_is_read_by_rest(
    connection: Connection, server: BigQueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gRPC has other services only."""
    with ThreadPoolExecutor(1) as threads:
        other = grpc.server(threads)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        monkeypatch.setenv("BIGQUERY_STORAGE_GRPC_ENDPOINT", f"127.0.0.1:{port}")
        assert ids(connection) == EVERY
        other.stop(None).wait()
    assert calls(server) == [LIST]


def test_without_the_extra_rows_come_by_rest(
    connection: Connection, server: BigQueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python has it where a package is missing."""
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery_storage_v1.services", None)
    assert open_reader() is None
    assert ids(connection) == EVERY
    assert calls(server) == [LIST]


def test_a_table_that_changes_is_read_once(
    lab: BigQueryStorageLab, connection: Connection, server: BigQueryServer
) -> None:
    """All rows of a session are of one moment, so nothing is read again."""
    before = table_of(connection, "texts")
    lab.put("texts", input_table(ROWS, start=1_000))
    rows = pa.Table.from_batches(standing_rows(connection, Listing(before), lab.home))
    assert sorted(rows["id"].to_pylist()) == [f"k{number:05}" for number in range(1_000, 1_000 + ROWS)]
    assert calls(server) == [CREATE, READ]


def test_a_reader_that_stops_early_ends_its_stream(connection: Connection, server: BigQueryServer) -> None:
    batches = Listing(table_of(connection, "texts")).batches(connection)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert ids(connection) == EVERY


def test_the_lab_without_a_reader_asks_for_no_session(server: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "other")
    lab.put("texts", input_table(5))
    assert lab.warehouse.head("texts", ["id"], "year > 0", 5).num_rows == 5
    assert len([row for batch in lab.warehouse.rows("texts") for row in batch.to_pylist()]) == 5
    assert CREATE not in calls(server)
