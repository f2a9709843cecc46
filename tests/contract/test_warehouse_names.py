"""The Warehouse protocol with columns called like names in our SQL, by one suite for every implementation.

Belongs here: that a column's name, whatever it is, never stands for something of ours. Not here: names that are refused
(batch_llm/job/rules.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.warehouse.base import LLM_SCHEMA, FrozenInput, Mode, Warehouse
from tests.contract.warehouse_lab import KEY, Lab, batches, spec

NAMES = ["present", "incoming", "frozen", "stored"]
ODD = pa.struct([("id", pa.string()), ("llm_status", pa.string()), ("llm_run_id", pa.string())])
COLUMNS = ("id", *NAMES)
ASKED_ABOUT = ("llm_present", "llm_incoming", "llm_frozen")  # a prompt may show columns of an earlier output
SOURCE = pa.table(
    {
        "id": ["a", "b", "c"],
        **dict.fromkeys((*NAMES, *ASKED_ABOUT), pa.array([{"id": "z", "llm_status": "none"}] * 3, ODD)),
    }
)


def _publish(warehouse: Warehouse, run_id: str, frozen: FrozenInput) -> None:
    schema = pa.schema([*SOURCE.select(COLUMNS).schema, *LLM_SCHEMA])
    told: dict[str, Any] = {
        "llm_status": "ok", "llm_slice": 0, "llm_run_id": run_id, "llm_request_hash": "h", "llm_attempts": 1,
        "llm_input_tokens": 1, "llm_output_tokens": 1, "llm_cached": False,
    }  # fmt: skip
    rows = [{**row, **told} for batch in warehouse.read(frozen, 0) for row in batch.to_pylist()]
    warehouse.publish(run_id, 0, batches(rows, schema), schema)


@pytest.mark.parametrize("place", ["table", "file"])
@pytest.mark.parametrize("mode", ["upsert", "replace", "append_missing"])
def test_a_column_with_fields_like_ours_is_only_a_column(lab: Lab, tmp_path: Path, place: str, mode: Mode) -> None:
    """The second run finds the answers of the first; both are promoted, and the output is known to hold them."""
    lab.put("texts", SOURCE)
    warehouse, output = lab.warehouse, "tone" if place == "table" else str(tmp_path / "tone.parquet")
    for run_id, found in (("r1", 0), ("r2", 3)):
        frozen = warehouse.freeze(spec(run_id, "texts", columns=(*COLUMNS, *ASKED_ABOUT)))
        assert sum(batch.num_rows for batch in warehouse.prior(frozen, 0, output)) == found
        _publish(warehouse, run_id, frozen)
        assert warehouse.promote(run_id, output, KEY, mode).rows == 3
        assert warehouse.holds(run_id, output, KEY, mode)
    kept = [row for batch in warehouse.rows(output, columns=COLUMNS) for row in batch.to_pylist()]
    assert {row["id"] for row in kept} == set("abc")
    assert all(row[name]["llm_status"] == "none" for row in kept for name in NAMES)


@pytest.mark.parametrize("column", ["batch_llm_row", "t", "texts", "source"])
def test_the_version_of_a_table_covers_all_its_columns(lab: Lab, column: str) -> None:
    """Whatever one of them is called."""
    table = pa.table({column: [1, 2, 3], "text": ["a", "b", "c"]})
    lab.put("texts", table)
    before = lab.warehouse.source("texts").version
    lab.put("texts", table.set_column(1, "text", pa.array(["a", "b", "changed"])))
    assert lab.warehouse.source("texts").version != before
