"""Values as JSON: nothing is changed without a word."""

import json
import math
from base64 import b64decode
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.cli.export import write_rows
from batch_llm.cli.json_values import json_bytes

LONG = Decimal("12345678901234567890.123456789012345678")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (LONG, str(LONG)),
        (Decimal("0E-9"), "0.000000000"),
        (Decimal("-1.50"), "-1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("NaN"), '"NaN"'),
        (math.nan, '"NaN"'),
        ([math.inf, -math.inf, None, 1.5], '["Infinity","-Infinity",null,1.5]'),
        ({"a": {"b": (math.nan, None, "null", True)}}, '{"a":{"b":["NaN",null,"null",true]}}'),
        ({"a": b"\xff\x00", "b": [b""]}, '{"a":"/wA=","b":[""]}'),
    ],
)
def test_what_json_has_no_word_for_comes_through(value: Any, text: str) -> None:
    assert json_bytes(value).decode() == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e38"), max_value=Decimal("1e38")))
def test_python_reads_every_decimal_back(value: Decimal) -> None:
    assert json.loads(json_bytes([value]), parse_float=Decimal, parse_int=Decimal) == [value]


@given(st.binary(), st.floats())
def test_bytes_and_floats_are_read_back(blob: bytes, number: float) -> None:
    text, read = json.loads(json_bytes([blob, number]))
    assert b64decode(text) == blob
    assert float(read) == number or (math.isnan(number) and read == "NaN")


def test_an_exported_file_is_read_back_by_python_and_duckdb(tmp_path: Path) -> None:
    near = Decimal(f"{LONG}"[:-1] + "9")  # as floats they would be one key
    table = pa.table(
        {
            "key": pa.array([LONG, near], pa.decimal128(38, 18)),
            "usd": pa.array([Decimal("0.000000123"), Decimal("123456.123456789")], pa.decimal128(18, 9)),
            "f": [math.nan, -math.inf],
            "blob": [b"\xff\x00", None],
            "nested": pa.array([{"q": math.nan, "b": b"\xff"}, None]),
            "vector": pa.array([[math.inf, None, 0.1], None], pa.list_(pa.float32(), 3)),
        }
    )
    to = tmp_path / "rows.jsonl"
    assert write_rows(iter(table.to_batches()), to) == 2
    first, second = (json.loads(line, parse_float=Decimal) for line in to.read_text().splitlines())
    assert (first["key"], second["key"]) == (LONG, near)
    assert (first["f"], second["f"], first["nested"]) == ("NaN", "-Infinity", {"q": "NaN", "b": "/w=="})
    assert (first["vector"], second["vector"]) == (["Infinity", None, Decimal("0.1")], None)
    types = "{usd: 'DECIMAL(18,9)', f: 'DOUBLE', blob: 'VARCHAR', vector: 'FLOAT[]'}"
    read = f"SELECT usd, f, from_base64(blob), vector FROM read_json('{to}', columns={types})"
    with duckdb.connect() as connection:
        rows = connection.execute(read).fetchall()
    assert [row[0] for row in rows] == table["usd"].to_pylist()
    assert math.isnan(rows[0][1])
    assert rows[1][1] == -math.inf
    assert [row[2] for row in rows] == [b"\xff\x00", None]
    assert rows[0][3][:2] == [math.inf, None]


def test_a_csv_has_them_in_its_json_texts_too(tmp_path: Path) -> None:
    table = pa.table(
        {
            "l": pa.array([[math.nan, None]]),
            "s": pa.array([{"d": LONG, "b": b"\xff"}]),
            "v": pa.array([[math.nan, 0.1]], pa.list_(pa.float32(), 2)),
        }
    )
    write_rows(iter(table.to_batches()), tmp_path / "rows.csv")
    row = (tmp_path / "rows.csv").read_text().splitlines()[1].replace('""', '"')
    assert row == f'"["NaN",null]","{{"d":{LONG},"b":"/w=="}}","["NaN",0.1]"'
