"""The Warehouse protocol: reading what was published or promoted, by one suite for every implementation.

Belongs here: `Warehouse.rows`. Not here: publishing and promoting (test_warehouse.py).
"""

from __future__ import annotations

import pytest

from batch_llm.errors import OutputError
from batch_llm.warehouse.base import Warehouse
from tests.contract.warehouse_lab import KEY, publish


def test_rows_of_one_slice_are_read_alone(warehouse: Warehouse) -> None:
    """Of a run's published rows, filtered or not, and of an output; none of a slice that is not there."""
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed"})
    publish(warehouse, "r1", 1, {"c": "ok"})
    warehouse.promote("r1", "tone", KEY, "upsert")

    def keys(place: str, number: int, where: str | None = None) -> list[str]:
        batches = list(warehouse.rows(place, columns=["id"], where=where, slice_number=number))
        assert batches, "the columns are known all the same"
        return sorted(value for batch in batches for value in batch["id"].to_pylist())

    for place in ("run:r1", "tone"):
        assert [keys(place, number) for number in range(3)] == [["a", "b"], ["c"], []]
        assert keys(place, 0, "llm_status = 'ok' OR llm_status = 'pending'") == ["a"]


def test_rows_can_be_chosen(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed", "c": "ok"})
    warehouse.promote("r1", output, KEY, "upsert")
    chosen = warehouse.rows(output, columns=["llm_status", "id"], where="llm_status = 'failed' OR id = ''", limit=1)
    assert [row for batch in chosen for row in batch.to_pylist()] == [{"llm_status": "failed", "id": "b"}]
    some = warehouse.rows(output, where="llm_status = 'ok'", limit=1)
    assert [row["llm_status"] for batch in some for row in batch.to_pylist()] == ["ok"]
    with pytest.raises(OutputError, match="no column 'answr'; the nearest name is 'answer'"):
        warehouse.rows(output, columns=["answr"])
    with pytest.raises(OutputError, match="where"):
        warehouse.rows(output, where="llm_status = ")
    with pytest.raises(OutputError, match="run r9 has published nothing"):
        warehouse.rows("run:r9")


def test_the_warehouse_is_free_while_rows_are_read(warehouse: Warehouse) -> None:
    """A slow reader keeps nobody from publishing, and still sees what it began with."""
    publish(warehouse, "r1", 0, dict.fromkeys("abcdef", "ok"))
    reading = warehouse.rows("run:r1")
    publish(warehouse, "r1", 0, {"z": "ok"})
    assert sum(batch.num_rows for batch in reading) == 6
