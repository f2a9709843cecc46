"""When it is told that much of the budget is used."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from batch_llm.engine.events import BudgetMark, Event
from batch_llm.engine.money import Money

CAP_USD = Decimal(10)


def marks_told(*spent_usd: float, before_usd: float = 0) -> list[int]:
    """What a pipeline tells while so much is spent in all, one after the other."""
    budget: Any = SimpleNamespace(cap_usd=CAP_USD, spent_usd=Decimal(str(before_usd)))
    told: list[Event] = []
    parts: Any = SimpleNamespace(fallbacks=())
    calling: Any = SimpleNamespace(tell=told.append)
    money = Money(parts, calling, budget, ())
    for usd in spent_usd:
        budget.spent_usd = Decimal(str(usd))
        money.tell_marks()
    return [event.percent for event in told if isinstance(event, BudgetMark)]


def test_each_mark_is_told_once_as_it_is_passed() -> None:
    assert marks_told(4.9, 5, 5.1, 7.9, 8.1, 9.9, 10) == [50, 80, 100]


def test_of_marks_passed_at_once_the_highest_is_told() -> None:
    assert marks_told(1, 9) == [80]


@pytest.mark.parametrize(("before_usd", "marks"), [(4, [50, 80, 100]), (5, [80, 100]), (8.5, [100]), (10, [])])
def test_who_goes_on_with_a_run_is_not_told_again_what_it_spent_before(before_usd: float, marks: list[int]) -> None:
    assert marks_told(before_usd, 5.1, 8.6, 10, before_usd=before_usd) == marks
