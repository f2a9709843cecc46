"""The Warehouse protocol: whether an output is what promoting a run made of it, by one suite for every implementation.

Belongs here: `Warehouse.holds`. Not here: promoting (test_warehouse.py).
"""

from __future__ import annotations

import pytest

from batch_llm.warehouse.base import Mode, Warehouse
from tests.contract.warehouse_lab import KEY, publish

MODES: list[Mode] = ["upsert", "replace", "append_missing"]


@pytest.mark.parametrize("mode", MODES)
def test_an_output_holds_the_run_that_was_promoted_into_it(warehouse: Warehouse, output: str, mode: Mode) -> None:
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed"})
    publish(warehouse, "r1", 1, {"c": "pending"})
    assert not warehouse.holds("r1", output, KEY, mode), "there is no output"
    warehouse.promote("r1", output, KEY, mode)
    assert warehouse.holds("r1", output, KEY, mode)
    assert not warehouse.holds("r9", output, KEY, mode), "nothing is published of such a run"


@pytest.mark.parametrize("mode", MODES)
def test_a_row_that_is_gone_or_was_replaced_is_missed(warehouse: Warehouse, output: str, mode: Mode) -> None:
    """What promoting again would bring back: all of it but answers that append_missing leaves alone."""
    publish(warehouse, "r1", 0, {"a": "ok", "b": "ok"})
    publish(warehouse, "r2", 0, {"a": "ok"}, answer="another")
    warehouse.promote("r2", output, KEY, "upsert")
    assert not warehouse.holds("r1", output, KEY, mode)
    warehouse.promote("r1", output, KEY, "upsert")
    warehouse.promote("r2", output, KEY, "upsert")
    assert warehouse.holds("r1", output, KEY, mode) is (mode == "append_missing")
    warehouse.promote("r1", output, KEY, mode)
    assert warehouse.holds("r1", output, KEY, mode)


def test_only_replace_misses_that_others_keys_are_gone(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {"a": "ok", "b": "ok"})
    publish(warehouse, "r2", 0, {"c": "ok"})
    warehouse.promote("r1", output, KEY, "upsert")
    warehouse.promote("r2", output, KEY, "upsert")
    assert [warehouse.holds("r1", output, KEY, mode) for mode in MODES] == [True, False, True]


def test_a_pending_row_does_not_miss_its_answer(warehouse: Warehouse, output: str) -> None:
    """An earlier run's answer stands in the output, and stays."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    publish(warehouse, "r2", 0, {"a": "pending"})
    warehouse.promote("r1", output, KEY, "upsert")
    assert warehouse.holds("r2", output, KEY, "upsert")


def test_a_run_without_rows_is_held_by_any_output(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {})
    assert not warehouse.holds("r1", output, KEY, "upsert")
    warehouse.promote("r1", output, KEY, "upsert")
    assert warehouse.holds("r1", output, KEY, "upsert")
