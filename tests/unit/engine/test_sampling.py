"""A sample is fair whatever the order of the table, and its total right."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.sampling import EvenSample, extrapolated

MOST = 101


def passed(rows: list[tuple[int, int]], batch: int = 0, stretch: int = 1) -> EvenSample:
    """Rows of (size, tokens) pass by, one by one or in batches."""
    sample = EvenSample(MOST, stretch)
    if not batch:
        for size, tokens in rows:
            if sample.wants(size):
                sample.take(size, tokens, size)
        return sample
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        for place in sample.pass_by(len(some), sum(size for size, _ in some)):
            sample.take(*some[place], some[place][0])
    return sample


@given(st.integers(0, 3_000), st.sampled_from([0, 1, 7, 256]))
def test_one_row_is_drawn_from_each_stretch(count: int, batch: int) -> None:
    sample = passed([(number, 1) for number in range(count)], batch)
    places = [size // sample.stretch for size, *_ in sample.drawn]
    assert places == sorted(set(places))
    assert len(sample.drawn) <= MOST
    assert len(places) >= count // sample.stretch
    assert sample.whole == (count <= MOST)
    assert sample.seen == count


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 900)), max_size=400), st.sampled_from([1, 13, 256]))
def test_rows_in_batches_are_drawn_as_rows_one_by_one(rows: list[tuple[int, int]], batch: int) -> None:
    assert passed(rows, batch) == passed(rows)


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=1_500), st.booleans(), st.integers(0, 30))
def test_the_total_is_right_for_any_distribution_and_order_of_lengths(
    sizes: list[int], grows: bool, framing: int
) -> None:
    """Texts that are billed by their size, within rounding: however they are sorted, the total is within 1 %."""
    rows = [(size, framing + round(size / 4.2)) for size in (sorted(sizes) if grows else sizes)]
    truth = sum(tokens for _, tokens in rows)
    assert passed(rows).total_tokens().amount == pytest.approx(truth, rel=0.01, abs=0.6 * len(rows))


@pytest.mark.parametrize("order", ["as they come", "sorted", "two kinds in turn"])
def test_a_noisy_table_is_within_three_errors(order: str) -> None:
    chance = random.Random(5)
    rows = [
        (size, round(size * chance.lognormvariate(-1.4, 0.2)))
        for size in (chance.randint(5, 9_000) for _ in range(20_000))
    ]
    if order == "sorted":
        rows.sort()
    if order == "two kinds in turn":
        rows = [(size, tokens * 3) if place % 2 else (size, tokens) for place, (size, tokens) in enumerate(rows)]
    total = passed(rows, 256).total_tokens()
    truth = sum(tokens for _, tokens in rows)
    assert abs(total.amount - truth) < 3 * total.error
    assert total.error < 0.1 * truth


def test_every_row_counted_is_exact() -> None:
    total = passed([(10, 3), (20, 9)]).total_tokens()
    assert (total.amount, total.error) == (12.0, 0.0)


def test_nothing_has_nothing() -> None:
    assert extrapolated([], 0, 0).amount == 0.0


def test_a_table_of_known_size_is_drawn_from_at_once() -> None:
    sample = passed([(1, 1)] * 10_000, 256, stretch=100)
    assert len(sample.drawn) == 100
    assert sample.stretch == 100
