"""The Warehouse protocol under folders called ``name=value``, by one suite for every implementation.

Belongs here: that such a folder changes nothing of what stands in files below it. Not here: the columns that the
folders of a pattern add to an input (tests/unit/warehouse/duckdb/test_folder_columns.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.warehouse.base import FrozenInput, Warehouse
from tests.contract.warehouse_lab import KEY, LABS, OUTPUT_SCHEMA, Lab, input_table, publish, spec, stored, written

KEYS = [f"k{number:05}" for number in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Called like the key, a column of the input, one of the answer, and one that no file has."""
    made = tmp_path / "id=5" / "text=t" / "answer=x" / "llm_status=pending" / "site=7"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def lab(kind: str, folder: Path) -> Lab:
    """A warehouse of each kind, its home in that folder."""
    return LABS[kind](folder / "home")


@pytest.fixture(params=["table", "file"])
def place(request: pytest.FixtureRequest, folder: Path) -> str:
    """An output of each kind; the file lies in that folder, too."""
    return "tone" if request.param == "table" else str(folder / "tone.parquet")


def read_all(warehouse: Warehouse, frozen: FrozenInput) -> list[dict[str, Any]]:
    return [row for info in frozen.slices for batch in warehouse.read(frozen, info.number) for row in batch.to_pylist()]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_an_input_is_what_its_file_holds(warehouse: Warehouse, folder: Path, suffix: str) -> None:
    """Also a file that says nothing of the folder's other names."""
    path, rows = folder / f"in.{suffix}", [{"id": key, "text": f"of {key}"} for key in KEYS]
    if suffix == "parquet":
        written(path, pa.Table.from_pylist(rows))
    elif suffix == "csv":
        path.write_text("id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows))
    else:
        path.write_text("".join(f'{{"id": "{row["id"]}", "text": "{row["text"]}"}}\n' for row in rows))
    assert warehouse.head(str(path), [], None, 9).to_pylist() == rows
    frozen = warehouse.freeze(spec("r1", str(path)))
    assert read_all(warehouse, frozen) == rows
    assert warehouse.distinct(frozen, ("id",)) == warehouse.distinct(frozen, ("id", "text")) == len(KEYS)


def test_an_output_is_what_was_published(warehouse: Warehouse, folder: Path, place: str) -> None:
    """A second run finds the answers of the first, and brings in its own beside them."""
    source = written(folder / "in.parquet", input_table(4))
    warehouse.ensure(place, OUTPUT_SCHEMA, KEY, source=source)
    first = warehouse.freeze(spec("r1", source))
    assert list(warehouse.prior(first, 0, place)) == []
    publish(warehouse, "r1", 0, dict.fromkeys(KEYS[:4], "ok"))
    assert stored(warehouse, "run:r1") == dict.fromkeys(KEYS[:4], ("ok", "a"))
    warehouse.promote("r1", place, KEY, "upsert")
    assert warehouse.holds("r1", place, KEY, "upsert")
    assert stored(warehouse, place) == dict.fromkeys(KEYS[:4], ("ok", "a"))

    second = warehouse.freeze(spec("r2", written(folder / "in.parquet", input_table(6))))
    warehouse.ensure(place, OUTPUT_SCHEMA, KEY, source=source)
    for before in (place, "run:r1"):
        found = [
            [row["id"] for batch in warehouse.prior(second, n, before) for row in batch.to_pylist()] for n in (0, 1)
        ]
        assert [sorted(ids) for ids in found] == [KEYS[:4], []]
    publish(warehouse, "r2", 0, dict.fromkeys(KEYS[3:], "ok"), answer="new")
    warehouse.promote("r2", place, KEY, "upsert")
    assert stored(warehouse, place) == {
        **dict.fromkeys(KEYS[:3], ("ok", "a")),
        **dict.fromkeys(KEYS[3:], ("ok", "new")),
    }
    warehouse.promote("r2", place, KEY, "replace")
    assert stored(warehouse, place) == dict.fromkeys(KEYS[3:], ("ok", "new"))


def test_a_table_is_what_was_loaded(warehouse: Warehouse, folder: Path) -> None:
    path = written(folder / "in.parquet", input_table(4))
    with warehouse.file_rows(path) as rows:
        warehouse.load("texts", rows, replace=False)
    assert sorted(warehouse.head("texts", ["id"], None, 9)["id"].to_pylist()) == KEYS[:4]
