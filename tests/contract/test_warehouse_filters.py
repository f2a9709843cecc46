"""Filters whose rows may be others though the input is the same: one suite for every warehouse."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.contract.warehouse_lab import DuckDBLab, Lab

ROWS = pa.table(
    {
        "id": [1, 2],
        "text": ["a", "b"],
        "due": pa.array([0, 1], pa.timestamp("us", "UTC")),
        "today": [1, 2],
        "place": [{"x": 1}, {"x": 2}],
    }
)


@pytest.fixture
def source(lab: Lab) -> str:
    lab.put("texts", ROWS)
    return "texts"


@pytest.mark.parametrize(
    "where",
    [
        "due <= CURRENT_TIMESTAMP",
        "DATE(due) <= CURRENT_DATE",
        "id IN (SELECT id FROM other)",
        "text = SESSION_USER",
        "due <= (CURRENT_TIMESTAMP)",
    ],
)
def test_a_filter_by_the_clock_by_chance_or_by_who_asks_may_change(lab: Lab, source: str, where: str) -> None:
    assert lab.warehouse.may_change(source, where)


@pytest.mark.parametrize(
    "where", ["id > 1", "text LIKE 'a%' AND id BETWEEN 1 AND 3", "LOWER(text) = 'a'", "place.x + today = 2", "`id` = 1"]
)
def test_a_filter_of_the_inputs_columns_stays(lab: Lab, source: str, where: str) -> None:
    if isinstance(lab, DuckDBLab):
        where = where.replace("`", '"')
    assert not lab.warehouse.may_change(source, where)
