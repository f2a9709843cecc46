"""The fake BigQuery's query jobs, judged by the real client: statements, rows, costs, jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    GoogleAPICallError,
    NotFound,
)
from google.cloud import bigquery

from tests.contract.bigquery_lab import BY_SLICE, BigQueryLab, refused

MB = 1024 * 1024
NUMBERS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "text": ["a", "bb", None]})


# ---- statements


def test_farm_fingerprint_is_the_documented_value(bq: BigQueryLab) -> None:
    """Source (read 2026-11-28): the example of
    https://cloud.google.com/bigquery/docs/reference/standard-sql/hash_functions#farm_fingerprint
    """
    texts = "[CONCAT('1', 'foo', 'true'), '2apple' || 'false', '3true']"
    found = bq.ask(f"SELECT FARM_FINGERPRINT(each) FROM UNNEST({texts}) AS each WITH OFFSET AS place ORDER BY place")
    assert found == [(-1541654101129638711,), (2794438866806483259,), (-4880158226897771312,)]
    assert bq.ask("SELECT FARM_FINGERPRINT(NULL)") == [(None,)]
    assert bq.ask("SELECT FARM_FINGERPRINT(each) FROM UNNEST([b'1footrue']) AS each") == [(-1541654101129638711,)]
    with refused(BadRequest, "invalidQuery", "No matching signature for function FARM_FINGERPRINT"):
        bq.ask("SELECT FARM_FINGERPRINT(1)")


def test_div_and_mod_keep_their_operands_together(bq: BigQueryLab) -> None:
    assert bq.ask("SELECT DIV(10 + 999, 1000), MOD(1 + 9, 4), DIV(10, 2 + 3) * 2") == [(1, 2, 4)]


def test_values_as_text(bq: BigQueryLab) -> None:
    """Source (read 2026-11-28):
    https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_functions#cast_as_string
    """
    values = "1, 1.0, 1.5, TRUE, b'\\xc3\\xbc', NUMERIC '1.50', NUMERIC '100', BIGNUMERIC '1.50', NULL"
    asked = ", ".join(f"CAST({each.strip()} AS STRING)" for each in values.split(", "))
    assert bq.ask(f"SELECT {asked}") == [("1", "1", "1.5", "true", "ü", "1.5", "100", "1.5", None)]
    with refused(BadRequest, "invalidQuery"):
        bq.ask("SELECT CAST(b'\\xff' AS STRING)")


def test_a_tables_name_is_its_row_before_it_is_a_column(bq: BigQueryLab) -> None:
    """Whatever the case, with an alias as without; under another alias the column is meant.

    Source (read 2026-11-29): https://github.com/google/zetasql/tree/master/zetasql/analyzer/testdata, name scoping
    """
    bq.load("text", NUMBERS)
    row = {"id": 1, "text": "a"}
    assert bq.ask("SELECT text FROM d.text WHERE id = 1") == [(row,)]
    assert bq.ask("SELECT Text AS t, text.text AS column FROM d.text WHERE text.id = 1") == [(row, "a")]
    assert bq.ask("SELECT id FROM d.text AS id WHERE id.id = 1") == [(row,)]
    assert bq.ask("SELECT text FROM d.text AS t WHERE id = 1") == [("a",)]
    with refused(BadRequest, "invalidQuery"):
        bq.ask("SELECT id FROM d.text WHERE text = 'a'")


def test_rows_of_a_table_that_is_gone(bq: BigQueryLab) -> None:
    """Neither the next page nor a query reads it, nor another table in its place."""
    bq.load("t", pa.table({"id": list(range(10))}))
    pages = bq.client.list_rows(bq.client.get_table(bq.ref("t")), page_size=4).pages
    next(pages)
    bq.client.delete_table(bq.ref("t"))
    bq.load("t", NUMBERS)
    with refused(NotFound, "notFound", "page token is of another table"):
        next(pages)
    bq.client.delete_table(bq.ref("t"))
    with refused(NotFound, "notFound"):
        bq.rows("t")


def test_fingerprints_can_be_cut_into_slices_without_an_overflow(bq: BigQueryLab) -> None:
    """ABS(MOD(x, n)): MOD(ABS(x), n) fails on the smallest INT64."""
    smallest = "CAST(-9223372036854775808 AS INT64)"
    assert bq.ask(f"SELECT ABS(MOD({smallest}, 7))") == [(1,)]
    with refused(BadRequest, "invalidQuery"):
        bq.ask(f"SELECT MOD(ABS({smallest}), 7)")


@pytest.mark.parametrize(
    ("sql", "reason", "words"),
    [
        ("SELEC 1", "invalidQuery", "Syntax error"),
        ("", "invalidQuery", "Syntax error"),
        ("SELECT none FROM d.t", "invalidQuery", "Unrecognized name: none"),
        ("SELECT t.none FROM d.t", "invalidQuery", ""),
        ("SELECT * FROM t", "invalidQuery", "must be qualified with a dataset"),
        ("SELECT @none", "invalidQuery", "Query parameter 'none' not found"),
        ("SELECT ?", "invalidQuery", "Query parameter number 1"),
        ("SELECT id, id FROM d.t", "invalidQuery", "Duplicate column names"),
        ("SELECT CAST('x' AS INT64)", "invalidQuery", ""),
        ("CREATE TABLE d.u AS SELECT 1", "invalidQuery", "must be named"),
        ("CREATE TABLE d.t AS SELECT 1 AS x", "duplicate", "Already Exists: Table"),
        ("CREATE TABLE d.u AS SELECT id FROM d.none", "notFound", "Not found: Table"),
        ("SELECT * FROM d.none", "notFound", "was not found in location US"),
        ("SELECT * FROM none.t", "notFound", "Not found: Dataset"),
        ("DROP TABLE d.none", "notFound", "Not found: Table"),
    ],
)
def test_statements_that_fail(bq: BigQueryLab, sql: str, reason: str, words: str) -> None:
    """The job is there, and failed: HTTP 200 for jobs.get, an error for its results."""
    bq.load("t", NUMBERS)
    with refused(GoogleAPICallError, reason, words):
        bq.query(sql, job_id="one")
    job = bq.client.get_job("one", location="US")
    assert (job.state, job.error_result["reason"]) == ("DONE", reason)


def test_parameters(bq: BigQueryLab) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    values: list[Any] = [
        bigquery.ScalarQueryParameter("number", "INT64", 5),
        bigquery.ScalarQueryParameter("text", "STRING", "it's @number \\ \" ü"),
        bigquery.ScalarQueryParameter("at", "TIMESTAMP", when),
        bigquery.ArrayQueryParameter("many", "STRING", ["a", "b'"]),
        bigquery.StructQueryParameter("rec", bigquery.ScalarQueryParameter("x", "INT64", 1)),
    ]
    sql = "SELECT @number + 1, @text, @at, @many, @rec.x, ARRAY_LENGTH(@many), @NUMBER"
    assert bq.ask(sql, query_parameters=values) == [(6, "it's @number \\ \" ü", when, ["a", "b'"], 1, 2, 5)]
    ordered = [bigquery.ScalarQueryParameter(None, "INT64", number) for number in (1, 2)]
    assert bq.ask("SELECT ?, ?", query_parameters=ordered) == [(1, 2)]
    with refused(BadRequest, "invalidQuery", "all named or all positional"):
        bq.ask("SELECT ?, @number", query_parameters=[*values, *ordered])


def test_names_of_tables(bq: BigQueryLab) -> None:
    """Project, dataset and table, quoted as a whole or part by part; a default dataset; a CTE wins."""
    bq.load("t", NUMBERS)
    project = bq.server.project
    for name in (f"`{project}.d.t`", f"`{project}`.d.t", f"`{project}`.`d`.`t`", "d.t", "`d.t`"):
        assert bq.ask(f"SELECT COUNT(*) FROM {name}") == [(3,)]
    assert bq.ask("SELECT COUNT(*) FROM t", default_dataset=f"{project}.d") == [(3,)]
    assert bq.ask("WITH t AS (SELECT 1 AS id) SELECT t.id FROM t", default_dataset=f"{project}.d") == [(1,)]
    assert bq.ask("SELECT t.id FROM d.t JOIN d.t AS u ON t.id = u.id AND u.text = 'a'") == [(1,)]


def test_ddl(bq: BigQueryLab) -> None:
    later = datetime(2099, 1, 1, tzinfo=UTC)
    job = bq.query(
        "CREATE TABLE d.t (id INT64 NOT NULL OPTIONS (description = 'key'), many ARRAY<STRUCT<x STRING, n NUMERIC>>, "
        "day DATE) PARTITION BY DATE_TRUNC(day, MONTH) CLUSTER BY id OPTIONS (description = 'words', "
        "labels = [('a', 'b')], expiration_timestamp = TIMESTAMP '2099-01-01 00:00:00 UTC')"
    )
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_TABLE", "CREATE")
    assert job.ddl_target_table.table_id == "t"
    table = bq.client.get_table(bq.ref("t"))
    assert table.time_partitioning == bigquery.TimePartitioning("MONTH", field="day")
    assert (table.clustering_fields, table.description, table.labels) == (["id"], "words", {"a": "b"})
    assert table.expires == later
    assert [(each.name, each.mode, each.description) for each in table.schema] == [
        ("id", "REQUIRED", "key"), ("many", "REPEATED", None), ("day", "NULLABLE", None),
    ]  # fmt: skip
    assert [each.field_type for each in table.schema[1].fields] == ["STRING", "NUMERIC"]
    assert bq.query("CREATE TABLE IF NOT EXISTS d.t (x INT64)").ddl_operation_performed == "SKIP"
    bq.query("ALTER TABLE d.t ADD COLUMN more STRING")
    bq.query("ALTER TABLE d.t ADD COLUMN IF NOT EXISTS more STRING")
    bq.query("ALTER TABLE d.t SET OPTIONS (description = NULL, expiration_timestamp = NULL)")
    table = bq.client.get_table(bq.ref("t"))
    assert (table.schema[-1].name, table.description, table.expires, table.labels) == ("more", None, None, {"a": "b"})
    with refused(BadRequest, "invalidQuery", "Cannot add required"):
        bq.query("ALTER TABLE d.t ADD COLUMN other STRING NOT NULL")
    assert bq.query("CREATE OR REPLACE TABLE d.t AS SELECT 1 AS x").ddl_operation_performed == "REPLACE"
    assert bq.rows("t") == [(1,)]
    assert bq.query("DROP TABLE d.t").ddl_operation_performed == "DROP"
    assert bq.query("DROP TABLE IF EXISTS d.t").ddl_operation_performed == "SKIP"


def test_a_replaced_table_stays_when_the_query_fails(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    with refused(BadRequest, "invalidQuery"):
        bq.query("CREATE OR REPLACE TABLE d.t AS SELECT CAST(text AS INT64) AS x FROM d.t")
    assert len(bq.rows("t")) == 3


def test_schemas(bq: BigQueryLab) -> None:
    bq.query("CREATE SCHEMA other OPTIONS (location = 'US', description = 'words')")
    assert bq.client.get_dataset("other").description == "words"
    assert bq.query("CREATE SCHEMA IF NOT EXISTS other").ddl_operation_performed == "SKIP"
    with refused(Conflict, "duplicate"):
        bq.query("CREATE SCHEMA other")
    bq.query("CREATE TABLE other.t (x INT64)")
    with refused(BadRequest, "invalidQuery", "still in use"):
        bq.query("DROP SCHEMA other")
    bq.query("DROP SCHEMA other CASCADE")
    with refused(NotFound, "notFound"):
        bq.client.get_dataset("other")


def test_create_as_select_into_a_range(bq: BigQueryLab) -> None:
    bq.query(
        "CREATE TABLE d.t PARTITION BY RANGE_BUCKET(slice, GENERATE_ARRAY(0, 4, 1)) AS "
        "SELECT MOD(n, 4) AS slice, n FROM UNNEST(GENERATE_ARRAY(1, 10)) AS n"
    )
    assert bq.rows("t$1") == [(1, 1), (1, 5), (1, 9)]
    assert bq.client.get_table(bq.ref("t")).range_partitioning == bigquery.RangePartitioning(
        bigquery.PartitionRange(start=0, end=4, interval=1), field="slice"
    )


def test_a_filter_beside_a_view_is_one_of_its_tables(bq: BigQueryLab) -> None:
    """Also where the table asks for one; without it a dry run is refused as well."""
    bq.query("CREATE TABLE d.t (id INT64, day DATE) PARTITION BY day OPTIONS (require_partition_filter = TRUE)")
    bq.query("INSERT INTO d.t (id, day) VALUES (1, DATE '2026-01-01'), (2, DATE '2026-01-02')")
    bq.query("CREATE VIEW d.one AS SELECT * FROM d.t")
    bq.query("CREATE VIEW d.two AS SELECT * FROM d.one")
    assert bq.ask("SELECT id FROM d.two WHERE day = DATE '2026-01-02'") == [(2,)]
    assert bq.query("SELECT id FROM d.two AS v WHERE v.day = DATE '2026-01-02'").total_bytes_processed == 16
    with refused(BadRequest, "invalidQuery", "without a filter over column(s) 'day'"):
        bq.query("SELECT id FROM d.two WHERE id = 1", dry_run=True)


def test_a_job_lists_fifty_of_the_tables_it_reads(bq: BigQueryLab) -> None:
    """Source (read 2026-11-29): https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobStatistics2"""
    for number in range(51):
        bq.create(f"t{number}", "id INT64")
    job = bq.query(" UNION ALL ".join(f"SELECT id FROM d.t{number}" for number in range(51)), dry_run=True)
    assert len(job.referenced_tables) == 50


def test_a_script_runs_its_statements_in_order(bq: BigQueryLab) -> None:
    with refused(NotFound, "notFound"):
        bq.query("CREATE TABLE d.t AS SELECT 1 AS id; INSERT INTO d.t VALUES (2); SELECT * FROM d.none")
    assert bq.rows("t") == [(1,), (2,)]
    assert bq.query("INSERT INTO d.t VALUES (3); SELECT COUNT(*) FROM d.t").statement_type == "SCRIPT"
    assert bq.ask("INSERT INTO d.t VALUES (4); SELECT COUNT(*) FROM d.t") == [(4,)]


def test_a_transaction_is_all_or_nothing(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    with refused(NotFound, "notFound"):
        bq.query("BEGIN TRANSACTION; DELETE FROM d.t WHERE TRUE; INSERT INTO d.none VALUES (1); COMMIT TRANSACTION")
    assert len(bq.rows("t")) == 3
    bq.query(
        "BEGIN TRANSACTION; DELETE FROM d.t WHERE id < 3; UPDATE d.t SET text = 'x' WHERE TRUE; COMMIT TRANSACTION"
    )
    assert bq.rows("t") == [(3, "x")]
    bq.query("BEGIN TRANSACTION; DELETE FROM d.t WHERE TRUE; ROLLBACK TRANSACTION")
    assert bq.rows("t") == [(3, "x")]


# ---- versions


def test_time_travel(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    before = bq.ask("SELECT CURRENT_TIMESTAMP()")[0][0]
    bq.query("DELETE FROM d.t WHERE id > 1")
    at = [bigquery.ScalarQueryParameter("at", "TIMESTAMP", before)]
    assert bq.ask("SELECT COUNT(*) FROM d.t FOR SYSTEM_TIME AS OF @at", query_parameters=at) == [(3,)]
    assert bq.ask("SELECT COUNT(*) FROM d.t AS x FOR SYSTEM_TIME AS OF @at WHERE x.id = 3", query_parameters=at) == [
        (1,)
    ]
    assert bq.ask("SELECT COUNT(*) FROM d.t FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()") == [(1,)]
    for moment in (before - timedelta(days=1), before + timedelta(days=1)):
        at = [bigquery.ScalarQueryParameter("at", "TIMESTAMP", moment)]
        with refused(BadRequest, "invalidQuery", "Invalid time travel timestamp"):
            bq.ask("SELECT COUNT(*) FROM d.t FOR SYSTEM_TIME AS OF @at", query_parameters=at)


def test_time_travel_of_seven_days(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    before = [bigquery.ScalarQueryParameter("at", "TIMESTAMP", bq.ask("SELECT CURRENT_TIMESTAMP()")[0][0])]
    bq.query("DELETE FROM d.t WHERE TRUE")
    bq.server.advance(7 * 86_400 - 60)
    assert bq.ask("SELECT COUNT(*) FROM d.t FOR SYSTEM_TIME AS OF @at", query_parameters=before) == [(3,)]
    bq.server.advance(120)
    with refused(BadRequest, "invalidQuery", "Invalid time travel timestamp"):
        bq.ask("SELECT COUNT(*) FROM d.t FOR SYSTEM_TIME AS OF @at", query_parameters=before)


def test_pages_are_of_one_version(bq: BigQueryLab) -> None:
    bq.load("t", pa.table({"id": list(range(10))}))
    rows = bq.client.list_rows(bq.ref("t"), selected_fields=[bigquery.SchemaField("id", "INT64")], page_size=4)
    pages = rows.pages
    seen = [row[0] for row in next(pages)]
    bq.load("t", pa.table({"id": [99]}), write_disposition="WRITE_TRUNCATE")
    seen += [row[0] for page in pages for row in page]
    assert sorted(seen) == list(range(10))
    assert bq.operations().count("tabledata.list") == 3


def test_a_page_is_not_larger_than_10_mb(bq: BigQueryLab) -> None:
    bq.server.configure(page_bytes=1_000)
    bq.load("t", pa.table({"text": ["x" * 200] * 20}))
    assert len(bq.rows("t")) == 20
    assert bq.operations().count("tabledata.list") == 5
    assert len(bq.ask("SELECT * FROM d.t")) == 20
    assert bq.operations().count("jobs.getQueryResults") >= 5


def test_columns_and_a_start_may_be_chosen(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    table = bq.client.get_table(bq.ref("t"))
    rows = bq.client.list_rows(table, selected_fields=[bigquery.SchemaField("text", "STRING")], start_index=1)
    assert sorted((row.values() for row in rows), key=repr) == [("bb",), (None,)]
    assert len(list(bq.client.list_rows(table, max_results=2))) == 2
    with refused(BadRequest, "invalid", "no such field"):
        list(bq.client.list_rows(table, selected_fields=[bigquery.SchemaField("none", "STRING")]))


# ---- destinations


def test_results_go_into_a_table(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    assert bq.ask("SELECT id FROM d.t WHERE id < 3", destination=bq.ref("u")) == [(1,), (2,)]
    with refused(Conflict, "duplicate"):
        bq.ask("SELECT id FROM d.t", destination=bq.ref("u"))
    bq.query("SELECT id FROM d.t", destination=bq.ref("u"), write_disposition="WRITE_APPEND")
    assert len(bq.rows("u")) == 5
    with refused(BadRequest, "invalid", "Cannot add fields (field: text)"):
        bq.query("SELECT id, text FROM d.t", destination=bq.ref("u"), write_disposition="WRITE_APPEND")
    bq.query("SELECT text FROM d.t", destination=bq.ref("u"), write_disposition="WRITE_TRUNCATE")
    assert bq.rows("u") == [("a",), ("bb",), (None,)]
    with refused(NotFound, "notFound"):
        bq.query("SELECT 1 AS x", destination=bq.ref("w"), create_disposition="CREATE_NEVER")


def test_results_go_into_a_partition(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t", pa.table({"slice": [1, 2], "text": ["old", "old"]}))
    to = {"destination": bq.ref("t$2"), "write_disposition": "WRITE_TRUNCATE"}
    assert bq.ask("SELECT 2 AS slice, 'new' AS text", **to) == [(2, "new")]
    with refused(BadRequest, "invalid", "Some rows belong to different partitions"):
        bq.query("SELECT 1 AS slice, 'new' AS text", **to)
    assert bq.rows("t") == [(1, "old"), (2, "new")]


# ---- tables about tables


def test_information_schema(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64 REQUIRED", "many STRING REPEATED", range_partitioning=BY_SLICE)
    schema = [bigquery.SchemaField("slice", "INT64", "REQUIRED")]
    bq.load("t", pa.table({"slice": [1, 2, 2]}), schema=schema)
    first = dict(bq.ask("SELECT partition_id, last_modified_time FROM d.INFORMATION_SCHEMA.PARTITIONS"))
    bq.load("t$2", pa.table({"slice": [2]}), schema=schema)
    bq.query("CREATE VIEW d.v AS SELECT slice FROM d.t")
    found = f"`{bq.server.project}`.d.INFORMATION_SCHEMA"
    rows = bq.ask(
        f"SELECT partition_id, total_rows, total_logical_bytes, table_name FROM {found}.PARTITIONS ORDER BY 1"
    )
    assert rows == [("1", 1, 8, "t"), ("2", 3, 24, "t")]
    second = dict(bq.ask(f"SELECT partition_id, last_modified_time FROM {found}.PARTITIONS"))
    assert second["1"] == first["1"] and second["2"] > first["2"]
    tables = bq.ask(f"SELECT table_name, table_type FROM `{bq.server.project}.d.INFORMATION_SCHEMA.TABLES` ORDER BY 1")
    assert tables == [("t", "BASE TABLE"), ("v", "VIEW")]
    columns = bq.ask(
        f"SELECT column_name, data_type, is_nullable, is_partitioning_column FROM {found}.COLUMNS "
        "WHERE table_name = 't' ORDER BY ordinal_position"
    )
    assert columns == [("slice", "INT64", "NO", "YES"), ("many", "ARRAY<STRING>", "YES", "NO")]


def test_underscored_tables(bq: BigQueryLab) -> None:
    bq.load("t", NUMBERS)
    bq.query("CREATE VIEW d.v AS SELECT 1 AS x")
    table = bq.client.get_table(bq.ref("t"))
    [[name, rows, size, kind, modified_ms], view] = bq.ask(
        "SELECT table_id, row_count, size_bytes, type, last_modified_time FROM d.__TABLES__ ORDER BY 1"
    )
    assert (name, rows, size, kind, view[:4]) == ("t", 3, 31, 1, ("v", 0, 0, 2))
    assert modified_ms == round(table.modified.timestamp() * 1000)
