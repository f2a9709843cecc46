"""Rows from outside become tables of the warehouse, all or nothing, whatever warehouse it is.

Belongs here: promises of `Warehouse.load` and `Warehouse.file_rows`. Not here: the doors (`batch-llm upload`,
`batch_llm.upload`: tests/integration/test_uploads.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.errors import InputError, OutputError
from batch_llm.warehouse.base import Warehouse
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.warehouse_lab import LABS, BigQueryLab, Lab, input_table, publish, spec, written


def reader(table: pa.Table) -> pa.RecordBatchReader:
    """The rows, some at a time."""
    return pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=3)))


def rows_of(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    """All rows, in an order of their own."""
    found = [row for batch in warehouse.rows(table) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: str(row["id"]))


@pytest.mark.parametrize("table", ["texts", "raw.texts"])
def test_rows_become_a_table(warehouse: Warehouse, lab: Lab, table: str) -> None:
    """Every value, nested ones too; and it is an input like any other."""
    lab.put("raw.other", input_table(1))  # the schema, or dataset, exists
    given = input_table(10)
    loaded = warehouse.load(table, reader(given))
    assert (loaded.rows, loaded.place) == (10, table)
    assert loaded.size_bytes > 0
    assert rows_of(warehouse, table) == given.to_pylist()
    assert warehouse.freeze(spec("r1", table)).rows == 10


def test_a_table_that_is_there_stays(warehouse: Warehouse) -> None:
    warehouse.load("texts", reader(input_table(4)))
    with pytest.raises(OutputError, match="'texts' is there already"):
        warehouse.load("texts", reader(input_table(2)))
    assert len(rows_of(warehouse, "texts")) == 4


def test_replacing_takes_rows_and_columns(warehouse: Warehouse) -> None:
    """Replaced twice: nothing of the earlier ones is left, and the version is another."""
    warehouse.load("texts", reader(input_table(4)))
    before = warehouse.source("texts").version
    for word in ("a", "b"):
        warehouse.load("texts", reader(pa.table({"id": [1, 2], "word": [word, word]})), replace=True)
    assert rows_of(warehouse, "texts") == [{"id": 1, "word": "b"}, {"id": 2, "word": "b"}]
    assert warehouse.source("texts").version != before


def test_replacing_what_is_not_there_makes_it(warehouse: Warehouse) -> None:
    assert warehouse.load("texts", reader(input_table(3)), replace=True).rows == 3


def test_no_rows_are_a_table_with_columns(warehouse: Warehouse) -> None:
    assert warehouse.load("texts", reader(input_table(0))).rows == 0
    schema = warehouse.source("texts").schema
    assert schema is not None
    assert schema.names == input_table(0).schema.names


@pytest.mark.parametrize("replace", [False, True])
def test_an_output_is_never_replaced(warehouse: Warehouse, *, replace: bool) -> None:
    """Its answers were paid for."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", "out", ("id",), "upsert")
    with pytest.raises(OutputError, match="is the output of a job"):
        warehouse.load("out", reader(input_table(1)), replace=replace)
    assert len(rows_of(warehouse, "out")) == 1


def test_a_view_is_never_replaced(warehouse: Warehouse, lab: Lab) -> None:
    lab.put("texts", input_table(2))
    lab.execute("CREATE VIEW seen AS SELECT * FROM texts")
    with pytest.raises(OutputError, match="there is a view of this name"):
        warehouse.load("seen", reader(input_table(1)), replace=True)


def test_rows_that_end_in_an_error_leave_nothing(warehouse: Warehouse) -> None:
    """Neither a table where there was none, nor another one where there was one."""
    given = input_table(6)

    def broken() -> Iterator[pa.RecordBatch]:
        yield from given.to_batches(max_chunksize=3)
        raise InputError("the file ends here")

    def load(*, replace: bool) -> None:
        warehouse.load("texts", pa.RecordBatchReader.from_batches(given.schema, broken()), replace=replace)

    with pytest.raises(InputError, match="the file ends here"):
        load(replace=False)
    with pytest.raises(InputError, match="no table 'texts'"):
        warehouse.source("texts")
    warehouse.load("texts", reader(input_table(2)))
    with pytest.raises(InputError):
        load(replace=True)
    assert len(rows_of(warehouse, "texts")) == 2


@pytest.mark.parametrize(
    ("table", "why"),
    [("texts.parquet", "is a file"), ("texts__live", "kept for views"), ("", "neither a table")],
)
def test_a_name_that_cannot_be_is_refused(warehouse: Warehouse, table: str, why: str) -> None:
    with pytest.raises(OutputError, match=why):
        warehouse.load(table, reader(input_table(1)))


def test_our_own_tables_are_not_written(warehouse: Warehouse, lab: Lab) -> None:
    with pytest.raises(OutputError, match="belong"):
        warehouse.load(lab.our_table, reader(input_table(1)), replace=True)


def test_columns_that_are_there_twice_are_refused(warehouse: Warehouse) -> None:
    with pytest.raises(OutputError, match="columns twice"):
        warehouse.load("texts", reader(pa.table({"id": [1], "ID": [2]})))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_file_gives_the_rows_a_job_would_get(warehouse: Warehouse, tmp_path: Path, suffix: str) -> None:
    expected = [{"id": number, "text": f"Zeile {number}\nzweite, “ünï”"} for number in range(5)]
    path = tmp_path / f"texts{suffix}"
    if suffix == ".parquet":
        written(path, pa.Table.from_pylist(expected))
    elif suffix == ".csv":
        lines = [f'{row["id"]},"{row["text"]}"' for row in expected]
        path.write_text("\n".join(["id,text", *lines]) + "\n", encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in expected), encoding="utf-8")
    with warehouse.file_rows(str(path)) as rows:
        assert warehouse.load("texts", rows).rows == 5
    assert rows_of(warehouse, "texts") == expected


@pytest.mark.parametrize("path", ["absent.parquet", "texts"])
def test_no_such_file_is_said(warehouse: Warehouse, path: str) -> None:
    with pytest.raises(InputError, match="no file"), warehouse.file_rows(path):
        pass


# ---- BigQuery


@pytest.fixture
def server(shared_bigquery: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> BigQueryServer:
    shared_bigquery.reset()
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", shared_bigquery.url)
    return shared_bigquery


@pytest.fixture
def bigquery(server: BigQueryServer, tmp_path: Path) -> BigQueryLab:
    assert "bigquery" in LABS
    return BigQueryLab(tmp_path / "home")


@pytest.mark.parametrize("lost", [Fault("jobs.*", kind="reset", when="after", calls=(1,)), None])
def test_bigquery_gets_one_load_job(server: BigQueryServer, bigquery: BigQueryLab, lost: Fault | None) -> None:
    """Free, and no second one when the answer to it is lost."""
    if lost is not None:
        server.faults(lost)
    assert bigquery.warehouse.load("texts", reader(input_table(20))).rows == 20
    assert len(rows_of(bigquery.warehouse, "texts")) == 20
    jobs = {each["job_id"] for each in server.log() if each["operation"].startswith("jobs.") and each["job_id"]}
    assert len(jobs) == 1, jobs


def test_bigquery_keeps_what_somebody_made_meanwhile(bigquery: BigQueryLab) -> None:
    """The rows are read for an hour; meanwhile the table appears."""
    given = input_table(3)

    def slow() -> Iterator[pa.RecordBatch]:
        bigquery.put("texts", input_table(7))
        yield from given.to_batches()

    with pytest.raises(OutputError, match="'texts' is there already"):
        bigquery.warehouse.load("texts", pa.RecordBatchReader.from_batches(given.schema, slow()))
    assert len(rows_of(bigquery.warehouse, "texts")) == 7


def test_bigquery_says_which_dataset_is_missing(bigquery: BigQueryLab) -> None:
    with pytest.raises(OutputError, match=r"bq --location=US mk --dataset .*:absent"):
        bigquery.warehouse.load("absent.texts", reader(input_table(1)))


@pytest.mark.parametrize(
    ("columns", "why"),
    [({"a-b": [1]}, "no columns called 'a-b'"), ({"id": [[[1]]]}, "lists of lists")],
)
def test_bigquery_says_which_column_it_cannot_hold(bigquery: BigQueryLab, columns: dict[str, Any], why: str) -> None:
    with pytest.raises(OutputError, match=why):
        bigquery.warehouse.load("texts", reader(pa.table(columns)))
