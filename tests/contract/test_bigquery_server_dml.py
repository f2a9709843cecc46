"""The fake BigQuery's INSERT, UPDATE, DELETE, MERGE and TRUNCATE, judged by the real client."""

from __future__ import annotations

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.bigquery import DmlStats

from tests.contract.bigquery_lab import BY_SLICE, BigQueryLab, refused

OLD = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "text": ["a", "b", "c"]})
NEW = pa.table({"id": pa.array([2, 3, 4], pa.int64()), "text": ["B", "c", "D"]})
DOUBLE = pa.table({"id": pa.array([2, 2], pa.int64()), "text": ["x", "y"]})


@pytest.fixture
def tables(bq: BigQueryLab) -> BigQueryLab:
    """t, and what shall come into it: new (3 rows), double (two rows of one key)."""
    for name, rows in (("t", OLD), ("new", NEW), ("double", DOUBLE)):
        bq.load(name, rows)
    return bq


def test_insert(tables: BigQueryLab) -> None:
    job = tables.query("INSERT INTO d.t (text, id) VALUES ('d', 4), (NULL, 5)")
    assert (job.num_dml_affected_rows, job.dml_stats) == (2, DmlStats(2, 0, 0))
    assert job.statement_type == "INSERT"
    tables.query("INSERT INTO d.t SELECT id + 10, text FROM d.t WHERE id = 1")
    tables.query("INSERT d.t (id) SELECT 6")
    assert tables.rows("t") == [
        (1, "a"), (11, "a"), (2, "b"), (3, "c"), (4, "d"), (5, None), (6, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("INSERT INTO d.t (id, none) VALUES (1, 2)", "Column none is not present in table"),
        ("INSERT INTO d.t (id) VALUES (1, 2)", "wrong column count"),
        ("INSERT INTO d.t SELECT 1", "wrong column count"),
        ("INSERT INTO d.t (id) SELECT text FROM d.t", "has type STRING which cannot be inserted into column id"),
        ("INSERT INTO d.t (text) SELECT id FROM d.t", "has type INT64 which cannot be inserted into column text"),
        ("UPDATE d.t SET none = 1 WHERE TRUE", "Unrecognized name: none"),
        ("UPDATE d.t SET id = 1, id = 2 WHERE TRUE", "assigned more than once"),
        ("UPDATE d.t SET id = text WHERE TRUE", "Value of type STRING cannot be assigned to id"),
        ("UPDATE d.t SET id = 1", "UPDATE must have a WHERE clause"),
        ("DELETE FROM d.t", "DELETE must have a WHERE clause"),
        ("DELETE FROM d.t WHERE none = 1", "Unrecognized name: none"),
        ("MERGE d.t AS t USING d.new AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET none = 1", "Unrecognized name"),
        (
            "MERGE d.t AS t USING d.new AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = s.text",
            "cannot be assigned",
        ),
        ("MERGE d.t AS t USING (SELECT 1 AS id) AS s ON FALSE WHEN NOT MATCHED THEN INSERT ROW", "wrong column count"),
        ("MERGE d.t AS t USING d.new AS s ON FALSE WHEN NOT MATCHED THEN INSERT (none) VALUES (1)", "not present"),
        ("MERGE d.t AS t USING d.new AS s ON FALSE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.text)", "cannot be"),
        ("MERGE d.t AS t USING d.new AS s ON FALSE WHEN NOT MATCHED THEN INSERT (id) VALUES (1, 2)", "column count"),
    ],
)
def test_dml_that_is_refused(tables: BigQueryLab, sql: str, words: str) -> None:
    with refused(BadRequest, "invalidQuery", words):
        tables.query(sql)
    assert tables.rows("t") == [(1, "a"), (2, "b"), (3, "c")]


def test_numbers_are_widened_and_literals_fit(bq: BigQueryLab) -> None:
    """Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules (read 2026-11-28)."""
    bq.query("CREATE TABLE d.t (n NUMERIC, f FLOAT64, day DATE, at TIMESTAMP)")
    bq.query("INSERT INTO d.t (n, f) SELECT id, id FROM UNNEST([1]) AS id")
    bq.query("INSERT INTO d.t (day, at) VALUES ('2026-01-01', '2026-01-01 00:00:00')")
    assert bq.ask("SELECT COUNT(n), COUNT(f), COUNT(day), COUNT(at) FROM d.t") == [(1, 1, 1, 1)]
    bq.query("CREATE TABLE d.u (id INT64)")
    with refused(BadRequest, "invalidQuery", "has type FLOAT64 which cannot be inserted into column id"):
        bq.query("INSERT INTO d.u SELECT 1.5 * id FROM UNNEST([1]) AS id")


def test_required_columns_stay_filled(bq: BigQueryLab) -> None:
    bq.query("CREATE TABLE d.t (id INT64 NOT NULL, text STRING)")
    bq.query("INSERT INTO d.t VALUES (1, 'a')")
    for sql in ("INSERT INTO d.t (text) VALUES ('b')", "UPDATE d.t SET id = NULL WHERE TRUE"):
        with refused(BadRequest, "invalidQuery", "id cannot be null"):
            bq.query(sql)
    assert bq.rows("t") == [(1, "a")]


def test_update_and_delete(tables: BigQueryLab) -> None:
    job = tables.query("UPDATE d.t SET text = CONCAT(text, '!'), id = id * 10 WHERE id > 1")
    assert (job.num_dml_affected_rows, job.dml_stats) == (2, DmlStats(0, 0, 2))
    job = tables.query("UPDATE d.t AS t SET text = s.text FROM d.new AS s WHERE t.id = s.id * 10")
    assert job.num_dml_affected_rows == 2
    job = tables.query("DELETE FROM d.t AS x WHERE x.id IN (SELECT id FROM d.t WHERE text = 'a')")
    assert (job.num_dml_affected_rows, job.dml_stats) == (1, DmlStats(0, 1, 0))
    assert tables.rows("t") == [(20, "B"), (30, "c")]
    assert tables.query("DELETE FROM d.t WHERE id = 99").num_dml_affected_rows == 0


def test_truncate(tables: BigQueryLab) -> None:
    assert tables.query("TRUNCATE TABLE d.t").dml_stats == DmlStats(0, 3, 0)
    assert tables.rows("t") == []
    with refused(NotFound, "notFound"):
        tables.query("TRUNCATE TABLE d.none")


def test_merge(tables: BigQueryLab) -> None:
    job = tables.query(
        "MERGE `fake-project.d.t` AS t USING (SELECT * FROM d.new) AS s ON t.id = s.id "
        "WHEN MATCHED AND t.text = s.text THEN DELETE WHEN MATCHED THEN UPDATE SET text = s.text "
        "WHEN NOT MATCHED THEN INSERT (text, id) VALUES (s.text, s.id) "
        "WHEN NOT MATCHED BY SOURCE AND t.id = 1 THEN UPDATE SET text = 'gone'"
    )
    assert (job.num_dml_affected_rows, job.dml_stats) == (4, DmlStats(1, 1, 2))
    assert tables.rows("t") == [(1, "gone"), (2, "B"), (4, "D")]


def test_merge_by_row_and_by_false(tables: BigQueryLab) -> None:
    tables.query("MERGE d.t AS t USING d.new AS s ON t.id = s.id WHEN NOT MATCHED THEN INSERT ROW")
    assert tables.rows("t") == [(1, "a"), (2, "b"), (3, "c"), (4, "D")]
    tables.query(
        "MERGE d.t USING d.new AS s ON FALSE WHEN NOT MATCHED THEN INSERT ROW WHEN NOT MATCHED BY SOURCE THEN DELETE"
    )
    assert tables.rows("t") == [(2, "B"), (3, "c"), (4, "D")]


@pytest.mark.parametrize(
    "sql",
    [
        "MERGE d.t AS t USING d.double AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET text = s.text",
        "MERGE d.t AS t USING d.double AS s ON t.id = s.id WHEN MATCHED THEN DELETE",
        "UPDATE d.t AS t SET text = s.text FROM d.double AS s WHERE t.id = s.id",
    ],
)
def test_two_source_rows_of_one_target_row(tables: BigQueryLab, sql: str) -> None:
    """Source (read 2026-11-28):
    https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement
    """
    with refused(BadRequest, "invalidQuery", "must match at most one source row for each target row"):
        tables.query(sql)
    assert tables.rows("t") == [(1, "a"), (2, "b"), (3, "c")]


def test_two_source_rows_may_be_inserted_or_left_out(tables: BigQueryLab) -> None:
    """Only a row that is changed must be matched once; what is inserted may be there twice."""
    on = "MERGE d.t AS t USING d.double AS s ON t.id = s.id"
    assert tables.query(f"{on} WHEN NOT MATCHED THEN INSERT ROW").num_dml_affected_rows == 0
    assert tables.query(f"{on} WHEN MATCHED AND s.text = 'y' THEN UPDATE SET text = s.text").num_dml_affected_rows == 1
    tables.query("MERGE d.t AS t USING d.double AS s ON t.id = s.id + 10 WHEN NOT MATCHED THEN INSERT ROW")
    assert tables.rows("t") == [(1, "a"), (2, "x"), (2, "y"), (2, "y"), (3, "c")]


def test_a_failing_statement_changes_nothing(tables: BigQueryLab) -> None:
    etag = tables.client.get_table(tables.ref("t")).etag
    with refused(BadRequest, "invalidQuery"):
        tables.query("UPDATE d.t SET id = CAST(text AS INT64) WHERE TRUE")
    assert tables.rows("t") == [(1, "a"), (2, "b"), (3, "c")]
    assert tables.client.get_table(tables.ref("t")).etag == etag


def test_dml_moves_rows_between_partitions(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", "text STRING", range_partitioning=BY_SLICE)
    bq.load("t", pa.table({"slice": [1, 2], "text": ["a", "b"]}))
    bq.query("UPDATE d.t SET slice = 3 WHERE slice = 1")
    bq.query("INSERT INTO d.t VALUES (4, 'c')")
    assert (bq.rows("t$1"), bq.rows("t$3"), bq.rows("t$4")) == ([], [(3, "a")], [(4, "c")])
