"""What a statement cost comes back from its line as it was; a sum with something unknown in it is unknown."""

from __future__ import annotations

from decimal import Decimal

import pytest

from batch_llm.statement_costs import StatementCost, WarehouseBill, bill_of

COSTS = (
    StatementCost("freeze", "batch_llm-tables-tone-1-freeze-1", None, 10 << 20, 1200, Decimal("0.000059605")),
    StatementCost("published", "batch_llm-tables-5f-1", 0, 0, 0, Decimal("1E-9")),
    StatementCost("prior", "batch_llm-tables-7a-1", 12, None, None, None),
)


@pytest.mark.parametrize("cost", COSTS)
def test_a_cost_comes_back_from_its_line(cost: StatementCost) -> None:
    assert StatementCost.from_text(cost.as_text()) == cost
    assert not set(cost.as_text()) & set(" /\n")


@pytest.mark.parametrize("text", ["", "freeze", "freeze~x~1~1~~job", "freeze~~1~1~a price~job", "freeze~~1~1~~"])
def test_what_is_no_line_is_no_cost(text: str) -> None:
    assert StatementCost.from_text(text) is None


def test_statements_are_added_up() -> None:
    assert bill_of(COSTS[:2]) == WarehouseBill(2, 10 << 20, 1200, Decimal("0.000059606"))


def test_unknown_is_not_nothing() -> None:
    assert bill_of(COSTS) == WarehouseBill(3, None, None, None)
    assert bill_of([]) is None
