"""The fake BigQuery's copy jobs and streaming inserts, judged by the real client."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, NotFound
from google.cloud import bigquery

from tests.contract.bigquery_lab import BY_SLICE, BigQueryLab, refused

IDS = pa.table({"id": pa.array([1, 2], pa.int64()), "text": ["a", None]})
ROWS = [(1, "a"), (2, None)]


def sliced(*slices: int, text: str = "a") -> pa.Table:
    return pa.table({"slice": pa.array(slices, pa.int64()), "text": pa.array([text] * len(slices), pa.string())})


# ---- copies


def copied(bq: BigQueryLab, sources: str | list[str], target: str, **config: Any) -> bigquery.CopyJob:
    refs = [bq.ref(each) for each in ([sources] if isinstance(sources, str) else sources)]
    job = bq.client.copy_table(refs, bq.ref(target), job_config=bigquery.CopyJobConfig(**config))
    return job.result()


def test_a_copy_brings_rows_schema_and_partitions(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t", sliced(1, 2))
    copied(bq, "t", "u")
    assert bq.rows("u") == bq.rows("t")
    assert bq.client.get_table(bq.ref("u")).range_partitioning == BY_SLICE
    bq.query("DELETE FROM d.t WHERE TRUE")
    assert len(bq.rows("u")) == 2


def test_a_copy_goes_into_an_empty_table_unless_told_otherwise(bq: BigQueryLab) -> None:
    bq.load("t", IDS)
    copied(bq, "t", "u")
    with refused(Conflict, "duplicate"):
        copied(bq, "t", "u")
    copied(bq, ["t", "t"], "u", write_disposition="WRITE_APPEND")
    assert len(bq.rows("u")) == 6
    copied(bq, "t", "u", write_disposition="WRITE_TRUNCATE")
    assert bq.rows("u") == ROWS


def test_a_partition_is_copied(bq: BigQueryLab) -> None:
    for name in ("t", "u"):
        bq.create(name, "slice INT64", "text STRING", range_partitioning=BY_SLICE)
        bq.load(name, sliced(1, 2, text=name))
    copied(bq, "t$2", "u$2", write_disposition="WRITE_TRUNCATE")
    assert bq.rows("u") == [(1, "u"), (2, "t")]
    with refused(BadRequest, "invalid", "Some rows belong to different partitions"):
        copied(bq, "t$1", "u$3")


@pytest.mark.parametrize(
    ("sources", "kind", "reason"), [("none", NotFound, "notFound"), (["t", "other"], BadRequest, "invalid")]
)
def test_what_cannot_be_copied(bq: BigQueryLab, sources: Any, kind: type[GoogleAPICallError], reason: str) -> None:
    bq.load("t", IDS)
    bq.create("other", "id STRING")
    with refused(kind, reason):
        copied(bq, sources, "u")


def test_nothing_is_copied_to_another_location(bq: BigQueryLab) -> None:
    bq.load("t", IDS)
    eu = bigquery.Dataset(f"{bq.server.project}.eu")
    eu.location = "EU"
    bq.client.create_dataset(eu)
    with refused(BadRequest, "invalid", "location"):
        bq.client.copy_table(bq.ref("t"), f"{bq.server.project}.eu.t", location="EU").result()
    with refused(NotFound, "notFound", "was not found in location US"):
        bq.client.copy_table(bq.ref("t"), f"{bq.server.project}.eu.t", location="US").result()


# ---- insertAll


def test_streamed_rows_are_there_and_wrong_ones_stop_the_others(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64 REQUIRED", "text STRING")
    assert bq.client.insert_rows_json(bq.ref("t"), [{"id": 1, "text": "a"}]) == []
    errors = bq.client.insert_rows_json(bq.ref("t"), [{"id": 2}, {"text": "b"}, {"id": 3, "none": 1}])
    assert {each["index"]: each["errors"][0]["reason"] for each in errors} == {0: "stopped", 1: "invalid", 2: "invalid"}
    errors = bq.client.insert_rows_json(bq.ref("t"), [{"id": 2}, {"text": "b"}], skip_invalid_rows=True)
    assert [each["index"] for each in errors] == [1]
    assert bq.rows("t") == [(1, "a"), (2, None)]


def test_streamed_rows_hold_up_dml_for_half_an_hour(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    bq.client.insert_rows_json(bq.ref("t"), [{"id": 1}])
    with refused(BadRequest, "invalidQuery", "streaming buffer"):
        bq.query("DELETE FROM d.t WHERE id = 1")
    bq.server.advance(31 * 60)
    bq.query("DELETE FROM d.t WHERE id = 1")
    assert bq.rows("t") == []


def test_streamed_rows_are_in_a_buffer_for_ninety_minutes(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    bq.client.insert_rows_json(bq.ref("t"), [{"id": 1}])
    assert bq.client.get_table(bq.ref("t")).streaming_buffer is not None
    bq.server.advance(91 * 60)
    assert bq.client.get_table(bq.ref("t")).streaming_buffer is None
