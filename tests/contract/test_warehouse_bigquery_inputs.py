"""The BigQuery warehouse's inputs: what a version means, names in statements, what is refused.

Belongs here: tables and views that are read. Not here: types, slices, outputs (test_warehouse_bigquery_tables.py), the
protocol's promises (test_warehouse_inputs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.cloud import bigquery as bigquery_client

from batch_llm.errors import InputError, OutputError, WarehouseError
from batch_llm.warehouse.bigquery import BigQueryWarehouse, Options, open_client
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.names import Dataset
from batch_llm.warehouse.bigquery.sources import opened
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.bigquery_warehouse_lab import hasty, read_all
from tests.contract.warehouse_lab import (
    KEY,
    OUTPUT_SCHEMA,
    BigQueryLab,
    input_table,
    publish,
    spec,
    written,
)


@pytest.fixture
def lab(bigquery: BigQueryServer, tmp_path: Path) -> BigQueryLab:
    return BigQueryLab(tmp_path / "home", options=Options(patience=hasty()))


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns")])
def test_a_key_that_bigquery_would_cut_is_refused(lab: BigQueryLab, tmp_path: Path, kind: pa.DataType) -> None:
    """Two keys would become one: nothing is frozen, nothing asked. What is no key may be cut."""
    table = pa.table({"id": ["a", "b"], "at": pa.array([1_001, 1_002], kind)})
    path = written(tmp_path / "in.parquet", table)
    with pytest.raises(InputError, match=r"in\.parquet': the key column 'at' has nanoseconds.*store it as text"):
        lab.warehouse.freeze(spec("r1", path, key=("id", "at"), columns=("id", "at")))
    schema = OUTPUT_SCHEMA.append(pa.field("at", kind))
    with pytest.raises(OutputError, match="output 'tone': the key column 'at' has nanoseconds"):
        lab.warehouse.ensure("tone", schema, ("id", "at"))
    lab.warehouse.ensure("tone", schema, KEY)
    assert lab.warehouse.freeze(spec("r1", path, columns=("id", "at"))).rows == 2


def test_the_version_of_a_view_changes_with_the_tables_below_it(lab: BigQueryLab) -> None:
    lab.put("raw.texts", input_table(3))
    lab.execute("CREATE VIEW seen AS SELECT * FROM raw.texts")
    before = lab.warehouse.source("seen").version
    assert lab.warehouse.source("seen").version == before
    lab.execute("UPDATE raw.texts SET text = 'z' WHERE id = 'k00000'")
    assert lab.warehouse.source("seen").version != before


def _external(lab: BigQueryLab) -> None:
    table = bigquery_client.Table(f"{lab.project}.raw.outside", [bigquery_client.SchemaField("id", "STRING")])
    table.external_data_configuration = bigquery_client.ExternalConfig("PARQUET")
    with open_client(lab.project) as client:
        client.create_table(table)
    lab.execute("CREATE VIEW seen AS SELECT id, 'x' AS text FROM raw.outside UNION ALL SELECT id, text FROM raw.texts")


def _many_tables(lab: BigQueryLab) -> None:
    for number in range(51):
        lab.execute(f"CREATE TABLE raw.part{number} AS SELECT 'k{number}' AS id, 'x' AS text")
    every = " UNION ALL ".join(f"SELECT id, text FROM raw.part{number}" for number in range(51))
    lab.execute(f"CREATE VIEW seen AS {every}")


def _partition_filter(lab: BigQueryLab) -> None:
    lab.execute("CREATE TABLE raw.days (id STRING, text STRING, day DATE) PARTITION BY day")
    lab.execute("INSERT INTO raw.days (id, text, day) VALUES ('a', 'x', DATE '2026-01-01')")
    lab.execute("ALTER TABLE raw.days SET OPTIONS (require_partition_filter = TRUE)")
    lab.execute("CREATE VIEW seen AS SELECT * FROM raw.days")


def _of_nothing(lab: BigQueryLab) -> None:
    lab.execute("CREATE VIEW seen AS SELECT 'a' AS id, 'x' AS text")


@pytest.mark.parametrize("made", [_external, _many_tables, _partition_filter, _of_nothing])
def test_a_view_that_cannot_be_looked_through_is_new_at_each_look(
    lab: BigQueryLab, made: Callable[[BigQueryLab], None]
) -> None:
    """A change below it is never missed; its rows can be frozen all the same."""
    lab.put("raw.texts", input_table(3))
    made(lab)
    versions = {lab.warehouse.source("seen").version for _ in range(3)}
    assert len(versions) == 3
    if made is not _external:  # the fake reads no files
        where = "day = DATE '2026-01-01'" if made is _partition_filter else None
        assert lab.warehouse.freeze(spec("r1", "seen", where=where)).rows == (51 if made is _many_tables else 1)


def test_a_view_may_read_what_this_account_may_not(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    """An authorized view; nobody can tell whether what it reads has changed. Other faults are not taken for that."""
    lab.put("raw.texts", input_table(3))
    lab.execute("CREATE VIEW seen AS SELECT * FROM raw.texts")
    bigquery.configure(missing_permissions=[f"bigquery.tables.{right} on raw" for right in ("get", "getData")])
    assert lab.warehouse.source("seen").version != lab.warehouse.source("seen").version
    assert lab.warehouse.freeze(spec("r1", "seen")).rows == 3
    bigquery.faults(Fault("tables.get", status=403, reason="quotaExceeded", calls=(2,)))
    with pytest.raises(WarehouseError, match=r"raw\.texts: injected \(quotaExceeded, 403\)"):
        lab.warehouse.source("seen")


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


@pytest.mark.parametrize("name", ["text", "Text", "seen"])
def test_a_column_may_be_called_as_its_table(lab: BigQueryLab, name: str) -> None:
    """Its name means the column: never the whole row, whose other columns nobody asked to send anywhere."""
    lab.put("raw.text", input_table(3))
    if name != "text":
        lab.execute(f"CREATE VIEW raw.`{name}` AS SELECT *, text AS seen FROM raw.text AS t")
    column = name if name == "seen" else "text"
    asked = spec("r1", f"raw.{name}", columns=("id", column), where=f"{column} LIKE '%1%'")
    frozen = lab.warehouse.freeze(asked)
    texts = dict(zip(input_table(3)["id"].to_pylist(), input_table(3)["text"].to_pylist(), strict=True))
    assert read_all(lab.warehouse, frozen) == [{"id": "k00001", column: texts["k00001"]}]
    assert lab.warehouse.count(asked.source, asked.where) == 1
    assert lab.warehouse.head(asked.source, (column,), asked.where, 3).to_pylist() == [{column: texts["k00001"]}]


def test_rows_of_an_output_that_is_called_as_its_column(lab: BigQueryLab) -> None:
    publish(lab.warehouse, "r1", 0, {"a": "ok", "b": "failed"})
    lab.warehouse.promote("r1", "answer", KEY, "upsert")
    found = lab.warehouse.rows("answer", columns=("id", "answer"), where="answer = 'a'")
    assert [row for batch in found for row in batch.to_pylist()] == [{"id": "a", "answer": "a"}]


def test_a_filter_may_name_the_table(lab: BigQueryLab) -> None:
    """As a condition with a subquery must; a table with a column of its own name has no other name than the column."""
    lab.put("raw.texts", input_table(4))
    where = "EXISTS (SELECT 1 FROM UNNEST(['k00001']) AS id WHERE id = texts.id)"
    assert lab.warehouse.freeze(spec("r1", "raw.texts", where=where)).rows == 1


def test_a_table_with_row_access_policies_is_read_as_it_is_now(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    """Its history and its list are closed to who does not see all rows. What may not be read at all is said."""
    lab.put("raw.texts", input_table(3))
    bigquery.configure(secured_tables=["raw.texts"])
    asked = spec("r1", "raw.texts")
    assert lab.warehouse.head("raw.texts", ("id",), None, 2).num_rows == 2
    bill = lab.warehouse.freeze_bill(asked)
    assert bill is not None and bill.bytes > 0 and bill.kept_minutes is None, "a run cannot take a plan's rows over"
    assert lab.warehouse.freeze(asked).rows == 3
    bigquery.configure(missing_permissions=["bigquery.tables.getData on raw"])
    for refused in (
        lambda: lab.warehouse.head("raw.texts", ("id",), None, 2),
        lambda: lab.warehouse.freeze(spec("r2", "raw.texts")),
    ):
        with pytest.raises(WarehouseError, match="does not have permission to query table"):
            refused()


def test_an_inputs_columns_may_be_called_as_ours(lab: BigQueryLab) -> None:
    """Their types are their own, at the top as in objects."""
    lab.execute(
        "CREATE TABLE raw.theirs AS SELECT 'a' AS id, 'first' AS llm_slice, 0.12345678901 AS llm_cost_usd, "
        "STRUCT('x' AS llm_attempts) AS nested"
    )
    columns = ("id", "llm_slice", "llm_cost_usd", "nested")
    row = dict(zip(columns, ("a", "first", 0.12345678901, {"llm_attempts": "x"}), strict=True))
    warehouse = lab.warehouse
    assert warehouse.head("raw.theirs", columns, None, 3).to_pylist() == [row]
    assert warehouse.head("raw.theirs", columns, "id = 'a'", 3).to_pylist() == [row]
    assert read_all(warehouse, warehouse.freeze(spec("r1", "raw.theirs", columns=columns))) == [row]
    assert [found for batch in warehouse.rows("raw.theirs") for found in batch.to_pylist()] == [row]


def test_an_input_whose_columns_change_while_it_is_frozen_is_refused(lab: BigQueryLab) -> None:
    """A view can be made anew between the look at it and the statement; nothing is left of it."""
    lab.put("raw.texts", input_table(3))
    lab.execute("CREATE VIEW seen AS SELECT * FROM raw.texts")

    def interrupted() -> bigquery_client.Client:
        client = open_client(lab.project)
        ask = client.query

        def query(sql: str, *rest: Any, **named: Any) -> Any:
            if "CREATE TABLE" in sql:
                lab.execute("CREATE OR REPLACE VIEW seen AS SELECT id, STRUCT(text AS text) AS text FROM raw.texts")
            return ask(sql, *rest, **named)

        client.query = query
        return client

    files = DuckDBWarehouse(lab.home / "files.duckdb", lab.home / "runs")
    warehouse = BigQueryWarehouse(interrupted, f"{lab.project}.tables", lab.home / "runs", files, lab.options)
    with pytest.raises(InputError, match=r"'text' is STRING, but was read as STRUCT<text STRING>.*changed meanwhile"):
        warehouse.freeze(spec("r1", "seen"))
    with open_client(lab.project) as client:
        assert [table.table_id for table in client.list_tables(f"{lab.project}.tables")] == ["seen"]


def test_tables_of_other_datasets_and_projects_have_full_names(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    other = replace(lab, home=lab.home.parent / "another")
    other.put("raw.theirs", input_table(2))
    ref = f"{other.project}.raw.theirs"
    assert lab.warehouse.count(ref, None) == 2
    assert [info.ref for info in lab.warehouse.tables(f"{other.project}.raw.the*")] == [ref]
    assert [info.ref for info in lab.warehouse.tables(f"{other.project}.r*.the*")] == [ref]
    assert list(lab.warehouse.tables("absent.*")) == []
