"""A call's bill is split over its rows without losing or inventing a token or a billionth of a dollar."""

from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.shares import shared_cost_usd, shared_tokens
from batch_llm.pricing import COST_PLACES

WEIGHTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=200)


@given(tokens=st.integers(0, 10**8), weights=WEIGHTS)
def test_tokens_add_up_and_no_row_is_further_than_one_from_its_proportion(tokens: int, weights: list[int]) -> None:
    shares = shared_tokens(tokens, weights)
    assert sum(shares) == tokens
    whole = sum(weights)
    exact = [Fraction(tokens * weight, whole) if whole else Fraction(tokens, len(weights)) for weight in weights]
    assert all(abs(share - wanted) < 1 for share, wanted in zip(shares, exact, strict=True))
    if whole:
        assert all(share == 0 for share, weight in zip(shares, weights, strict=True) if not weight)


@given(steps=st.integers(0, 10**12), weights=WEIGHTS)
def test_cost_adds_up_to_the_last_place_and_is_never_negative(steps: int, weights: list[int]) -> None:
    cost = COST_PLACES * steps
    shares = shared_cost_usd(cost, weights)
    assert sum(shares, Decimal(0)) == cost
    assert all(share >= 0 and share == share.quantize(COST_PLACES) for share in shares)


@given(tokens=st.integers(0, 10**6), weights=WEIGHTS)
def test_a_heavier_row_never_pays_less(tokens: int, weights: list[int]) -> None:
    paid = sorted(zip(weights, shared_tokens(tokens, weights), strict=True))
    for (lighter, less), (heavier, more) in itertools.pairwise(paid):
        assert lighter == heavier or less <= more


def test_what_is_left_goes_to_the_largest_rests_in_the_order_of_rows() -> None:
    assert shared_tokens(10, [1, 1, 1]) == [4, 3, 3]
    assert shared_tokens(100, [2, 3, 2]) == [29, 43, 28]
    assert shared_tokens(3, [0, 0]) == [2, 1]
    assert shared_tokens(0, [5, 0]) == [0, 0]
    assert shared_cost_usd(Decimal("0.000000002"), [1, 1, 1]) == [Decimal("1e-9"), Decimal("1e-9"), Decimal(0)]


@pytest.mark.parametrize(("tokens", "weights"), [(1, []), (-1, [1]), (1, [-1, 2])])
def test_what_cannot_be_shared_is_a_defect_of_the_caller(tokens: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        shared_tokens(tokens, weights)


def test_a_cost_of_more_places_than_a_price_gives_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="more than 9 places"):
        shared_cost_usd(Decimal("1e-10"), [1])
