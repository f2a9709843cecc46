"""Names that make a filter one that may change."""

from __future__ import annotations

import pytest

from batch_llm.warehouse.bigquery.filters import may_change


@pytest.mark.parametrize(
    "where",
    [
        "due <= CURRENT_TIMESTAMP()",
        "due <= current_timestamp",
        "day = CURRENT_DATE('Europe/Berlin')",
        "at < CURRENT_DATETIME()",
        "at < CURRENT_TIME()",
        "RAND() < 0.5",
        "id = GENERATE_UUID()",
        "owner = Session_User()",
        "id IN (SELECT id FROM other)",
    ],
)
def test_the_clock_chance_who_asks_and_other_tables(where: str) -> None:
    assert may_change(where)


@pytest.mark.parametrize("where", ["id > 1", "brand = 'x'", "randomised", "my_current_date < '2026-01-01'", "selected"])
def test_columns_stay(where: str) -> None:
    assert not may_change(where)
