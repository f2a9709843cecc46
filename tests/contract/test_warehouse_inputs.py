"""The Warehouse protocol, inputs: one suite for every implementation.

Belongs here: what every warehouse promises of inputs and frozen slices. Not here: outputs (test_warehouse.py), file
formats (tests/unit/warehouse/).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.errors import InputError
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.bigquery.warehouse import BigQueryWarehouse
from tests.contract.warehouse_lab import (
    Lab,
    input_table,
    publish,
    spec,
    written,
)


def read_all(warehouse: Warehouse, frozen: Any, batch_rows: int = 3) -> list[dict[str, Any]]:
    return [
        row
        for info in frozen.slices
        for batch in warehouse.read(frozen, info.number, batch_rows=batch_rows)
        for row in batch.to_pylist()
    ]


@pytest.mark.parametrize("place", ["table", "view", "file"])
def test_frozen_rows_are_the_inputs_rows_in_its_order(lab: Lab, tmp_path: Path, place: str) -> None:
    """Nested columns, unicode and types come through; the slices have the size asked for, the last what is left."""
    table = input_table(10)
    if place == "file":
        ref = written(tmp_path / "in.parquet", table)
    else:
        ref = "raw.texts"
        lab.put(ref, table)
        if place == "view":
            lab.execute("CREATE VIEW seen AS SELECT * FROM raw.texts")
            ref = "seen"
    frozen = lab.warehouse.freeze(spec("r1", ref, columns=("id", "turns", "year", "text")))
    assert [info.rows for info in frozen.slices] == [4, 4, 2]
    assert [info.number for info in frozen.slices] == [0, 1, 2]
    rows, expected = read_all(lab.warehouse, frozen), table.select(["id", "turns", "year", "text"]).to_pylist()
    as_it_is = lab.keeps_tables_as_they_are or place == "file"
    assert (rows if as_it_is else sorted(rows, key=lambda row: row["id"])) == expected
    first = next(iter(lab.warehouse.read(frozen, 0)))
    assert first.schema.names == ["id", "turns", "year", "text"]
    assert first.schema.field("year").type == (pa.int16() if as_it_is else pa.int64())


def test_different_values_are_counted_over_all_slices(warehouse: Warehouse, tmp_path: Path) -> None:
    """NULL is a value, of columns together each combination counts, and a nested value is one."""
    table = pa.table(
        {
            "id": [f"k{number}" for number in range(10)],
            "a.b": ["x", "y", None, "x", "y", None, "x", "y", None, "z"],
            "n": pa.array([1, 1, 1, 2, 1, 1, 1, 1, None, 1], pa.int64()),
            "turns": [[{"t": number % 2}] for number in range(10)],
        }
    )
    columns = ("id", "a.b", "n", "turns")
    if isinstance(warehouse, BigQueryWarehouse):  # it takes no dot
        table, columns = table.rename_columns(["id", "a_b", "n", "turns"]), ("id", "a_b", "n", "turns")
    frozen = warehouse.freeze(spec("r1", written(tmp_path / "in.parquet", table), columns=columns))
    assert len(frozen.slices) == 3
    counted = [warehouse.distinct(frozen, named) for named in (columns[:1], columns[1:2], columns[1:3], columns[3:])]
    assert counted == [10, 4, 6, 2]
    empty = warehouse.freeze(spec("r2", written(tmp_path / "in.parquet", table), columns=columns, where="id = ''"))
    assert warehouse.distinct(empty, columns) == 0


def test_freezing_again_gives_the_same_input_although_the_source_changed(lab: Lab, tmp_path: Path) -> None:
    ref = written(tmp_path / "in.parquet", input_table(5))
    frozen = lab.warehouse.freeze(spec("r1", ref))
    written(tmp_path / "in.parquet", input_table(9))
    again = lab.warehouse.freeze(spec("r1", ref, rows_per_slice=2))
    assert again == frozen
    assert len(read_all(lab.warehouse, again)) == 5


def test_a_filter_counts_and_freezes_the_same_rows(warehouse: Warehouse, tmp_path: Path) -> None:
    ref = written(tmp_path / "in.parquet", input_table(50))
    where = "year >= 2010 -- a comment"
    frozen = warehouse.freeze(spec("r1", ref, where=where))
    assert warehouse.count(ref, where) == frozen.rows == 20
    assert warehouse.count(ref, None) == 50
    assert warehouse.head(ref, ["id"], where, 3).to_pylist() == [{"id": f"k{number:05}"} for number in (10, 11, 12)]


def test_an_empty_input_has_no_slices(warehouse: Warehouse, tmp_path: Path) -> None:
    frozen = warehouse.freeze(spec("r1", written(tmp_path / "in.parquet", input_table(5)), where="year < 0"))
    assert (frozen.rows, frozen.slices) == (0, ())


def with_keys(*keys: tuple[str | None, int | None]) -> pa.Table:
    ids, numbers = zip(*keys, strict=True)
    columns = {"id": pa.array(ids, pa.string()), "n": pa.array(numbers, pa.int64())}
    return pa.table({**columns, "text": ["t"] * len(keys)})


def test_a_null_key_is_refused_with_examples(warehouse: Warehouse, tmp_path: Path) -> None:
    """The message counts the rows per column, shows at most five, and says what to do; nothing is left behind."""
    table = with_keys(("a", 1), *[(None, number) for number in range(7)], ("b", None))
    ref = written(tmp_path / "in.parquet", table)
    with pytest.raises(InputError) as raised:
        warehouse.freeze(spec("r1", ref, key=("id", "n"), columns=("id", "n")))
    message = str(raised.value)
    assert "id in 7, n in 1 rows" in message
    assert message.count("id=NULL") == 5
    assert "input.where" in message
    assert "in.parquet" in message
    frozen = warehouse.freeze(spec("r1", ref, key=("id", "n"), columns=("id", "n"), where="id = 'a'"))
    assert frozen.rows == 1


def test_a_duplicate_key_is_refused_with_examples(warehouse: Warehouse, tmp_path: Path) -> None:
    table = with_keys(*[(letter, 1) for letter in "aaabbccddeeffgh"])
    ref = written(tmp_path / "in.parquet", table)
    with pytest.raises(InputError) as raised:
        warehouse.freeze(spec("r1", ref, key=("id", "n"), columns=("id", "n"), rows_per_slice=2))
    message = str(raised.value)
    assert "6 keys stand in 13 rows" in message
    assert "id='a', n=1 (3 rows)" in message
    assert message.count("rows)") == 5
    assert "Name more columns in input.key" in message


def test_a_missing_column_names_the_nearest(warehouse: Warehouse, tmp_path: Path) -> None:
    ref = written(tmp_path / "in.parquet", input_table(2))
    for call in (
        lambda: warehouse.freeze(spec("r1", ref, columns=("id", "texts"))),
        lambda: warehouse.head(ref, ["texts"], None, 1),
    ):
        with pytest.raises(InputError, match="no column 'texts'; the nearest name is 'text'; its columns: id, year"):
            call()


@pytest.mark.parametrize("where", ["yaer > 2000", "year >", "1=1) OR (1=1", "1=1; DROP TABLE texts", "", "id, year"])
def test_a_filter_that_is_no_condition_is_refused(lab: Lab, where: str) -> None:
    """Also one that would close its bracket or end the statement; the table stands afterwards."""
    lab.put("texts", input_table(3))
    for call in (
        lambda: lab.warehouse.count("texts", where),
        lambda: lab.warehouse.freeze(spec("r1", "texts", where=where)),
        lambda: lab.warehouse.head("texts", ["id"], where, 1),
    ):
        with pytest.raises(InputError, match="where"):
            call()
    assert lab.warehouse.count("texts", None) == 3


def test_a_missing_input_says_where_it_looked(lab: Lab, tmp_path: Path) -> None:
    lab.put("raw_texts", input_table(1))
    written(tmp_path / "beige_book.parquet", input_table(1))
    with pytest.raises(InputError, match=r"warehouse .*nearest name is 'raw_texts'"):
        lab.warehouse.source("raw_text")
    with pytest.raises(InputError, match=r"'beige_bok.parquet' in .*nearest name is 'beige_book.parquet'"):
        lab.warehouse.source(str(tmp_path / "beige_bok.parquet"))
    for ref in (tmp_path / "nowhere" / "x.parquet", tmp_path / "*.csv", tmp_path, tmp_path / "x.xlsx"):
        with pytest.raises(InputError, match=str(tmp_path)):
            lab.warehouse.source(str(ref))
    with pytest.raises(InputError, match="neither a table"):
        lab.warehouse.source(lab.no_table)


def test_a_source_tells_its_schema_and_rows(lab: Lab, tmp_path: Path) -> None:
    table = input_table(7)
    lab.put("texts", table)
    for ref in ("texts", written(tmp_path / "in.parquet", table)):
        info = lab.warehouse.source(ref)
        assert (info.ref, info.rows) == (ref, 7)
        assert info.schema is not None
        assert info.schema.names == table.schema.names


@pytest.mark.parametrize("change", ["one value", "a row more", "a pair of equal rows", "a column"])
def test_the_version_of_a_table_changes_with_its_content(lab: Lab, change: str) -> None:
    table = pa.table({"id": ["a", "b", "b"], "text": ["x", "y", "y"]})
    lab.put("texts", table)
    before = lab.warehouse.source("texts").version
    assert lab.warehouse.source("texts").version == before
    statements = {
        "one value": "UPDATE texts SET text = 'z' WHERE id = 'a'",
        "a row more": "INSERT INTO texts VALUES ('c', 'x')",
        "a pair of equal rows": "UPDATE texts SET text = 'z' WHERE id = 'b'",
        "a column": "ALTER TABLE texts ADD COLUMN more INTEGER",
    }
    lab.execute(statements[change])
    assert lab.warehouse.source("texts").version != before


def test_the_version_of_files_changes_with_any_of_them(warehouse: Warehouse, tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", input_table(2))
    pattern = str(tmp_path / "*.parquet")
    seen = {warehouse.source(pattern).version}
    path = Path(written(tmp_path / "b.parquet", input_table(2, start=2)))
    seen.add(warehouse.source(pattern).version)
    os.utime(path, ns=(1, 1))
    seen.add(warehouse.source(pattern).version)
    assert len(seen) == 3


def test_tables_match_a_pattern(lab: Lab, tmp_path: Path) -> None:
    """Tables and views by name, files by path; published slices and live views are no inputs."""
    assert list(lab.warehouse.tables("*")) == []
    lab.put("other", input_table(1))
    lab.put("raw.reports_1", input_table(1))
    lab.put("raw.reports_2", input_table(2))
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    lab.warehouse.live_view("r1", "raw.reports_9")
    assert [(info.ref, info.rows) for info in lab.warehouse.tables("raw.reports_*")] == [
        ("raw.reports_1", 1),
        ("raw.reports_2", 2),
    ]
    assert [info.ref for info in lab.warehouse.tables("*")] == ["other"]
    paths = [written(tmp_path / name, input_table(1)) for name in ("b.parquet", "a.parquet")]
    found = list(lab.warehouse.tables(str(tmp_path / "*.parquet")))
    assert [info.ref for info in found] == sorted(paths)
    assert [info.version for info in found] == [lab.warehouse.source(path).version for path in sorted(paths)]
    assert list(lab.warehouse.tables(str(tmp_path / "*.csv"))) == []


# ---- real tables


def test_beige_book_freezes_by_its_key(warehouse: Warehouse, shared_data: Callable[[str], Path]) -> None:
    source = str(shared_data("beige_book.parquet"))
    frozen = warehouse.freeze(
        spec("r1", source, key=("report_id",), columns=("report_id", "district", "text"), rows_per_slice=1000)
    )
    assert [info.rows for info in frozen.slices] == [1000, 1000, 1000, 1000, 238]
    assert warehouse.count(source, "year >= 2010") == 1092


def test_fed_communications_have_null_dates(warehouse: Warehouse, shared_data: Callable[[str], Path]) -> None:
    """Refused as a key, with the count; accepted as any other column."""
    source = str(shared_data("fed_communications.parquet"))
    with pytest.raises(InputError, match="released_on in 44 rows"):
        warehouse.freeze(spec("r1", source, key=("released_on", "title"), columns=("released_on", "title", "text")))
    columns = ("doc_id", "released_on", "text")
    frozen = warehouse.freeze(spec("r1", source, key=("doc_id",), columns=columns, rows_per_slice=100))
    assert sum(row["released_on"] is None for row in read_all(warehouse, frozen)) == 44


def test_conversations_keep_their_nested_column(warehouse: Warehouse, shared_data: Callable[[str], Path]) -> None:
    source = str(shared_data("conversations.parquet"))
    columns = ("conversation_id", "turns")
    frozen = warehouse.freeze(spec("r1", source, key=columns[:1], columns=columns, rows_per_slice=4000))
    first = next(warehouse.read(frozen, 0, batch_rows=1)).to_pylist()[0]
    assert first["turns"][0] == {"speaker": "user", "text": "one Chai Latte please"}


def test_wordnet_freezes_whole(warehouse: Warehouse, shared_data: Callable[[str], Path]) -> None:
    source = str(shared_data("wordnet_glosses.parquet"))
    columns = ("synset_id", "definition", "examples")
    frozen = warehouse.freeze(spec("r1", source, key=columns[:1], columns=columns, rows_per_slice=20_000))
    assert (frozen.rows, len(frozen.slices)) == (107_525, 6)
    assert sum(batch.num_rows for batch in warehouse.read(frozen, 5)) == 7_525
