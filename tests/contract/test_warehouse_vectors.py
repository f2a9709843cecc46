"""Vectors in a warehouse: columns of float32 lists that all have one length, as embedding jobs make them.

Belongs here: what every warehouse promises of such a column. Not here: other columns (test_warehouse.py).
"""

from __future__ import annotations

import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm.errors import OutputError
from batch_llm.warehouse.base import LLM_SCHEMA, Warehouse
from tests.contract.warehouse_lab import KEY, Lab, batches, input_table, output_rows, spec, written

SIZE = 5


def schema_of(size: int) -> pa.Schema:
    return pa.schema([pa.field("id", pa.string()), pa.field("embedding", pa.list_(pa.float32(), size)), *LLM_SCHEMA])


def vector(number: int, size: int = SIZE) -> list[float]:
    """Numbers that float32 holds only nearly, as Python sees them after it."""
    return list(array.array("f", [number + 1 / (place + 3) for place in range(size)]))


def rows_of(run_id: str, number: int, statuses: dict[str, str], shift: int = 0) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(output_rows(run_id, number, statuses)):
        row.pop("answer")
        rows.append({**row, "embedding": vector(place + shift) if row["llm_status"] == "ok" else None})
    return batches(rows, schema_of(SIZE))


def publish(warehouse: Warehouse, run_id: str, number: int, statuses: dict[str, str], shift: int = 0) -> None:
    warehouse.publish(run_id, number, rows_of(run_id, number, statuses, shift), schema_of(SIZE))


def stored(warehouse: Warehouse, place: str) -> dict[str, list[float] | None]:
    found = {}
    for batch in warehouse.rows(place):
        assert batch.schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
        found.update(zip(batch["id"].to_pylist(), batch["embedding"].to_pylist(), strict=True))
    return found


@pytest.fixture(params=["table", "file"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"table": "vectors", "file": str(tmp_path / "out" / "vectors.parquet")}[request.param]


def test_published_vectors_come_back_to_the_last_bit_and_with_their_size(warehouse: Warehouse) -> None:
    """Rows without a vector among those with one; every slice of a run, also when it is published again."""
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed", "c": "ok"})
    publish(warehouse, "r1", 1, {"d": "pending", "e": "pending"})
    publish(warehouse, "r1", 1, {"d": "ok", "e": "pending"}, shift=9)
    expected = {"a": vector(0), "b": None, "c": vector(2), "d": vector(9), "e": None}
    assert stored(warehouse, "run:r1") == expected
    assert stored(warehouse, warehouse.live_view("r1", "vectors")) == expected


def test_an_output_of_vectors_is_made_and_changed_by_key(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed", "c": "ok"})
    for _ in range(2):
        warehouse.ensure(output, schema_of(SIZE), KEY)
        warehouse.promote("r1", output, KEY, "upsert")
    publish(warehouse, "r2", 0, {"b": "ok", "c": "ok", "d": "ok"}, shift=20)
    warehouse.promote("r2", output, KEY, "upsert")
    assert stored(warehouse, output) == {"a": vector(0), "b": vector(20), "c": vector(21), "d": vector(22)}
    publish(warehouse, "r3", 0, {"a": "ok"}, shift=30)
    warehouse.promote("r3", output, KEY, "append_missing")
    warehouse.promote("r3", output, KEY, "replace")
    assert stored(warehouse, output) == {"a": vector(30)}


def test_a_file_of_vectors_says_their_size_to_its_readers(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "vectors.parquet"
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed"})
    warehouse.promote("r1", str(path), KEY, "upsert")
    table = pq.read_table(path)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
    assert table["embedding"].to_pylist() == [vector(0), None]


def test_another_size_is_another_type(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", output, KEY, "upsert")
    complaint = r"'embedding' is FLOAT\[5\] there and would be FLOAT\[6\] by this job; .*params\.dimensions"
    with pytest.raises(OutputError, match=complaint):
        warehouse.ensure(output, schema_of(6), KEY)
    text = schema_of(SIZE).set(1, pa.field("embedding", pa.string()))
    with pytest.raises(OutputError, match=r"would be (VARCHAR|STRING) by this job; .*output\.schema"):
        warehouse.ensure(output, text, KEY)


def test_an_output_of_texts_can_get_vectors(warehouse: Warehouse, output: str) -> None:
    plain = schema_of(SIZE).remove(1)
    rows = [{name: row[name] for name in plain.names} for row in output_rows("r1", 0, {"a": "ok"})]
    warehouse.publish("r1", 0, batches(rows, plain), plain)
    warehouse.promote("r1", output, KEY, "upsert")
    warehouse.ensure(output, schema_of(SIZE), KEY)
    publish(warehouse, "r2", 0, {"b": "ok"})
    warehouse.promote("r2", output, KEY, "upsert")
    assert stored(warehouse, output) == {"a": None, "b": vector(0)}


def test_earlier_vectors_are_found(warehouse: Warehouse, output: str, tmp_path: Path) -> None:
    frozen = warehouse.freeze(spec("r3", written(tmp_path / "in.parquet", input_table(8))))
    publish(warehouse, "r1", 0, {"k00000": "ok", "k00001": "failed"})
    warehouse.promote("r1", output, KEY, "upsert")
    publish(warehouse, "r2", 0, {"k00003": "ok"}, shift=9)
    found = {}
    for place in (output, "run:r2"):
        for batch in warehouse.prior(frozen, 0, place):
            assert batch.schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
            found.update(zip(batch["id"].to_pylist(), batch["embedding"].to_pylist(), strict=True))
    assert found == {"k00000": vector(0), "k00001": None, "k00003": vector(9)}


def test_vectors_are_an_input_like_any_list(lab: Lab, tmp_path: Path) -> None:
    """A second job may read what a first one made, as a table or as a file."""
    warehouse = lab.warehouse
    path = str(tmp_path / "vectors.parquet")
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed"})
    for source in ("vectors", path):
        warehouse.promote("r1", source, KEY, "upsert")
        columns = ("id", "embedding")
        run_id = f"r-{source == path:d}"
        frozen = warehouse.freeze(spec(run_id, source, columns=columns))
        rows = [row for batch in warehouse.read(frozen, 0) for row in batch.to_pylist()]
        assert sorted(rows, key=lambda row: row["id"]) == [
            {"id": "a", "embedding": vector(0)},
            {"id": "b", "embedding": None if lab.keeps_missing_lists or source == path else []},
        ]
