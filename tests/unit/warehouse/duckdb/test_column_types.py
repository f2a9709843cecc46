"""Types of columns: of texts in files, and of what leaves DuckDB."""

from __future__ import annotations

import csv
import datetime as dt
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import InputError
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from batch_llm.warehouse.duckdb.column_types import json_type, portable_type

TEN = dt.datetime.fromisoformat("2024-01-05T10:00")  # of no zone


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", tmp_path / "home" / "runs")


def column(warehouse: DuckDBWarehouse, path: Path, name: str = "x") -> pa.ChunkedArray:
    return warehouse.head(str(path), [name], None, 1000).column(name)


def written(path: Path, texts: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["n", "x"], *([str(number), text] for number, text in enumerate(texts))])
    return path


@pytest.mark.parametrize(
    "texts",
    [
        ["0x1F", "0x2A"], ["0b11", "0b10"], ["12E4", "15E4"], ["1e5", "2"], ["1_000", "2_000"], ["1,000", "2"],
        ["+5", "6"], [" 5", "6 "], ["-0", "1"], ["007", "8"], ["00.5", "01.5"], ["1.", ".5"], ["1e400", "8"],
        ["1.1", "1.10"], ["1", "1.10"],
        ["1234567890123456789.50"], ["1.10", "nan"], ["nan", "inf"], ["NULL", "1"],
        ["2024-1-5"], ["2024-02-30"], ["01/02/2024"], ["2024-01-05", "2024-01-05 10:00:00"],
        ["2024-01-05 10:00:00.5"], ["2024-01-05T10:00:00"], ["9:05", "10:00"],
        ["9007199254740993", "1.5"], ["1" + "0" * 38, "1"], ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], ["T", "F"],
    ],
    ids="|".join,
)  # fmt: skip
def test_texts_in_csv_that_would_not_stay_what_they_are(
    warehouse: DuckDBWarehouse, tmp_path: Path, texts: list[str]
) -> None:
    assert column(warehouse, written(tmp_path / "a.csv", texts)).to_pylist() == texts


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "-2", "9007199254740993"], [1, -2, 9007199254740993]),
        (["9223372036854775808", "1"], [Decimal(9223372036854775808), Decimal(1)]),
        (["1.10", "-2.25", ""], [Decimal("1.10"), Decimal("-2.25"), None]),  # prices
        (["2001.01230", "2001.01231"], [Decimal("2001.01230"), Decimal("2001.01231")]),  # papers
        (["1.0", "0.333333333333333333333333"], [1.0, 1 / 3]),
        (["1.0", "2.25", "3"], [1.0, 2.25, 3.0]),
        (["1e-05", "0.1", "1.000000000000000000e+00"], [1e-05, 0.1, 1.0]),  # as pandas, R and NumPy write them
        (["1.0E10", "-inf", ".5"], [1e10, float("-inf"), 0.5]),
        (["0.30000000000000004", "0.12345678901234568"], [0.30000000000000004, 0.12345678901234568]),
        (["2024-01-05", ""], [dt.date(2024, 1, 5), None]),
        (["2024-01-05 10:00:00"], [TEN]),
    ],
    ids=lambda values: "|".join(map(str, values)),
)
def test_numbers_and_dates_in_csv(
    warehouse: DuckDBWarehouse, tmp_path: Path, texts: list[str], values: list[Any]
) -> None:
    assert column(warehouse, written(tmp_path / "a.csv", texts)).to_pylist() == values


TEXTS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.text("0123456789.-+eExnaif :", min_size=1, max_size=8),
)


@given(st.lists(TEXTS.filter(str.strip), min_size=1, max_size=4))
def test_a_csv_says_what_is_written(texts: list[str]) -> None:
    """Whatever type a column gets; only a number with a fraction may be written otherwise, of the same value."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warehouse = DuckDBWarehouse(home / "warehouse.duckdb", home / "runs")
        found = column(warehouse, written(home / "a.csv", texts))
    values = found.to_pylist()
    if pa.types.is_floating(found.type):
        assert values == [float(text) for text in texts] or "nan" in texts
    elif pa.types.is_decimal(found.type):
        assert values == [Decimal(text) for text in texts]
    else:
        assert [str(value) for value in values] == texts


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], None),  # not in small letters
        (["9:05", "10:00"], None),
        (["2024-1-5"], None),
        ([12345678901234567890123, 12345678901234567890124], [Decimal(12345678901234567890123 + n) for n in (0, 1)]),
        ([9007199254740993, 1.5], ["9007199254740993", "1.5"]),
        ([1.5, 2, None], [1.5, 2.0, None]),
        (['say "hi"\nthere', 42, True, {"a": 1}], ['say "hi"\nthere', "42", "true", '{"a":1}']),
        (["2024-01-05", None], [dt.date(2024, 1, 5), None]),
        (["2024-01-05 10:00:00"], [TEN]),
        ([{"day": "2024-01-05", "at": "9:05"}], None),
        ([["2024-01-05"], []], None),
    ],
    ids=str,
)
def test_values_in_json_lines_stay_what_they_are(
    warehouse: DuckDBWarehouse, tmp_path: Path, values: list[Any], read: list[Any] | None
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": value}) + "\n" for value in values))
    assert column(warehouse, path).to_pylist() == (values if read is None else read)


def test_json_lines_of_very_many_fields_are_columns(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    """DuckDB by itself makes one column `json` of them, a map."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({f"x{place}": number for place in range(300)}) + "\n" for number in range(3)))
    assert column(warehouse, path, "x299").to_pylist() == [0, 1, 2]


def test_an_object_whose_keys_are_data_is_a_map(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": {f"k{number}": number}}) + "\n" for number in range(400)))
    assert column(warehouse, path).to_pylist()[399] == [("k399", 399)]


def test_fields_that_differ_in_case_only_are_refused(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    """DuckDB calls the second one `Id_1`; a field that is really called so is another matter."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": 1, "x_1": 2}\n')
    assert column(warehouse, path, "x_1").to_pylist() == [2]
    path.write_text('{"id": 1, "Id": 2}\n')
    with pytest.raises(InputError, match=r"a\.jsonl: two fields are called 'Id' but for upper and lower case"):
        warehouse.source(str(path))


@pytest.mark.parametrize(
    ("type_name", "cast"),
    [
        ("BIGINT", None),
        ('STRUCT(a INTEGER, "b c" VARCHAR[3])', None),
        ("JSON", "VARCHAR"),
        ('"NULL"', "VARCHAR"),
        ("TIME WITH TIME ZONE[]", "VARCHAR[]"),
        ('STRUCT("b ""c" BIT[2])', 'STRUCT("b ""c" VARCHAR[2])'),
        ("MAP(UUID, ENUM('a', 'b'))", "MAP(VARCHAR, VARCHAR)"),
        ("UNION(a INTEGER, b VARCHAR)[]", "VARCHAR[]"),
    ],
)
def test_types_without_a_counterpart_become_text_at_any_depth(type_name: str, cast: str | None) -> None:
    assert portable_type(type_name) == cast


def test_nested_values_without_a_counterpart_leave_duckdb_as_text(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with duckdb.connect(str(tmp_path / "home" / "warehouse.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 340282366920938463463374607431768211455::UHUGEINT AS huge, "
            "['10:00:00+02'::TIMETZ] AS times, {'bits': '0101'::BIT} AS inner"
        ).fetchall()
    assert warehouse.head("t", [], None, 1).to_pylist() == [
        {"huge": str(2**128 - 1), "times": ["10:00:00+02"], "inner": {"bits": "0101"}}
    ]


def test_json_types_keep_numbers_and_shapes() -> None:
    assert json_type("STRUCT(a BIGINT, b JSON[], c MAP(VARCHAR, DATE))") == (
        'STRUCT("a" BIGINT, "b" VARCHAR[], "c" MAP(VARCHAR, VARCHAR))'
    )
