"""What the fake BigQuery's query jobs cost, and what becomes of jobs, judged by the real client."""

from __future__ import annotations

import pyarrow as pa
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    GoogleAPICallError,
    InternalServerError,
    NotFound,
)
from google.cloud import bigquery

from tests.bigquery_server.process import Fault
from tests.contract.bigquery_lab import BY_SLICE, DATASET, BigQueryLab, refused

MB = 1024 * 1024
NUMBERS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "text": ["a", "bb", None]})


# ---- costs


def test_a_dry_run_tells_the_bytes_and_does_nothing(bq: BigQueryLab) -> None:
    """Of the columns that are read: 8 bytes a number, 2 and its own a text."""
    bq.load("t", NUMBERS)

    def dry(sql: str) -> bigquery.QueryJob:
        return bq.client.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True))

    job = dry("SELECT id FROM d.t")
    assert (job.total_bytes_processed, job.state, [each.name for each in job.schema]) == (24, "DONE", ["id"])
    assert dry("SELECT * FROM d.t").total_bytes_processed == 24 + 3 + 4
    assert dry("SELECT text FROM d.t WHERE id = 1").total_bytes_processed == 31
    assert dry("SELECT COUNT(*) FROM d.t").total_bytes_processed == 0
    assert dry("CREATE TABLE d.u AS SELECT text FROM d.t").total_bytes_processed == 7
    assert dry("DELETE FROM d.t WHERE id = 1").total_bytes_processed == 24 + 31
    assert dry("INSERT INTO d.t (id) SELECT id FROM d.t").total_bytes_processed == 24
    assert dry("SELECT id FROM d.t; SELECT id FROM d.t").total_bytes_processed == 48
    assert len(bq.rows("t")) == 3
    assert [each.table_id for each in bq.client.list_tables(DATASET)] == ["t"]
    with refused(BadRequest, "invalidQuery"):
        dry("SELECT none FROM d.t")
    with refused(NotFound, "notFound"):
        dry("SELECT * FROM d.none")
    assert {job.job_type for job in bq.client.list_jobs()} == {"load"}


def test_partitions_that_are_not_read_cost_nothing(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t", pa.table({"slice": [1, 2, 2], "text": ["a", "b", "c"]}))
    bq.create("s", "slice INT64", "text STRING")
    one = [bigquery.ScalarQueryParameter("slice", "INT64", 1)]

    def cost(sql: str) -> int:
        return bq.query(sql, query_parameters=one).total_bytes_processed

    assert cost("SELECT slice, text FROM d.t") == 33
    assert cost("SELECT slice, text FROM d.t WHERE slice = @slice") == 11
    assert cost("SELECT slice, text FROM d.t WHERE slice >= 2 AND text = 'b'") == 22
    assert cost("SELECT slice, text FROM d.t WHERE text = 'b'") == 33
    assert cost("SELECT x.slice, x.text FROM d.t AS x WHERE x.slice IN (1)") == 11
    assert cost("UPDATE d.t SET text = 'x' WHERE slice = 1") == 11 + 11
    merge = "MERGE d.t AS t USING d.s AS s ON t.text = s.text {} WHEN MATCHED THEN DELETE"
    assert (cost(merge.format("")), cost(merge.format("AND t.slice = 2"))) == (9 + 33, 22 + 22)
    only_insert = (
        "MERGE d.t AS t USING d.s AS s ON t.slice = s.slice WHEN NOT MATCHED THEN INSERT (slice) VALUES (slice)"
    )
    assert cost(only_insert) == 24


def test_a_table_may_want_a_filter(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", range_partitioning=BY_SLICE, require_partition_filter=True)
    with refused(BadRequest, "invalidQuery", "without a filter over column"):
        bq.ask("SELECT * FROM d.t")
    assert bq.ask("SELECT * FROM d.t WHERE slice = 1") == []


def test_at_least_10_mb_of_each_table_are_billed(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    job = bq.query("SELECT id FROM d.t")
    assert (job.total_bytes_processed, job.total_bytes_billed, job.billing_tier) == (24, 10 * MB, 1)
    assert job.slot_millis > 0
    assert [each.table_id for each in job.referenced_tables] == ["t"]
    bq.load("u", NUMBERS)
    assert bq.query("SELECT t.id FROM d.t JOIN d.u USING (id)").total_bytes_billed == 20 * MB
    assert bq.query("SELECT 1").total_bytes_billed == 0
    assert bq.query("CREATE TABLE d.w (id INT64)").total_bytes_billed == 0


def test_a_query_may_not_bill_more_than_it_was_allowed(bq: BigQueryLab) -> None:
    """Source of words and status: https://github.com/exmergo/dex/issues/320 (read 2026-11-28)."""
    bq.load("t", NUMBERS)
    with refused(InternalServerError, "bytesBilledLimitExceeded", f"{10 * MB} or higher required"):
        bq.query("SELECT id FROM d.t", maximum_bytes_billed=10 * MB - 1)
    assert bq.ask("SELECT id FROM d.t WHERE id = 1", maximum_bytes_billed=10 * MB) == [(1,)]
    with refused(InternalServerError, "bytesBilledLimitExceeded"):
        bq.query("DELETE FROM d.t WHERE id = 1", maximum_bytes_billed=1)
    assert len(bq.rows("t")) == 3


# ---- jobs


def test_a_query_runs_once_though_its_answer_is_lost(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    bq.server.faults(Fault("jobs.insert:query", kind="reset", when="after", calls=(1,)))
    bq.query("INSERT INTO d.t VALUES (1)")
    bq.server.faults(Fault("jobs.query", kind="reset", when="after", calls=(1,)))
    bq.client.query_and_wait("INSERT INTO d.t VALUES (2)")
    assert bq.operations().count("jobs.query") == 2
    assert bq.rows("t") == [(1,), (2,)]


def test_another_job_id_runs_again(bq: BigQueryLab) -> None:
    """Idempotency is the id's alone."""
    bq.create("t", "id INT64")
    for job_id in ("one", "two"):
        bq.query("INSERT INTO d.t VALUES (1)", job_id=job_id)
    with refused(Conflict, "duplicate", "Already Exists: Job"):
        bq.query("INSERT INTO d.t VALUES (1)", job_id="two")
    assert len(bq.rows("t")) == 2


def test_a_job_keeps_its_labels_and_is_listed(bq: BigQueryLab) -> None:
    bq.query("SELECT 1", job_id="one", labels={"run": "a"})
    bq.load("t", NUMBERS, job_id="two")
    assert bq.client.get_job("one", location="US").labels == {"run": "a"}
    assert [each.job_id for each in bq.client.list_jobs(page_size=1)] == ["two", "one"]
    bq.client.delete_job_metadata("one", location="US")
    with refused(NotFound, "notFound"):
        bq.client.get_job("one", location="US")


def test_jobs_belong_to_a_location(bq: BigQueryLab) -> None:
    """A job of another location is not found; US and EU need not be said."""
    dataset = bigquery.Dataset(f"{bq.server.project}.tokyo")
    dataset.location = "asia-northeast1"
    bq.client.create_dataset(dataset)
    with bq.server.client(location=None) as client:
        job = client.query("CREATE TABLE tokyo.t AS SELECT 1 AS id")
        job.result()
        assert job.location == "asia-northeast1"
        assert client.get_job(job.job_id, location="asia-northeast1").state == "DONE"
        for location in ("US", None):
            with refused(NotFound, "notFound", "Not found: Job"):
                client.get_job(job.job_id, location=location)
        job = client.query("SELECT 1")
        job.result()
        assert client.get_job(job.job_id).location == "US"
    with refused(NotFound, "notFound", "was not found in location US"):
        bq.ask("SELECT * FROM tokyo.t")
    with refused(NotFound, "notFound", "was not found in location US"):
        bq.query("CREATE TABLE tokyo.u AS SELECT 1 AS id")
    with refused(NotFound, "notFound", "was not found in location US"):
        bq.client.load_table_from_json([{"id": 1}], f"{bq.server.project}.tokyo.t").result()


def test_a_job_takes_its_time_and_can_be_cancelled(bq: BigQueryLab) -> None:
    bq.server.configure(job_s=3_600)
    bq.create("t", "id INT64")
    job = bq.client.query("INSERT INTO d.t VALUES (1)")
    other = bq.client.query("INSERT INTO d.t VALUES (2)")
    assert (job.state, bq.rows("t")) == ("RUNNING", [])
    other.cancel()
    bq.server.advance(3_600)
    job.result()
    assert bq.rows("t") == [(1,)]
    other.reload()
    assert (other.state, other.error_result["reason"]) == ("DONE", "stopped")


def test_results_are_waited_for(bq: BigQueryLab) -> None:
    bq.server.configure(job_s=0.3)
    assert bq.ask("SELECT 1") == [(1,)]
    assert [row[0] for row in bq.client.query_and_wait("SELECT 2")] == [2]
    assert bq.operations().count("jobs.getQueryResults") <= 3


def test_a_job_that_is_no_query_has_no_results(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS, job_id="one")
    with refused(BadRequest, "invalid", "is not a query"):
        bq.client._connection.api_request("GET", f"/projects/{bq.server.project}/queries/one")


def test_a_query_has_at_most_1_mb(bq: BigQueryLab) -> None:
    with refused(BadRequest, "invalid", "The query is too large"):
        bq.query("SELECT '" + "x" * 1024 * 1024 + "'", job_id="one")
    with refused(NotFound, "notFound"):
        bq.client.get_job("one", location="US")


def test_what_the_fake_does_not_know_it_says(bq: BigQueryLab) -> None:
    """501, which no client tries again."""
    path = f"/projects/{bq.server.project}/datasets/d/routines"
    with refused(GoogleAPICallError, "notImplemented", "This fake of BigQuery has no GET"):
        bq.client._connection.api_request("GET", path)
    with refused(GoogleAPICallError, "notImplemented", "useLegacySql"):
        bq.query("SELECT 1", use_legacy_sql=True)
