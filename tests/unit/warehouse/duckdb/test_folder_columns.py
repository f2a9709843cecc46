"""Columns that the folders of a pattern give to an input."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm.warehouse.base import DateRange, FreezeSpec
from batch_llm.warehouse.duckdb import DuckDBWarehouse, long_rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".csv":
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
            path.write_text("\n".join(lines) + "\n")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(params=["parquet", "csv", "jsonl"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """In a folder that says nothing of the rows."""
    return tmp_path / "id=5" / "site=7" / "lake"


@pytest.fixture
def content(tmp_path: Path) -> Callable[[object], list[dict[str, Any]]]:
    warehouse = DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", tmp_path / "home" / "runs")
    return lambda ref: warehouse.head(str(ref), [], None, 1000).to_pylist()


Content = Callable[[object], list[dict[str, Any]]]


def test_folders_that_a_pattern_meets_are_columns(lake: Path, content: Content, suffix: str) -> None:
    """Each row has its own file's values, also behind a file without rows."""
    for region, rows in {"eu": [1, 2], "none": [], "us": [3]}.items():
        path = lake / f"region={region}" / "part=x y" / f"a.{suffix}"
        write(path, [{"id": number} for number in rows or [0]])
        if not rows and suffix == "parquet":
            pq.write_table(pa.table({"id": pa.array([], pa.int64())}), path)
        elif not rows:
            path.write_text("id\n" if suffix == "csv" else "")
    assert content(lake / "region=*" / "*" / f"*.{suffix}") == [
        {"id": 1, "region": "eu", "part": "x y"},
        {"id": 2, "region": "eu", "part": "x y"},
        {"id": 3, "region": "us", "part": "x y"},
    ]
    assert content(lake / "**" / f"*.{suffix}")[2] == {"id": 3, "region": "us", "part": "x y"}


@pytest.mark.parametrize("pattern", ["region=eu/a.{}", "region=eu/*.{}", "region=eu/**/*.{}"])
def test_folders_that_are_named_are_none(lake: Path, content: Content, suffix: str, pattern: str) -> None:
    """Nor those above, in which the input or the home happens to lie."""
    write(lake / "region=eu" / f"a.{suffix}", [{"id": 1}])
    assert content(lake / pattern.format(suffix)) == [{"id": 1}]


def test_a_pattern_in_the_working_folder(
    lake: Path, content: Content, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lake / "region=eu" / f"a.{suffix}", [{"id": 1}])
    monkeypatch.chdir(lake)
    for pattern in ("region=*/a.{}", "./region=*/a.{}", f"..{os.sep}lake/*/*.{{}}"):
        assert content(pattern.format(suffix)) == [{"id": 1, "region": "eu"}]


def test_a_column_of_the_files_is_theirs(lake: Path, content: Content, suffix: str) -> None:
    """Also where only one of them has it; upper and lower case are one."""
    write(lake / "Region=eu" / "day=1" / f"a.{suffix}", [{"id": 1, "region": "asia"}])
    write(lake / "Region=us" / "day=2" / f"a.{suffix}", [{"id": 2}])
    assert content(lake / "Region=*" / "day=*" / f"*.{suffix}") == [
        {"id": 1, "region": "asia", "day": 1},
        {"id": 2, "region": None, "day": 2},
    ]


def test_a_name_that_not_all_folders_have_is_no_column(lake: Path, content: Content, suffix: str) -> None:
    write(lake / "region=eu" / f"a.{suffix}", [{"id": 1}])
    write(lake / "us" / f"a.{suffix}", [{"id": 2}])
    assert content(lake / "*" / f"*.{suffix}") == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("folders", "values"),
    [
        (["1", "20"], [1, 20]),
        (["0", "-3"], [0, -3]),
        (["007", "1"], ["007", "1"]),
        (["12345678901234567890", "1"], [Decimal(12345678901234567890), 1]),
        (["2026-01-31", "2026-02-01"], [dt.date(2026, 1, 31), dt.date(2026, 2, 1)]),
        (["2026-02-30", "2026-02-28"], ["2026-02-30", "2026-02-28"]),
        (["true", "1.50"], ["true", "1.50"]),
        (["", "it's"], ["", "it's"]),
        (["a%2Fb", "a=b"], ["a/b", "a=b"]),
        (["1", "__HIVE_DEFAULT_PARTITION__"], [1, None]),
    ],
)
def test_values_keep_what_is_written(
    tmp_path: Path, content: Content, folders: list[str], values: list[object]
) -> None:
    for number, folder in enumerate(folders):
        write(tmp_path / f"part={folder}" / "a.jsonl", [{"id": number}])
    rows = content(tmp_path / "part=*" / "a.jsonl")
    assert {row["id"]: row["part"] for row in rows} == dict(enumerate(values))


def test_copies_have_the_columns_of_their_files(lake: Path, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are copied to be read: Parquet with long rows, CSV with newlines of several kinds."""
    monkeypatch.setattr(long_rows, "_VECTOR_BYTES", 1)
    for region in ("eu", "us"):
        write(lake / f"region={region}" / "a.parquet", [{"id": region}])
        (lake / f"region={region}" / "a.csv").write_bytes(f"id\n{region}\r\n{region}\n".encode())
    assert [row["region"] for row in content(lake / "*" / "*.parquet")] == ["eu", "us"]
    assert [row["region"] for row in content(lake / "*" / "*.csv")] == ["eu", "eu", "us", "us"]


def test_a_column_that_hides_the_number_of_the_file(lake: Path, content: Content, suffix: str) -> None:
    """Without it nothing tells which folder a row is of."""
    write(lake / "region=eu" / f"a.{suffix}", [{"file_index": 9}])
    assert content(lake / "*" / f"*.{suffix}") == [{"file_index": 9}]


def test_rows_are_chosen_and_frozen_by_such_columns(lake: Path, tmp_path: Path, suffix: str) -> None:
    for day in ("2026-01-31", "2026-02-01"):
        write(lake / f"day={day}" / f"a.{suffix}", [{"id": day}])
    warehouse = DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", tmp_path / "home" / "runs")
    ref, dates = str(lake / "*" / f"*.{suffix}"), DateRange("day", dt.date(2026, 2, 1), dt.date(2026, 3, 1))
    frozen = warehouse.freeze(FreezeSpec("r1", ref, ("id",), ("day",), warehouse.within(ref, dates, None), 9))
    rows = [row for batch in warehouse.read(frozen, 0) for row in batch.to_pylist()]
    assert [row["day"] for row in rows] == [dt.date(2026, 2, 1)]
    assert warehouse.count(ref, "day < DATE '2026-02-01'") == 1
