"""What only the BigQuery warehouse promises: over the wire, with calls that fail, on several machines.

Belongs here: job ids, retries, costs, BigQuery's types, slices on another machine. Not here: the protocol's promises
(test_warehouse*.py), a whole run (tests/integration/test_bigquery_run.py).
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.errors import InputError, OutputError, WarehouseError
from batch_llm.warehouse.base import LLM_SCHEMA, FrozenInput, Warehouse
from batch_llm.warehouse.bigquery import BigQueryWarehouse, Options, Statement, open_client
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.names import Dataset
from batch_llm.warehouse.bigquery.patience import Patience
from batch_llm.warehouse.bigquery.sources import opened
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.warehouse_lab import (
    KEY,
    OUTPUT_SCHEMA,
    BigQueryLab,
    batches,
    input_table,
    output_rows,
    publish,
    spec,
    stored,
    written,
)


@pytest.fixture
def server(shared_bigquery: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> BigQueryServer:
    shared_bigquery.reset()
    shared_bigquery.configure(limits={"table_changes_per_10_s": 1_000})  # a test changes its table more often than that
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", shared_bigquery.url)
    return shared_bigquery


def hasty(limit_s: float = 10.0) -> Patience:
    """Pauses of a hundredth of their length, for servers that fail on purpose."""
    return Patience(limit_s, sleep=lambda delay_s: time.sleep(delay_s / 100))


@pytest.fixture
def lab(server: BigQueryServer, tmp_path: Path) -> BigQueryLab:
    return BigQueryLab(tmp_path / "home", options=Options(patience=hasty()))


@pytest.fixture
def warehouse(lab: BigQueryLab) -> Warehouse:
    return lab.warehouse


def on_another_machine(lab: BigQueryLab) -> Warehouse:
    """The same dataset, an empty disk."""
    home = lab.home.parent / "another machine"
    files = DuckDBWarehouse(home / "files.duckdb", home / "runs")
    client = partial(open_client, lab.project)
    return BigQueryWarehouse(client, f"{lab.project}.tables", home / "runs", files, lab.options)


def read_all(warehouse: Warehouse, frozen: FrozenInput) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for info in frozen.slices:
        found = [row for batch in warehouse.read(frozen, info.number, batch_rows=3) for row in batch.to_pylist()]
        assert len(found) == info.rows
        rows += found
    return rows


def incompressible(mebibytes: int) -> str:
    """Text that makes a file of so many MiB."""
    return random.Random(1).randbytes(mebibytes << 20).hex()


def loads(server: BigQueryServer) -> list[str]:
    """The ids of load jobs, as they were sent."""
    return [call["job_id"] for call in server.log() if call["operation"] == "jobs.insert:load"]


# ---- calls that fail

OPERATIONS = (
    "tables.get", "tables.insert", "tables.patch", "tables.delete", "tables.list", "tabledata.list",
    "jobs.insert:load", "jobs.insert:query", "jobs.get", "jobs.getQueryResults", "jobs.query", "datasets.get",
)  # fmt: skip


def whole_way(lab: BigQueryLab) -> None:
    """Every call of the warehouse once or more, each with its right result."""
    warehouse = lab.warehouse
    frozen = warehouse.freeze(spec("r2", "raw.texts"))
    assert sorted(row["id"] for row in read_all(warehouse, frozen)) == [f"k{number:05}" for number in range(10)]
    publish(warehouse, "r1", 0, {"k00000": "ok", "k00001": "failed"}, answer="1")
    warehouse.ensure("tone", OUTPUT_SCHEMA, KEY, source="raw.texts")
    warehouse.promote("r1", "tone", KEY, "upsert")
    warehouse.ensure("tone", OUTPUT_SCHEMA.append(pa.field("added", pa.string())), KEY)
    found = [
        row["id"] for info in frozen.slices for batch in warehouse.prior(frozen, info.number, "tone", [])
        for row in batch.to_pylist()
    ]  # fmt: skip
    assert sorted(found) == ["k00000", "k00001"]
    for answer in ("2", "3", "2"):
        publish(warehouse, "r2", 0, {"k00000": "ok", "k00002": "ok"}, answer=answer)
    assert warehouse.published("r2", 0)[0].ok == 2
    assert set(stored(warehouse, warehouse.live_view("r2", "tone"))) == {"k00000", "k00002"}
    for _ in range(2):
        assert warehouse.promote("r2", "tone", KEY, "upsert").rows == 3
    expected = {"k00000": ("ok", "2"), "k00001": ("failed", None), "k00002": ("ok", "2")}
    assert stored(warehouse, "tone") == expected
    assert warehouse.count("raw.texts", "year >= 2005") == 5
    for run_id in ("r1", "r2"):
        warehouse.forget(run_id)
    assert stored(warehouse, "tone") == expected
    with open_client(lab.project) as client:
        assert [table.table_id for table in client.list_tables(f"{lab.project}.tables")] == ["tone"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_call_may_fail_in_passing(server: BigQueryServer, lab: BigQueryLab, operation: str, when: str) -> None:
    """Before its work and after it, with an answer of BigQuery's, a proxy's, or none."""
    lab.put("raw.texts", input_table(10))
    faults = [
        Fault(operation, when=when, calls=(1, 4), reason="backendError"),
        Fault(operation, when=when, calls=(2,), kind="body", status=502),
        Fault(operation, when=when, calls=(3, 5), kind="reset"),
    ]
    server.faults(*faults)  # type: ignore[arg-type]  # `when` is one of the two
    whole_way(lab)


@pytest.mark.parametrize("seed", range(2))
def test_every_third_call_may_fail(server: BigQueryServer, lab: BigQueryLab, seed: int) -> None:
    lab.put("raw.texts", input_table(10))
    server.faults(
        Fault("*", share=0.1, seed=seed, when="after", kind="reset"),
        Fault("*", share=0.1, seed=seed + 100, when="before", reason="rateLimitExceeded"),
        Fault("jobs.insert:*", share=0.1, seed=seed + 200, kind="job", reason="jobBackendError"),
    )
    whole_way(lab)


@pytest.mark.parametrize("reason", ["jobBackendError", "jobInternalError", "jobRateLimitExceeded", "tableUnavailable"])
def test_a_job_that_failed_in_passing_runs_again_under_the_next_number(
    server: BigQueryServer, warehouse: Warehouse, reason: str
) -> None:
    """The client never runs a load again, and a statement only under an id of its own making."""
    server.faults(Fault("jobs.insert:*", kind="job", reason=reason, calls=(1, 3)))
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", "tone", KEY, "upsert")
    assert [job_id.rpartition("-")[2] for job_id in loads(server)] == ["1", "2"]
    assert stored(warehouse, "tone") == {"a": ("ok", "a")}


@pytest.mark.parametrize("reason", ["quotaExceeded", "invalid", "stopped"])
def test_a_job_that_failed_for_good_is_said_and_not_repeated(
    server: BigQueryServer, warehouse: Warehouse, reason: str
) -> None:
    """The slice keeps what it had."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    server.faults(Fault("jobs.insert:load", kind="job", reason=reason, message="no more"))
    with pytest.raises(WarehouseError, match=rf"BigQuery, publish: no more \({reason}"):
        publish(warehouse, "r1", 0, {"b": "ok"})
    assert len(loads(server)) == 2
    assert stored(warehouse, "run:r1") == {"a": ("ok", "a")}


def test_an_upload_that_is_too_fast_is_tried_again(server: BigQueryServer, warehouse: Warehouse) -> None:
    """403 rateLimitExceeded, which the client raises at once for an upload."""
    server.faults(Fault("jobs.insert:load", status=403, reason="rateLimitExceeded", calls=(1, 2)))
    publish(warehouse, "r1", 0, {"a": "ok"})
    assert stored(warehouse, "run:r1") == {"a": ("ok", "a")}


@pytest.mark.parametrize("mebibytes", [0, 6])
def test_a_load_whose_answer_got_lost_runs_once(server: BigQueryServer, lab: BigQueryLab, mebibytes: int) -> None:
    """Sent in one piece, or above 5 MiB in several."""
    server.faults(
        Fault("jobs.insert:load", kind="reset", when="after", calls=(1,)),
        Fault("jobs.upload", kind="reset", when="after", calls=(1,)),
    )
    answer = incompressible(mebibytes)
    publish(lab.warehouse, "r1", 0, {"a": "ok"}, answer)
    assert stored(lab.warehouse, "run:r1") == {"a": ("ok", answer)}
    with open_client(lab.project) as client:
        assert len([job for job in client.list_jobs() if job.job_type == "load"]) == 1


def test_what_was_published_before_can_be_published_again(warehouse: Warehouse) -> None:
    """The same rows, after others stood in their place, and after the run's rows were dropped."""
    for answer in ("one", "two", "one"):
        publish(warehouse, "r1", 0, {"a": "ok"}, answer)
        assert stored(warehouse, "run:r1") == {"a": ("ok", answer)}
    warehouse.unpublish("r1")
    publish(warehouse, "r1", 0, {"a": "ok"}, "one")
    assert stored(warehouse, "run:r1") == {"a": ("ok", "one")}


def test_a_load_waits_for_the_one_before_it(server: BigQueryServer, lab: BigQueryLab) -> None:
    """Also when that was sent by a process that is gone: it would put older rows in the place of newer ones."""
    publish(lab.warehouse, "r1", 0, {"a": "ok"}, "first")
    server.configure(job_s=1.0)
    old = threading.Thread(target=publish, args=(lab.warehouse, "r1", 0, {"a": "ok"}, "old"))
    old.start()
    while len(loads(server)) < 2:
        time.sleep(0.01)
    publish(lab.warehouse, "r1", 0, {"a": "ok"}, "new")
    old.join()
    assert stored(lab.warehouse, "run:r1") == {"a": ("ok", "new")}
    with open_client(lab.project) as client:
        jobs = [client.get_job(job_id, location="US") for job_id in loads(server)]
    assert jobs[2].created >= jobs[1].ended


def test_a_server_that_stays_away_is_said_after_a_while(server: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "home", options=Options(location="US", patience=hasty(0.2)))
    server.faults(Fault("*", status=503, reason="backendError"))
    for call in (
        lambda: lab.warehouse.source("texts"),
        lambda: publish(lab.warehouse, "r1", 0, {"a": "ok"}),
        lambda: list(lab.warehouse.tables("*")),
    ):
        with pytest.raises(WarehouseError, match="backendError"):
            call()


def test_no_error_shows_the_address_of_an_upload(server: BigQueryServer, warehouse: Warehouse) -> None:
    """With its id anybody could finish it."""
    server.faults(Fault("jobs.upload", status=400, reason="invalid", message="refused"))
    answer = incompressible(6)
    with pytest.raises(WarehouseError, match="refused") as raised:
        publish(warehouse, "r1", 0, {"a": "ok"}, answer)
    assert "upload_id" not in "".join(traceback.format_exception(raised.value))


# ---- outputs


def test_a_column_that_somebody_else_changed_meanwhile_is_looked_at_again(
    server: BigQueryServer, warehouse: Warehouse
) -> None:
    """412: the table is not what it was when it was looked at."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", "tone", KEY, "upsert")
    server.faults(Fault("tables.patch", status=412, reason="conditionNotMet", calls=(1,)))
    warehouse.ensure("tone", OUTPUT_SCHEMA.append(pa.field("added", pa.float64())), KEY)
    assert "added" in next(warehouse.rows("tone")).schema.names


def test_a_dataset_that_is_not_there_is_said_with_the_command_that_makes_it(warehouse: Warehouse) -> None:
    with pytest.raises(OutputError, match=r"no BigQuery dataset p\w+\.absent; make it: `bq --location=US mk --dataset"):
        warehouse.ensure("absent.tone", OUTPUT_SCHEMA, KEY)


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        (pa.field("a b", pa.string()), "no columns called 'a b'"),
        (pa.field("_PARTITIONTIME", pa.string()), "no columns called '_PARTITIONTIME'"),
        (pa.field("deep", pa.list_(pa.list_(pa.string()))), "'deep' holds lists of lists"),
    ],
)
def test_columns_that_bigquery_cannot_have_are_refused_before_any_call(
    warehouse: Warehouse, column: pa.Field, complaint: str
) -> None:
    with pytest.raises(OutputError, match=complaint):
        warehouse.ensure("tone", OUTPUT_SCHEMA.append(column), KEY)


def test_an_output_is_clustered_by_its_key_and_published_rows_by_slice(lab: BigQueryLab) -> None:
    """A merge reads less of it, a slice's counters only its own partition; what is temporary expires by itself."""
    lab.put("raw.texts", input_table(3))
    lab.warehouse.freeze(spec("r1", "raw.texts"))
    publish(lab.warehouse, "r1", 0, {"k00000": "ok"})
    lab.warehouse.promote("r1", "tone", KEY, "upsert")
    with open_client(lab.project) as client:
        output, out, work = (
            client.get_table(f"{lab.project}.tables.{name}")
            for name in ("tone", "batch_llm_out_r1", "batch_llm_work_r1")
        )
    assert output.clustering_fields == ["id"]
    assert out.range_partitioning.field == "llm_slice"
    assert work.range_partitioning.field == "_slice"
    assert work.expires is not None
    assert (out.expires, output.expires) == (None, None)


# ---- costs


def test_every_statement_is_told_with_what_it_read(server: BigQueryServer, tmp_path: Path) -> None:
    told: list[Statement] = []
    lab = BigQueryLab(tmp_path / "home", options=Options(on_statement=told.append))
    lab.put("raw.texts", input_table(10))
    frozen = lab.warehouse.freeze(spec("r1", "raw.texts"))
    publish(lab.warehouse, "r1", 0, {"k00000": "ok"})
    list(lab.warehouse.read(frozen, 0))
    lab.warehouse.published("r1", 0)
    lab.warehouse.promote("r1", "tone", KEY, "replace")
    stored(lab.warehouse, "tone")
    assert [each.name for each in told] == ["freeze", "check_frozen", "published", "promote_replace"]
    assert all(each.billed_bytes is not None and each.billed_bytes >= 10 << 20 for each in told)
    assert all(each.expected_bytes is not None and each.slot_ms is not None for each in told)


def test_a_statement_that_would_bill_too_much_is_refused(server: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "home", options=Options(max_bytes_billed=1_000))
    lab.put("raw.texts", input_table(10))
    with pytest.raises(WarehouseError, match="BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED"):
        lab.warehouse.freeze(spec("r1", "raw.texts"))


def test_reading_whole_tables_and_slices_runs_no_statement(server: BigQueryServer, lab: BigQueryLab) -> None:
    lab.put("texts", input_table(10))
    frozen = lab.warehouse.freeze(spec("r1", "texts"))
    publish(lab.warehouse, "r1", 0, {"k00000": "ok"})
    before = len(server.log())
    read_all(lab.warehouse, frozen)
    lab.warehouse.head("texts", ["id", "turns"], None, 3)
    lab.warehouse.source("texts")
    stored(lab.warehouse, "run:r1")
    list(lab.warehouse.rows("run:r1", columns=["llm_status"], limit=1))
    assert list(lab.warehouse.prior(frozen, 0, "absent", ["r9"])) == []
    calls = [call["operation"] for call in server.log()[before:]]
    assert not [call for call in calls if call.startswith("jobs.")]


# ---- inputs


@pytest.mark.parametrize("place", ["table", "file"])
def test_another_machine_reads_the_same_slices(lab: BigQueryLab, tmp_path: Path, place: str) -> None:
    """Same rows, same order, same types, although the source is gone; its freeze gives the same input."""
    table = input_table(50)
    path = written(tmp_path / "in.parquet", table)
    lab.put("raw.texts", table)
    asked = spec("r1", path if place == "file" else "raw.texts", columns=("id", "turns", "year"), rows_per_slice=7)
    here, there = lab.warehouse, on_another_machine(lab)
    frozen = here.freeze(asked)
    Path(path).unlink()
    lab.execute("DELETE FROM raw.texts WHERE TRUE")
    assert there.freeze(asked) == frozen
    assert read_all(there, frozen) == read_all(here, frozen)
    ours, theirs = (next(each.read(frozen, 0)).schema for each in (here, there))
    assert ours == theirs
    assert sorted(row["id"] for row in read_all(there, frozen)) == table["id"].to_pylist()


def test_earlier_answers_are_found_on_another_machine(lab: BigQueryLab, tmp_path: Path) -> None:
    """Of an input that was a file there."""
    frozen = lab.warehouse.freeze(spec("r1", written(tmp_path / "in.parquet", input_table(8))))
    publish(lab.warehouse, "r0", 0, {"k00001": "ok"})
    found = [row["id"] for batch in on_another_machine(lab).prior(frozen, 0, "x", ["r0"]) for row in batch.to_pylist()]
    assert found == ["k00001"]


def test_a_rows_place_is_decided_by_its_key_alone(lab: BigQueryLab) -> None:
    """Whatever the order in which BigQuery reads the table."""
    table = input_table(60)
    lab.put("raw.one", table)
    lab.put("raw.two", table.take(pa.array(range(59, -1, -1))))
    one, two = (
        read_all(lab.warehouse, lab.warehouse.freeze(spec(f"r{n}", f"raw.{name}", rows_per_slice=9)))
        for n, name in enumerate(("one", "two"))
    )
    assert one == two
    assert [row["id"] for row in one] != table["id"].to_pylist()


def test_there_are_never_more_than_a_thousand_slices(lab: BigQueryLab) -> None:
    lab.put("raw.texts", input_table(2_003))
    frozen = lab.warehouse.freeze(spec("r1", "raw.texts", rows_per_slice=1))
    assert [info.rows for info in frozen.slices] == [3] * 667 + [2]
    assert next(iter(lab.warehouse.read(frozen, 667))).num_rows == 2


EVERY_TYPE = """
    CREATE TABLE raw.types AS
    SELECT
        'a' AS id, TRUE AS bool, 9223372036854775807 AS integer, CAST('NaN' AS FLOAT64) AS number,
        NUMERIC '12345678901234567890123456789.123456789' AS money,
        BIGNUMERIC '0.00000000000000000000000000000000000001' AS tiny, b'\\x00\\xff' AS bytes,
        DATE '0001-01-01' AS day, TIME '23:59:59.999999' AS clock, DATETIME '2026-01-02 03:04:05.678901' AS local,
        TIMESTAMP '9999-12-31 23:59:59.999999+00' AS moment, [1, 2] AS list,
        STRUCT('x' AS s, [STRUCT(TRUE AS b)] AS l) AS nested, JSON '{"a": [1, null]}' AS json,
        ST_GEOGFROMTEXT('POINT(1 2)') AS place
    UNION ALL
    SELECT 'b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
"""


def test_every_type_comes_through_without_loss(lab: BigQueryLab) -> None:
    """From a table to a slice, to published rows, to an output; what only SQL can read comes as text."""
    lab.execute(EVERY_TYPE)
    schema = lab.warehouse.source("raw.types").schema
    assert schema is not None
    frozen = lab.warehouse.freeze(spec("r1", "raw.types", columns=tuple(schema.names)))
    rows = {row["id"]: row for row in read_all(lab.warehouse, frozen)}
    batch = next(lab.warehouse.read(frozen, 0))
    assert batch.schema.types == schema.types
    with open_client(lab.project) as client:
        there = {row["id"]: dict(row) for row in client.query_and_wait("SELECT * FROM raw.types")}
    number = rows["a"].pop("number")
    assert number != number  # noqa: PLR0124  NaN
    text = {
        "json": rows["a"].pop("json").replace(" ", ""),
        "place": rows["a"].pop("place").replace("POINT (", "POINT("),
    }
    assert text == {"json": '{"a":[1,null]}', "place": "POINT(1 2)"}
    assert rows["a"] == {name: value for name, value in there["a"].items() if name not in ("number", "json", "place")}
    assert {value for name, value in rows["b"].items() if name not in ("id", "list")} == {None}

    out = pa.schema([*(field.with_nullable(True) for field in schema), *LLM_SCHEMA])
    llm = [{name: row[name] for name in LLM_SCHEMA.names} for row in output_rows("r1", 0, dict.fromkeys("ab", "ok"))]
    kept = [{**row, **own} for row, own in zip(batch.to_pylist(), llm, strict=False)]
    lab.warehouse.ensure("kept", out, KEY)
    lab.warehouse.publish("r1", 0, batches(kept, out), out)
    lab.warehouse.promote("r1", "kept", KEY, "upsert")
    found = {row["id"]: row for each in lab.warehouse.rows("kept") for row in each.to_pylist()}
    assert repr([found[row["id"]].pop("number") for row in kept]) == repr([row.pop("number") for row in kept])
    assert [found[row["id"]] for row in kept] == kept
    lab.warehouse.ensure("kept", out, KEY)


@pytest.mark.parametrize("kind", ["FLOAT64", "NUMERIC", "BYTES", "DATE", "TIMESTAMP", "BOOL"])
def test_a_key_may_be_of_any_scalar_type(lab: BigQueryLab, kind: str) -> None:
    """NaN is a key like any other: it is found again and replaced."""
    values = {
        "FLOAT64": "[CAST('NaN' AS FLOAT64), 0.1]", "NUMERIC": "[NUMERIC '1.5', NUMERIC '2']",
        "BYTES": "[b'\\x00', b'a']", "DATE": "[DATE '2026-01-01', DATE '2026-01-02']",
        "TIMESTAMP": "[TIMESTAMP '2026-01-01 00:00:00+00', TIMESTAMP '2026-01-01 00:00:00.000001+00']",
        "BOOL": "[TRUE, FALSE]",
    }[kind]  # fmt: skip
    lab.execute(f"CREATE TABLE raw.keyed AS SELECT id FROM UNNEST({values}) AS id")
    frozen = lab.warehouse.freeze(spec("r2", "raw.keyed", columns=("id",)))
    keys = next(lab.warehouse.read(frozen, 0)).column(0)
    schema = pa.schema([pa.field("id", keys.type), *LLM_SCHEMA])
    for run_id in ("r1", "r2"):
        rows = [
            {**{name: row[name] for name in LLM_SCHEMA.names}, "id": key, "llm_model": run_id}
            for key, row in zip(keys.to_pylist(), output_rows(run_id, 0, {"a": "ok", "b": "ok"}), strict=True)
        ]
        lab.warehouse.publish(run_id, 0, batches(rows, schema), schema)
        assert lab.warehouse.promote(run_id, "tone", KEY, "upsert").rows == 2
    assert sum(batch.num_rows for batch in lab.warehouse.prior(frozen, 0, "tone", ["r1"])) == 4


def test_the_version_of_a_view_changes_with_the_tables_below_it(lab: BigQueryLab) -> None:
    lab.put("raw.texts", input_table(3))
    lab.execute("CREATE VIEW seen AS SELECT * FROM raw.texts")
    before = lab.warehouse.source("seen").version
    assert lab.warehouse.source("seen").version == before
    lab.execute("UPDATE raw.texts SET text = 'z' WHERE id = 'k00000'")
    assert lab.warehouse.source("seen").version != before


def test_what_is_frozen_is_what_the_version_means(lab: BigQueryLab) -> None:
    """A table that changes after it was looked at is read as it was then."""
    lab.put("raw.texts", input_table(3))
    connection = Connection(Dataset(lab.project, "tables"), partial(open_client, lab.project), lab.options)
    jobs = Jobs(connection, lab.home)
    source = opened(jobs, "raw.texts")
    lab.execute("DELETE FROM raw.texts WHERE id = 'k00000'")
    job = jobs.run(Query("x", f"SELECT COUNT(*) FROM {source.name.sql} {source.pinned}"))
    assert [row[0] for row in job.result()] == [3]
    assert lab.warehouse.count("raw.texts", None) == 2


def test_tables_of_other_datasets_and_projects_have_full_names(server: BigQueryServer, lab: BigQueryLab) -> None:
    other = replace(lab, home=lab.home.parent / "another")
    other.put("raw.theirs", input_table(2))
    ref = f"{other.project}.raw.theirs"
    assert lab.warehouse.count(ref, None) == 2
    assert [info.ref for info in lab.warehouse.tables(f"{other.project}.raw.the*")] == [ref]
    assert [info.ref for info in lab.warehouse.tables(f"{other.project}.r*.the*")] == [ref]
    assert list(lab.warehouse.tables("absent.*")) == []


def test_a_missing_part_of_a_slice_is_noticed(lab: BigQueryLab, tmp_path: Path) -> None:
    """Nothing is read from a slice that did not come whole."""
    lab.put("raw.texts", input_table(8))
    of_table = lab.warehouse.freeze(spec("r1", "raw.texts"))
    of_file = lab.warehouse.freeze(spec("r2", written(tmp_path / "in.parquet", input_table(8))))
    lab.execute("DELETE FROM `batch_llm_work_r1` WHERE _slice = 1 AND _row = 2")
    lab.execute("DELETE FROM `batch_llm_files_r2` WHERE _slice = 1")
    for frozen, complaint in ((of_table, "holds 3 rows"), (of_file, "part 0 of its file is missing")):
        with pytest.raises(WarehouseError, match=complaint):
            list(on_another_machine(lab).read(frozen, 1))
        assert list(on_another_machine(lab).read(frozen, 0))


def test_a_dead_promotion_to_a_file_leaves_nothing_behind(lab: BigQueryLab, tmp_path: Path) -> None:
    """What it had already brought to this machine does not get into the next one."""
    path = str(tmp_path / "tone.parquet")
    files = DuckDBWarehouse(lab.home / "files.duckdb", lab.home / "runs")
    publish(files, "r1", 7, {"left": "ok"})
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    lab.warehouse.promote("r1", path, KEY, "upsert")
    assert stored(lab.warehouse, path) == {"a": ("ok", "a")}
    assert files.published("r1") == {}


def test_a_missing_right_names_it(server: BigQueryServer, lab: BigQueryLab) -> None:
    lab.put("raw.texts", input_table(2))
    server.configure(missing_permissions=["bigquery.jobs.create"])
    with pytest.raises(WarehouseError, match=r"bigquery\.jobs\.create.*roles/bigquery\.jobUser"):
        lab.warehouse.count("raw.texts", None)
    with pytest.raises(InputError, match="no table"):
        lab.warehouse.source("absent")
