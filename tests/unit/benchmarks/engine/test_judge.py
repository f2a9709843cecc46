"""The judge of the engine's benchmark: exact arithmetic, and nothing is forgiven."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine.judge import Rows, cost_per_row, median_ratio, paid_twice, unanswered, use_of_limit


def test_start_and_imports_drop_out_of_the_cost_per_row() -> None:
    assert cost_per_row((1_000, 3.0), (20_000, 22.0)) == pytest.approx(0.001)


@given(st.floats(0, 1e-2), st.floats(0, 60), st.integers(1, 1_000), st.integers(1_001, 100_000))
def test_the_cost_per_row_is_that_of_a_row_whatever_a_start_costs(
    per_row: float, start: float, few: int, many: int
) -> None:
    found = cost_per_row((few, start + per_row * few), (many, start + per_row * many))
    assert found == pytest.approx(per_row, abs=1e-9)


def test_two_runs_of_the_same_length_say_nothing() -> None:
    with pytest.raises(ValueError, match="more rows"):
        cost_per_row((10, 1.0), (10, 2.0))


def test_the_median_is_of_the_ratios_of_rounds_not_a_ratio_of_medians() -> None:
    """A round in which the machine was ten times slower for both sides changes nothing."""
    assert median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [1.0, 2.0])])
def test_every_round_needs_both_sides(above: list[float], below: list[float]) -> None:
    with pytest.raises(ValueError, match="one figure per side"):
        median_ratio(above, below)


def test_use_counts_the_burst_as_possible() -> None:
    assert use_of_limit(600 + 100, 10.0, 60.0, 100.0) == 1.0
    assert use_of_limit(600, 10.0, 60.0, 100.0) == pytest.approx(6 / 7)
    with pytest.raises(ValueError, match="nothing"):
        use_of_limit(0, 10.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("rows", "lost", "duplicated"),
    [
        (Rows(expected=10, stored=10, distinct=10, ok=9, failed=1), 0, 0),
        (Rows(expected=10, stored=9, distinct=9, ok=9, failed=0), 1, 0),
        (Rows(expected=10, stored=10, distinct=10, ok=8, failed=0), 2, 0),  # pending rows have no end yet
        (Rows(expected=10, stored=11, distinct=10, ok=11, failed=0), 0, 1),
        (Rows(expected=10, stored=10, distinct=9, ok=10, failed=0), 1, 1),  # one twice hides one that is lost
    ],
)
def test_rows_lost_and_duplicated(rows: Rows, lost: int, duplicated: int) -> None:
    assert (rows.lost, rows.duplicated) == (lost, duplicated)


def stats(**answered: int) -> dict[str, object]:
    return {"prompts": {name: {"attempts": count + 1, "answered": count} for name, count in answered.items()}}


def test_paid_twice_counts_every_answer_after_the_first() -> None:
    assert paid_twice([stats(a=1, b=0, c=3)]) == 2


def test_a_provider_that_was_started_again_is_the_same_provider() -> None:
    lives = [stats(a=1, b=0), stats(a=1, b=1, c=0)]
    assert (paid_twice(lives), unanswered(lives)) == (1, 1)
