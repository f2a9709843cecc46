"""Rows to files, whole or not at all."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc
from pyarrow import parquet as pq

from batch_llm.cli.export import WRITERS, write_rows
from batch_llm.errors import ConfigurationError, OutputError

TABLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "response": ['a, "b"\nc', None, "é"],
        "llm_cost_usd": pa.array([Decimal("0.000000123"), None, Decimal(2)], pa.decimal128(18, 9)),
        "llm_finished_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("us", tz="UTC")),
    }
)


def batches() -> Iterator[pa.RecordBatch]:
    yield from TABLE.to_batches(max_chunksize=2)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_row_arrives(tmp_path: Path, suffix: str) -> None:
    to = tmp_path / f"answers{suffix}"
    assert write_rows(batches(), to) == 3
    assert [path.name for path in tmp_path.iterdir()] == [to.name]
    if suffix == ".parquet":
        assert pq.read_table(to).equals(TABLE)
    elif suffix == ".arrow":
        with ipc.open_file(to) as file:
            assert file.read_all().equals(TABLE)
    elif suffix == ".csv":
        rows = list(csv.DictReader(to.read_text().splitlines(keepends=True)))
        assert [row["response"] for row in rows] == ['a, "b"\nc', "", "é"]
        assert Decimal(rows[0]["llm_cost_usd"]) == Decimal("0.000000123")
    else:
        rows = [json.loads(line) for line in to.read_text().splitlines()]
        assert [row["response"] for row in rows] == ['a, "b"\nc', None, "é"]
        assert rows[0]["llm_cost_usd"] == 0.000000123


def test_a_failure_leaves_the_earlier_file_as_it_was(tmp_path: Path) -> None:
    to = tmp_path / "answers.jsonl"
    to.write_text("earlier\n")

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches()
        raise OutputError("the table went away")

    with pytest.raises(OutputError):
        write_rows(broken(), to)
    assert to.read_text() == "earlier\n"
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]


def test_lists_and_objects_become_json_texts_in_a_csv(tmp_path: Path) -> None:
    """Also those of later batches, and what is null or empty."""
    turns, facts = [["a, é", 'b"'], None, []], [{"n": 1, "usd": Decimal("0.5")}, {"n": None, "usd": None}, None]
    facts_type = pa.struct([("n", pa.int64()), ("usd", pa.decimal128(5, 2))])
    nested = pa.table({"id": [1, 2, 3], "turns": turns, "facts": pa.array(facts, facts_type)})
    assert write_rows(iter(nested.to_batches(max_chunksize=2)), tmp_path / "answers.csv") == 3
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert [json.loads(row["turns"]) if row["turns"] else None for row in rows] == turns
    assert [row["facts"] for row in rows] == ['{"n":1,"usd":0.50}', '{"n":null,"usd":null}', ""]


def test_a_type_that_no_csv_has_is_refused_with_a_way_out(tmp_path: Path) -> None:
    odd = pa.table({"gap": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pytest.raises(ConfigurationError, match=r"\.parquet or \.jsonl"):
        write_rows(iter(odd.to_batches()), tmp_path / "answers.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["answers.xlsx", "answers", "no/folder/answers.csv"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        write_rows(batches(), tmp_path / name)


def test_nothing_to_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no rows"):
        write_rows(iter([]), tmp_path / "answers.csv")
