"""The fake BigQuery's limits, judged by the real client.

Source of the numbers: https://cloud.google.com/bigquery/quotas (read 2026-11-28), and where docs/reference says so.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, Forbidden, TooManyRequests
from google.cloud import bigquery

from tests.bigquery_server.limits import Limits
from tests.contract.bigquery_lab import BY_SLICE, BigQueryLab, refused

ONE = pa.table({"slice": pa.array([1], pa.int64())})


@pytest.fixture(autouse=True)
def real_limits(bq: BigQueryLab) -> None:
    """As BigQuery has them."""
    real = Limits()
    names = ("table_changes_per_10_s", "metadata_changes_per_10_s")
    bq.server.configure(limits={name: getattr(real, name) for name in names})


def test_the_numbers_are_bigquerys() -> None:
    assert Limits() == Limits(
        table_changes_per_day=1_500, partition_changes_per_day=30_000, ingestion_partition_changes_per_day=11_000,
        table_changes_per_10_s=5, partitioned_table_changes_per_10_s=50, metadata_changes_per_10_s=5,
        partitions_per_job=4_000, partitions_per_table=10_000, row_bytes=104_857_600,
        dml_running_per_table=2, dml_queued_per_table=20,
    )  # fmt: skip


@pytest.mark.parametrize(("cut", "most"), [(None, 5), (BY_SLICE, 50)])
def test_a_table_is_changed_so_often_in_10_seconds(bq: BigQueryLab, cut: Any, most: int) -> None:
    """Source of the words: https://github.com/trinodb/trino/issues/16416 (read 2026-11-28)."""
    bq.create("t", "slice INT64", range_partitioning=cut)
    for _ in range(most):
        bq.load("t", ONE)
    with refused(TooManyRequests, "rateLimitExceeded", "too many table update operations for this table"):
        bq.load("t", ONE)
    assert len(bq.rows("t")) == most
    bq.server.advance(11)
    bq.load("t", ONE)


@pytest.mark.parametrize(
    ("cut", "limit"),
    [
        ({}, "table_changes_per_day"),
        ({"range_partitioning": BY_SLICE}, "partition_changes_per_day"),
        ({"time_partitioning": bigquery.TimePartitioning("DAY")}, "ingestion_partition_changes_per_day"),
    ],
)
def test_a_table_is_changed_so_often_in_a_day_and_failed_jobs_count(
    bq: BigQueryLab, cut: dict[str, Any], limit: str
) -> None:
    bq.create("t", "slice INT64", **cut)
    bq.server.configure(limits={limit: 3})
    bq.load("t", ONE)
    with refused(BadRequest, "invalid"):
        bq.load("t", pa.table({"slice": ["x"]}))
    bq.client.copy_table(
        bq.ref("t"), bq.ref("t"), job_config=bigquery.CopyJobConfig(write_disposition="WRITE_TRUNCATE")
    ).result()
    with refused(Forbidden, "quotaExceeded", "Your table exceeded quota"):
        bq.load("t", ONE)
    with refused(Forbidden, "quotaExceeded"):
        bq.query("SELECT 1 AS slice", destination=bq.ref("t"), write_disposition="WRITE_APPEND")
    bq.query("INSERT INTO d.t (slice) VALUES (2)")  # DML does not count
    bq.server.advance(86_401)
    bq.load("t", ONE)
    assert len(bq.ask("SELECT * FROM d.t")) == 3


def test_a_job_touches_so_many_partitions(bq: BigQueryLab) -> None:
    bq.server.configure(limits={"partitions_per_job": 3})
    bq.create("t", "slice INT64", range_partitioning=BY_SLICE)
    bq.load("t", pa.table({"slice": [1, 2, 3]}))
    with refused(Forbidden, "quotaExceeded", "Too many partitions produced by query, allowed 3"):
        bq.load("t", pa.table({"slice": [1, 2, 3, 4]}))
    with refused(Forbidden, "quotaExceeded", "Too many partitions"):
        bq.query(
            "CREATE TABLE d.u PARTITION BY RANGE_BUCKET(slice, GENERATE_ARRAY(0, 10, 1)) AS "
            "SELECT slice FROM UNNEST(GENERATE_ARRAY(1, 4)) AS slice"
        )
    with refused(Forbidden, "quotaExceeded", "Too many partitions"):
        bq.query("INSERT INTO d.t SELECT slice FROM UNNEST(GENERATE_ARRAY(1, 4)) AS slice")
    assert len(bq.rows("t")) == 3


def test_a_table_has_so_many_partitions(bq: BigQueryLab) -> None:
    bq.server.configure(limits={"partitions_per_table": 3})
    bq.create("t", "slice INT64", range_partitioning=BY_SLICE)
    bq.load("t", pa.table({"slice": [1, 2, 3]}))
    with refused(Forbidden, "quotaExceeded", "Too many partitions in"):
        bq.load("t", pa.table({"slice": [4]}))
    with refused(Forbidden, "quotaExceeded", "Too many partitions in"):
        bq.query("INSERT INTO d.t VALUES (4)")


def test_two_statements_change_a_table_at_once_twenty_wait_more_fail(bq: BigQueryLab) -> None:
    """Source of the words: https://github.com/m-lab/etl-gardener/issues/293 (read 2026-11-28)."""
    bq.create("t", "n INT64")
    bq.load("t", [{"n": 0}])
    bq.server.configure(job_s=60)
    jobs = [bq.client.query("UPDATE d.t SET n = n + 1 WHERE TRUE") for _ in range(22)]
    assert [job.state for job in jobs] == ["RUNNING"] * 2 + ["PENDING"] * 20
    other = bq.client.query("INSERT INTO d.t VALUES (100)")  # is not limited
    assert other.state == "RUNNING"
    with refused(BadRequest, "resourcesExceeded", "Too many DML statements outstanding against table"):
        bq.client.query("DELETE FROM d.t WHERE TRUE").result()
    bq.server.advance(60)
    jobs[2].reload()
    assert jobs[2].state == "RUNNING"
    for _ in range(10):
        bq.server.advance(60)
        bq.client.get_job(jobs[0].job_id, location="US")
    bq.server.advance(60)
    for job in jobs:
        job.result()
    assert (22,) in bq.rows("t")


def test_a_table_partitioned_by_a_load_counts_as_such(bq: BigQueryLab) -> None:
    """The 10 s of a standard table do not hold up a table of slices."""
    for _ in range(6):
        bq.load("t$1", ONE, range_partitioning=BY_SLICE, write_disposition="WRITE_TRUNCATE")
    assert bq.rows("t") == [(1,)]


def test_what_is_known_of_a_table_is_changed_so_often(bq: BigQueryLab) -> None:
    for number in range(5):
        bq.query(f"CREATE OR REPLACE TABLE d.t AS SELECT {number} AS n")
    for statement in ("DROP TABLE d.t", "CREATE OR REPLACE TABLE d.t (x INT64)", "ALTER TABLE d.t ADD COLUMN x INT64"):
        with refused(TooManyRequests, "rateLimitExceeded", "too many table update operations"):
            bq.query(statement, job_id=statement.split()[0])
    table = bq.client.get_table(bq.ref("t"))
    with refused(Forbidden, "rateLimitExceeded"):
        bq.client.update_table(table, ["description"], retry=None)
    assert bq.rows("t") == [(4,)]
    bq.server.advance(11)
    bq.query("DROP TABLE d.t")
