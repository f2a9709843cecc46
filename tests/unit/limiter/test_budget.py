"""The budget of one run."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import BudgetExhausted, LimiterError
from batch_llm.limiter.base import Hold
from batch_llm.limiter.budget import LocalBudget

CENTS = st.integers(0, 300).map(lambda cents: Decimal(cents) / 100)


def test_a_hold_that_does_not_fit_is_refused_with_the_figures_and_changes_nothing() -> None:
    budget = LocalBudget(Decimal(25), Decimal("24.90"))
    budget.hold(Decimal("0.06"))
    with pytest.raises(BudgetExhausted, match=r"0\.05 USD.*budget of 25 USD 24\.90 are spent and 0\.06 held"):
        budget.hold(Decimal("0.05"))
    assert budget.reserved_usd == Decimal("0.06")
    budget.hold(Decimal("0.04"))  # exactly the cap


def test_an_unknown_outcome_counts_as_spent_in_full() -> None:
    budget = LocalBudget(Decimal(1))
    budget.settle(budget.hold(Decimal("0.7")), None)
    assert (budget.spent_usd, budget.reserved_usd) == (Decimal("0.7"), 0)


def test_a_release_gives_all_of_it_back() -> None:
    budget = LocalBudget(Decimal(1))
    budget.release(budget.hold(Decimal(1)))
    assert (budget.spent_usd, budget.reserved_usd) == (0, 0)


def test_a_bill_dearer_than_its_hold_is_not_hidden() -> None:
    budget = LocalBudget(Decimal(1))
    budget.settle(budget.hold(Decimal("0.5")), Decimal(2))
    assert budget.spent_usd == 2
    with pytest.raises(BudgetExhausted):
        budget.hold(Decimal(0))


def test_without_a_cap_everything_fits_and_is_counted() -> None:
    budget = LocalBudget(None)
    budget.settle(budget.hold(Decimal(10**9)), Decimal(1))
    assert (budget.cap_usd, budget.spent_usd) == (None, 1)


def test_a_hold_ends_once() -> None:
    budget = LocalBudget(Decimal(1))
    hold = budget.hold(Decimal("0.5"))
    budget.settle(hold, Decimal("0.1"))
    for end in (
        lambda: budget.settle(hold, None),
        lambda: budget.release(hold),
        lambda: budget.release(Hold(9, hold.amount_usd)),
    ):
        with pytest.raises(LimiterError, match="settled or released before"):
            end()
    assert (budget.spent_usd, budget.reserved_usd) == (Decimal("0.1"), 0)


@pytest.mark.parametrize(
    "act",
    [
        lambda: LocalBudget(Decimal(-1)),
        lambda: LocalBudget(None, Decimal(-1)),
        lambda: LocalBudget(None).hold(Decimal(-1)),
        lambda: LocalBudget(None).settle(Hold(1, Decimal(1)), Decimal(-1)),
    ],
)
def test_negative_money_is_refused(act: object) -> None:
    with pytest.raises(ValueError, match="money cannot be negative"):
        act()  # type: ignore[operator]


@given(CENTS, st.lists(st.tuples(st.sampled_from(["hold", "settle", "unknown", "release"]), CENTS), max_size=60))
def test_reserved_and_spent_never_exceed_the_cap(cap: Decimal, steps: list[tuple[str, Decimal]]) -> None:
    budget = LocalBudget(cap)
    holds: list[Hold] = []
    spent = Decimal(0)
    for name, amount in steps:
        if name == "hold":
            try:
                holds.append(budget.hold(amount))
            except BudgetExhausted:
                assert budget.spent_usd + budget.reserved_usd + amount > cap
        elif holds:
            hold = holds.pop(0)
            if name == "release":
                budget.release(hold)
            else:
                actual = None if name == "unknown" else min(amount, hold.amount_usd)
                budget.settle(hold, actual)
                spent += hold.amount_usd if actual is None else actual
        assert budget.spent_usd == spent
        assert budget.reserved_usd == sum((hold.amount_usd for hold in holds), Decimal(0))
        assert budget.spent_usd + budget.reserved_usd <= cap
