"""The fake BigQuery's load jobs, judged by the real client."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, InternalServerError, NotFound
from google.cloud import bigquery

from tests.bigquery_server.process import Fault
from tests.contract.bigquery_lab import BY_SLICE, BigQueryLab, refused

IDS = pa.table({"id": pa.array([1, 2], pa.int64()), "text": ["a", None]})
ROWS = [(1, "a"), (2, None)]


@pytest.mark.parametrize("resumable", [False, True])
def test_parquet_is_loaded(bq: BigQueryLab, resumable: bool) -> None:
    job = bq.load("t", IDS, resumable=resumable)
    assert (job.state, job.output_rows, job.error_result, job.location) == ("DONE", 2, None, "US")
    assert job.input_files == 1 and job.input_file_bytes > 100 and job.output_bytes == 8 + 8 + 3
    assert bq.rows("t") == ROWS
    assert ("jobs.upload" in bq.operations()) == resumable


def test_json_is_loaded(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64", "text STRING")
    job = bq.load("t", [{"id": 1, "text": "a"}, {"id": "2"}])
    assert job.output_rows == 2
    assert bq.rows("t") == ROWS


def test_a_large_file_comes_in_chunks(bq: BigQueryLab) -> None:
    """The client's chunks are 100 MB; smaller ones here, to see several."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["x" * 1000 + str(n) for n in range(1500)]}), file, compression="none")
    from google.cloud.bigquery import client as module

    before, module._DEFAULT_CHUNKSIZE = module._DEFAULT_CHUNKSIZE, 512 * 1024
    try:
        config = bigquery.LoadJobConfig(source_format="PARQUET")
        job = bq.client.load_table_from_file(file, bq.ref("t"), rewind=True, job_config=config)
    finally:
        module._DEFAULT_CHUNKSIZE = before
    assert job.result().output_rows == 1500
    statuses = [each["status"] for each in bq.server.log() if each["operation"] == "jobs.upload"]
    assert statuses == [308, 308, 308, 200] or (statuses[-1] == 200 and set(statuses[:-1]) == {308})


# ---- dispositions


def test_append_truncate_and_empty(bq: BigQueryLab) -> None:
    bq.load("t", IDS)
    bq.load("t", IDS)
    assert len(bq.rows("t")) == 4
    bq.load("t", IDS, write_disposition="WRITE_TRUNCATE")
    assert bq.rows("t") == ROWS
    with refused(Conflict, "duplicate", "Already Exists: Table"):
        bq.load("t", IDS, write_disposition="WRITE_EMPTY")
    bq.query("TRUNCATE TABLE d.t")
    bq.load("t", IDS, write_disposition="WRITE_EMPTY")
    assert bq.rows("t") == ROWS


def test_a_table_is_created_only_when_it_may_be(bq: BigQueryLab) -> None:
    with refused(NotFound, "notFound", "Not found: Table"):
        bq.load("t", IDS, create_disposition="CREATE_NEVER")
    with refused(NotFound, "notFound"):
        bq.client.get_table(bq.ref("t"))


def test_truncating_a_table_gives_it_the_new_schema(bq: BigQueryLab) -> None:
    bq.load("t", IDS)
    bq.load("t", pa.table({"other": [1.5]}), write_disposition="WRITE_TRUNCATE")
    assert [each.name for each in bq.client.get_table(bq.ref("t")).schema] == ["other"]
    assert bq.rows("t") == [(1.5,)]


def test_a_table_without_columns_takes_those_of_its_first_rows(bq: BigQueryLab) -> None:
    bq.create("t")
    bq.load("t", IDS)
    assert bq.rows("t") == ROWS


# ---- schemas


def test_a_column_the_table_has_not(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    with refused(BadRequest, "invalid", "Cannot add fields (field: text)"):
        bq.load("t", IDS)
    with refused(BadRequest, "invalid", "No such field: text"):
        bq.load("t", [{"id": 1, "text": "a"}])
    with refused(BadRequest, "invalid", "Cannot add fields (field: text)"):
        bq.load("u", IDS, schema=[bigquery.SchemaField("id", "INT64")])
    bq.load("t", [{"id": 1, "text": "a"}], ignore_unknown_values=True)
    bq.load("t", IDS, schema_update_options=["ALLOW_FIELD_ADDITION"])
    assert bq.rows("t") == [(1, "a"), (1, None), (2, None)]


def test_a_column_of_another_type(bq: BigQueryLab) -> None:
    bq.create("t", "id STRING", "text STRING")
    with refused(BadRequest, "invalid", "has changed type from STRING to INTEGER"):
        bq.load("t", IDS)
    with refused(BadRequest, "invalid", "has changed type from STRING to INTEGER"):
        bq.load("t", IDS, schema=bq.client.get_table(bq.ref("t")).schema)
    assert bq.rows("t") == []


def test_a_column_the_file_has_not_is_null(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64", "text STRING", "more STRING")
    bq.load("t", IDS)
    assert bq.ask("SELECT more FROM d.t") == [(None,), (None,)]


def test_required_columns(bq: BigQueryLab) -> None:
    """Parquet's optional columns go into REQUIRED ones only when the request's schema says REQUIRED.

    Source: https://github.com/googleapis/python-bigquery/issues/1981 (read 2026-11-28).
    """
    table = bq.create("t", "id INT64 REQUIRED", "text STRING")
    with refused(BadRequest, "invalid", "has changed mode from REQUIRED to NULLABLE"):
        bq.load("t", IDS)
    bq.load("t", IDS, schema=table.schema)
    with refused(BadRequest, "invalid", "id cannot be null"):
        bq.load("t", pa.table({"id": pa.array([None], pa.int64()), "text": ["a"]}), schema=table.schema)
    with refused(BadRequest, "invalid", "Missing required field: id"):
        bq.load("t", [{"text": "a"}])
    with refused(BadRequest, "invalid", "id is missing in new schema"):
        bq.load("t", IDS.select(["text"]))
    assert bq.rows("t") == ROWS
    relaxed = bq.load("t", IDS.select(["text"]), schema_update_options=["ALLOW_FIELD_RELAXATION"])
    assert relaxed.output_rows == 2
    assert {each.mode for each in bq.client.get_table(table).schema} == {"NULLABLE"}


def test_a_file_that_says_required_and_a_request_that_says_nullable(bq: BigQueryLab) -> None:
    strict = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    with refused(BadRequest, "invalid", "does not match REQUIRED as specified in the file"):
        bq.load("t", pa.table({"id": [1]}, strict), schema=[bigquery.SchemaField("id", "INT64")])
    bq.load("t", pa.table({"id": [1]}, strict))
    assert bq.client.get_table(bq.ref("t")).schema[0].mode == "REQUIRED"


def test_arrays_of_parquet_need_list_inference(bq: BigQueryLab) -> None:
    """Without it an array is a RECORD `list.element`.

    Source (read 2026-11-28):
    https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#list_logical_type
    """
    arrays = pa.table({"numbers": [[1, 2], []]})
    inferred = bigquery.ParquetOptions()
    inferred.enable_list_inference = True
    bq.load("plain", arrays)
    field = bq.client.get_table(bq.ref("plain")).schema[0]
    assert (field.field_type, field.mode, field.fields[0].name, field.fields[0].mode) == (
        "RECORD", "NULLABLE", "list", "REPEATED",
    )  # fmt: skip
    schema = [bigquery.SchemaField("numbers", "INT64", "REPEATED")]
    with refused(BadRequest, "invalid", "has changed mode from REPEATED to NULLABLE"):
        bq.load("t", arrays, schema=schema)
    bq.load("t", arrays, schema=schema, parquet_options=inferred)
    assert bq.rows("t") == [([1, 2],), ([],)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "one"}], "Could not convert value to integer"),
        ([{"id": 1.5}], "Could not convert value to integer"),
        ([{"id": 2**63}], "Could not convert value to integer"),
        ([{"id": [1]}], "Array specified for non-repeated field"),
        ([{"id": 1, "day": "2026-02-30"}], "Could not convert value to date"),
        ([{"id": 1, "flag": "maybe"}], "Could not convert value to boolean"),
        ([{"id": 1, "many": [1, None]}], "Only optional fields can be set to NULL"),
    ],
)
def test_a_value_that_is_none_of_its_column(bq: BigQueryLab, rows: list[dict[str, Any]], words: str) -> None:
    bq.create("t", "id INT64", "day DATE", "flag BOOL", "many INT64 REPEATED")
    with refused(BadRequest, "invalid", words):
        bq.load("t", [{"id": 0}, *rows])
    assert bq.rows("t") == []


def test_files_that_are_none(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    for source, words in (("PARQUET", "not in Parquet format"), ("NEWLINE_DELIMITED_JSON", "JSON parsing error")):
        config = bigquery.LoadJobConfig(source_format=source, schema=[bigquery.SchemaField("id", "INT64")])
        with refused(BadRequest, "invalid", words):
            bq.client.load_table_from_file(io.BytesIO(b"{no"), bq.ref("t"), size=3, job_config=config).result()


def test_a_row_has_at_most_100_mb(bq: BigQueryLab) -> None:
    bq.create("t", "text STRING")
    bq.server.configure(limits={"row_bytes": 100})
    bq.load("t", [{"text": "x" * 50}])
    with refused(BadRequest, "invalid", "larger than 100 bytes"):
        bq.load("t", [{"text": "x" * 100}])


# ---- partitions


def sliced(*slices: int, text: str = "a") -> pa.Table:
    return pa.table({"slice": pa.array(slices, pa.int64()), "text": pa.array([text] * len(slices), pa.string())})


def test_a_decorator_replaces_one_partition(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t", sliced(1, 2, 2, 3, text="old"))
    bq.load("t$2", sliced(2, text="new"), write_disposition="WRITE_TRUNCATE")
    assert bq.rows("t") == [(1, "old"), (2, "new"), (3, "old")]
    assert bq.rows("t$2") == [(2, "new")]
    bq.load("t$2", sliced(2, text="more"))
    assert bq.rows("t$2") == [(2, "more"), (2, "new")]
    bq.load("t$2", sliced(), write_disposition="WRITE_TRUNCATE")
    assert bq.rows("t") == [(1, "old"), (3, "old")]


def test_rows_of_another_partition_are_an_error(bq: BigQueryLab) -> None:
    """Source of the words: https://github.com/mozilla/bigquery-etl/pull/4419 (read 2026-11-28)."""
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t", sliced(1, 2))
    with refused(BadRequest, "invalid", "Some rows belong to different partitions"):
        bq.load("t$2", sliced(2, 1), write_disposition="WRITE_TRUNCATE")
    assert bq.rows("t") == [(1, "a"), (2, "a")]


def test_an_empty_partition_may_be_written_with_write_empty(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t$1", sliced(1), write_disposition="WRITE_EMPTY")
    bq.load("t$2", sliced(2), write_disposition="WRITE_EMPTY")
    with refused(Conflict, "duplicate"):
        bq.load("t$2", sliced(2), write_disposition="WRITE_EMPTY")


@pytest.mark.parametrize("partition", ["10", "-1", "x", "20260101"])
def test_a_decorator_that_names_no_partition(bq: BigQueryLab, partition: str) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    with refused(BadRequest, "invalid", "names no partition"):
        bq.load(f"t${partition}", sliced(1))


def test_a_decorator_of_a_table_that_is_not_cut(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING")
    with refused(BadRequest, "invalid", "is not partitioned"):
        bq.load("t$1", sliced(1))
    with refused(BadRequest, "invalid", "is not partitioned"):
        bq.rows("t$1")


def test_numbers_outside_the_range_and_nulls_have_partitions_of_their_own(bq: BigQueryLab) -> None:
    span = bigquery.PartitionRange(start=10, end=30, interval=5)
    bq.create("t", "n INT64", range_partitioning=bigquery.RangePartitioning(span, field="n"))
    bq.load("t", pa.table({"n": pa.array([9, 10, 14, 15, 29, 30, None], pa.int64())}))
    found = bq.ask("SELECT partition_id, total_rows FROM d.INFORMATION_SCHEMA.PARTITIONS ORDER BY 1")
    assert found == [("10", 2), ("15", 1), ("25", 1), ("__NULL__", 1), ("__UNPARTITIONED__", 2)]
    assert bq.rows("t$15") == [(15,)]


@pytest.mark.parametrize(
    ("unit", "partition", "inside", "outside"),
    [
        ("HOUR", "2026010203", "2026-01-02 03:59:59.999999", "2026-01-02 04:00:00"),
        ("DAY", "20260102", "2026-01-02 23:59:59.999999", "2026-01-03 00:00:00"),
        ("MONTH", "202601", "2026-01-31 00:00:00", "2026-02-01 00:00:00"),
        ("YEAR", "2026", "2026-12-31 00:00:00", "2027-01-01 00:00:00"),
    ],
)
def test_partitions_by_time(bq: BigQueryLab, unit: str, partition: str, inside: str, outside: str) -> None:
    cut = bigquery.TimePartitioning(unit, field="at")
    bq.create("t", "at TIMESTAMP", time_partitioning=cut)
    bq.load(f"t${partition}", [{"at": inside}])
    with refused(BadRequest, "invalid", "Some rows belong to different partitions"):
        bq.load(f"t${partition}", [{"at": outside}])
    assert bq.client.get_table(bq.ref("t")).time_partitioning == cut


def test_partitions_by_the_time_of_the_load(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64", time_partitioning=bigquery.TimePartitioning("DAY"))
    bq.load("t$20260102", [{"id": 1}])
    bq.load("t$20260103", [{"id": 2}])
    bq.load("t$20260102", [{"id": 3}], write_disposition="WRITE_TRUNCATE")
    assert (bq.rows("t$20260102"), bq.rows("t")) == ([(3,)], [(2,), (3,)])


def test_a_load_may_create_a_partitioned_table(bq: BigQueryLab) -> None:
    bq.load("t$2", sliced(2), range_partitioning=BY_SLICE)
    assert bq.client.get_table(bq.ref("t")).range_partitioning == BY_SLICE
    other = bigquery.RangePartitioning(bigquery.PartitionRange(start=0, end=10, interval=5), field="slice")
    with refused(BadRequest, "invalid", "Incompatible table partitioning specification"):
        bq.load("t", sliced(2), range_partitioning=other)


# ---- job ids


def test_a_job_id_is_used_once(bq: BigQueryLab) -> None:
    bq.load("t", IDS, job_id="one")
    with refused(Conflict, "duplicate", f"Already Exists: Job {bq.server.project}:US.one"):
        bq.load("t", IDS, job_id="one")
    assert bq.rows("t") == ROWS
    assert bq.client.get_job("one", location="US").output_rows == 2


def test_a_failed_job_has_used_its_id(bq: BigQueryLab) -> None:
    bq.create("t", "id STRING")
    with refused(BadRequest, "invalid"):
        bq.load("t", IDS.select(["id"]), job_id="one")
    job = bq.client.get_job("one", location="US")
    assert (job.state, job.error_result["reason"]) == ("DONE", "invalid")
    with refused(Conflict, "duplicate"):
        bq.load("t", IDS.select(["id"]), job_id="one")


def test_a_job_id_has_letters_digits_dashes_and_underscores(bq: BigQueryLab) -> None:
    with refused(BadRequest, "invalid", "Invalid job ID"):
        bq.load("t", IDS, job_id="a.b")


def test_a_destination_without_its_dataset_leaves_no_job(bq: BigQueryLab) -> None:
    with refused(NotFound, "notFound", "Not found: Dataset"):
        config = bigquery.LoadJobConfig(source_format="PARQUET")
        file = io.BytesIO(b"..")
        bq.client.load_table_from_file(file, f"{bq.server.project}.no.t", size=2, job_id="one", job_config=config)
    with refused(NotFound, "notFound", "Not found: Job"):
        bq.client.get_job("one", location="US")


def test_a_lost_answer_of_a_multipart_upload_is_a_conflict_though_the_load_ran(bq: BigQueryLab) -> None:
    """The client's own retry sends the same job id again; so a caller must ask for the job on Conflict."""
    bq.server.faults(Fault("jobs.insert:load", kind="reset", when="after", calls=(1,)))
    with refused(Conflict, "duplicate"):
        bq.load("t", IDS, job_id="one")
    assert bq.client.get_job("one", location="US").output_rows == 2
    assert bq.rows("t") == ROWS


def test_a_lost_answer_of_a_resumable_upload_is_recovered(bq: BigQueryLab) -> None:
    bq.server.faults(Fault("jobs.upload", kind="reset", when="after", calls=(1,)))
    job = bq.load("t", IDS, resumable=True, job_id="one")
    assert job.output_rows == 2
    assert bq.rows("t") == ROWS


def test_a_failed_load_changes_nothing(bq: BigQueryLab) -> None:
    bq.load("t", IDS)
    etag = bq.client.get_table(bq.ref("t")).etag
    bq.server.faults(Fault("jobs.insert:load", kind="job", reason="jobBackendError", calls=(1,)))
    with refused(InternalServerError, "jobBackendError", "injected"):
        bq.load("t", IDS, write_disposition="WRITE_TRUNCATE")
    assert bq.rows("t") == ROWS
    assert bq.client.get_table(bq.ref("t")).etag == etag
