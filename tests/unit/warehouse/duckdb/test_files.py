"""Files of every format as inputs."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from batch_llm.errors import InputError
from batch_llm.warehouse.base import FreezeSpec
from batch_llm.warehouse.duckdb import DuckDBWarehouse

TABLE = pa.table(
    {
        "id": ["a", "b", "c"],
        "text": ["“ünï” 中", "two\nlines", None],
        "turns": pa.array([[{"text": "x"}], [], None], pa.list_(pa.struct([("text", pa.string())]))),
    }
)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", tmp_path / "home" / "runs")


def content(warehouse: DuckDBWarehouse, ref: object) -> list[dict[str, Any]]:
    return warehouse.head(str(ref), [], None, 1000).to_pylist()


def write(path: Path, table: pa.Table) -> None:
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path)
        case ".feather":
            pyarrow.feather.write_feather(table, path)
        case ".jsonl":
            path.write_text("\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in table.to_pylist()), "utf-8")
        case ".arrow" if path.stem.startswith("stream"):
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        case ".arrow":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.jsonl", "a.arrow", "stream.arrow", "a.feather", "odd [1] 'n'.parquet"]
)
def test_every_format_keeps_its_rows(warehouse: DuckDBWarehouse, tmp_path: Path, name: str) -> None:
    """Nested columns, unicode, nulls, order; read as often as one likes; a name may hold what a pattern does."""
    path = tmp_path / name
    write(path, TABLE)
    assert content(warehouse, path) == TABLE.to_pylist()
    assert warehouse.count(str(path), "text IS NULL") == 1
    spec = FreezeSpec("r1", str(path), ("id",), ("id", "turns"), None, 2)
    frozen = warehouse.freeze(spec)
    rows = [row for info in frozen.slices for batch in warehouse.read(frozen, info.number) for row in batch.to_pylist()]
    assert rows == TABLE.select(["id", "turns"]).to_pylist()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "arrow", "csv"])
def test_a_glob_is_one_input_by_column_names(warehouse: DuckDBWarehouse, tmp_path: Path, suffix: str) -> None:
    """In the order of the file names; a column that one file lacks is null there."""
    tables = {"b": pa.table({"more": ["m"], "id": ["2"]}), "a": pa.table({"id": ["1x"]})}
    for name, table in tables.items():
        if suffix == "csv":
            lines = [",".join(table.schema.names), *(",".join(row.values()) for row in table.to_pylist())]
            (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        else:
            write(tmp_path / f"{name}.{suffix}", table)
    assert content(warehouse, tmp_path / f"*.{suffix}") == [{"id": "1x", "more": None}, {"id": "2", "more": "m"}]


def test_csv_types_keep_what_is_written(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    """A type is chosen only where every value stays itself: leading zeros, local dates, T and F remain text."""
    (tmp_path / "a.csv").write_bytes(
        "\ufeffid,zip,day,local,flag,price,when,empty\r\n"
        '1,007,2020-01-31,01/02/2020,T,1.5,10:30,""\r\n'
        "-2,7,2020-02-01,03/04/2020,F,2,11:00,\r\n".encode()
    )
    rows = content(warehouse, tmp_path / "a.csv")
    assert rows[0] == {
        "id": 1, "zip": "007", "day": dt.date(2020, 1, 31), "local": "01/02/2020",
        "flag": "T", "price": 1.5, "when": "10:30", "empty": None,
    }  # fmt: skip
    assert [rows[1][name] for name in ("id", "zip", "flag", "price")] == [-2, "7", "F", 2.0]


def test_a_late_row_decides_the_type(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,n\n" + "".join(f"{number},{number}\n" for number in range(30_000)) + "x,1\n")
    assert warehouse.head(str(tmp_path / "a.csv"), ["id", "n"], "n = 1", 9).to_pylist() == [
        {"id": "1", "n": 1},
        {"id": "x", "n": 1},
    ]


@pytest.mark.parametrize("newlines", [("\r\n", "\n"), ("\n", "\r\n"), ("\n", "\r"), ("\r", "\r"), ("\r\n", "\r\n")])
def test_csv_with_newlines_of_several_kinds(
    warehouse: DuckDBWarehouse, tmp_path: Path, newlines: tuple[str, str]
) -> None:
    """Between rows and inside quotes; each row is one row, and text keeps its own newlines."""
    one, other = newlines
    text = f'id,text{one}1,"a{other}b"{other}2,"q""z"{one}3,ü{other}4,x'
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert content(warehouse, tmp_path / "a.csv") == [
        {"id": 1, "text": f"a{other}b"},
        {"id": 2, "text": 'q"z'},
        {"id": 3, "text": "ü"},
        {"id": 4, "text": "x"},
    ]


@pytest.mark.parametrize(
    ("name", "content_bytes", "complaint"),
    [
        ("a.csv", b"id,text\n1,a,b\n", r"a\.csv cannot be read as CSV: line 2 has 3 columns, the header has 2"),
        ("a.csv", b"id,text\n1,caf\xe9\n", "is not UTF-8 text"),
        ("a.jsonl", b'{"id": 1}\n{"id":\n', "cannot be read as JSON lines: line 2 is no whole"),
        ("a.jsonl", b'{"id": 1}\n[2]\n', "line 2 is no whole JSON object: it has no named fields"),
        ("a.jsonl", b"1\n", "line 1 is no whole JSON object: it has no named fields"),
        ("a.parquet", b"PAR1 no", "cannot be read as .parquet"),
        ("a.arrow", b"nothing", "cannot be read as .arrow"),
        ("a.feather", b"FEA1 old", "cannot be read as .feather"),
    ],
)
def test_a_broken_file_is_refused_by_name(
    warehouse: DuckDBWarehouse, tmp_path: Path, name: str, content_bytes: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content_bytes)
    with pytest.raises(InputError, match=complaint):
        warehouse.source(str(tmp_path / name))


def test_one_input_has_one_format(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    for name in ("a.parquet", "b.jsonl"):
        write(tmp_path / name, TABLE)
    with pytest.raises(InputError, match=r"several formats \(.jsonl, .parquet\)"):
        warehouse.source(str(tmp_path / "*"))


def test_types_without_a_counterpart_travel_as_text(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    """What is frozen has the types that `source` tells."""
    (tmp_path / "home").mkdir()
    with duckdb.connect(str(tmp_path / "home" / "warehouse.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 1 AS id, INTERVAL 1 DAY AS span, 'x'::ENUM('x', 'y') AS kind, "
            "'6f9619ff-8b86-d011-b42d-00c04fc964ff'::UUID AS uuid, '{\"a\": 1}'::JSON AS json, "
            "170141183460469231731687303715884105::HUGEINT AS huge, [1, 2]::INTEGER[2] AS pair"
        ).fetchall()
    frozen = warehouse.freeze(FreezeSpec("r1", "t", ("id",), ("id", "span", "kind", "uuid", "json", "huge"), None, 9))
    batch = next(warehouse.read(frozen, 0))
    assert batch.to_pylist() == [
        {
            "id": 1, "span": "1 day", "kind": "x", "uuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
            "json": '{"a": 1}', "huge": Decimal(170141183460469231731687303715884105),
        }
    ]  # fmt: skip
    schema = warehouse.source("t").schema
    assert schema is not None
    assert all(schema.field(field.name).type == field.type for field in batch.schema)


def test_a_column_without_any_value_is_text(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "none": null}\n')
    schema = warehouse.source(str(tmp_path / "a.jsonl")).schema
    assert schema is not None
    assert schema.field("none").type == pa.string()


def test_a_file_that_changes_while_it_is_frozen_is_refused(
    warehouse: DuckDBWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the frozen rows would be of no version at all; nothing is left of it."""
    from batch_llm.warehouse.duckdb import freezing

    path = tmp_path / "a.parquet"
    write(path, TABLE)
    original = freezing._write_slices

    def meanwhile(*given: Any) -> list[int]:
        sizes = original(*given)
        write(path, pa.concat_tables([TABLE] * 50))
        return sizes

    monkeypatch.setattr(freezing, "_write_slices", meanwhile)
    with pytest.raises(InputError, match="changed while it was read"):
        warehouse.freeze(FreezeSpec("r1", str(path), ("id",), ("id",), None, 9))
    assert not (tmp_path / "home" / "runs" / "r1").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.arrow"])
def test_an_empty_file_is_called_empty(warehouse: DuckDBWarehouse, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"{name} is empty"):
        content(warehouse, tmp_path / name)
