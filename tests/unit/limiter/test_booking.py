"""Slices on the clocks of a pool."""

from __future__ import annotations

import pytest

from batch_llm.limiter.base import Limits
from tests.unit.limiter.pool_lab import Bucket, Lab, Tenant, rows_of

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("per_day", "per_minute", "row"),
    [(200.0, 3.0, 1.0), (20_000.0, 6_000.0, 1.0), (50_000.0, 50_000.0, 900.0)],
    ids=["few rows", "many rows", "large rows"],
)
def test_a_day_that_refills_evenly_lets_out_the_day_and_not_one_row_more(
    per_day: float, per_minute: float, row: float
) -> None:
    """The provider's bucket holds one day and refills evenly; a row that finds it full is rejected."""
    day = Bucket(per_day / DAY_S, DAY_S)
    limits = Limits("p", tokens_per_minute=per_minute, tokens_per_day=per_day)
    lab = Lab(limits, [Tenant(user, rows_of(row, row)) for user in "ab"], judge=day)
    lab.run(per_day / per_minute * 60 * 1.1 + 30 * row / per_day * DAY_S)
    assert [each for each in lab.sent if not each.accepted] == []
    sent = sum(each.amounts[0] for each in lab.sent)
    assert sent >= 0.98 * (per_day + per_day / DAY_S * lab.now_s) - row


@pytest.mark.parametrize("per_minute", [1, 10, 600])
def test_the_first_row_of_a_pool_with_windows_waits_for_nothing(per_minute: float) -> None:
    lab = Lab(Limits("p", requests_per_minute=per_minute, window_s=60), [Tenant("a", rows_of(1.0))])
    assert lab.run(1)[0].at_s < 0.1


def test_a_row_that_no_window_could_take_holds_up_nobody_before_it() -> None:
    sizes = iter([10.0, 10.0, 60_000.0, *[10.0] * 10_000])
    limits = Limits("p", tokens_per_minute=60_000, window_s=1)
    lab = Lab(limits, [Tenant("a", lambda _: [next(sizes)], rows=20)])
    sent = lab.run(5)
    assert [each.amounts[0] for each in sent] == [10.0, 10.0, 60_000.0]


def test_a_row_larger_than_any_before_finds_a_window_with_room_for_it() -> None:
    """Room for the largest row is kept free; where it was less until now, the difference passes unused first."""
    sizes = iter([100.0] * 300 + [5_000.0] + [100.0] * 10_000)
    limits = Limits("p", tokens_per_minute=600_000, window_s=1)
    lab = Lab(limits, [Tenant("a", lambda _: [next(sizes)])])
    sent = lab.run(10)
    assert any(each.amounts[0] == 5_000 for each in sent)
    for start in sent:
        inside = sum(each.amounts[0] for each in sent if start.at_s <= each.at_s < start.at_s + 1)
        assert inside <= 10_000


@pytest.mark.parametrize("window_s", [0.001, 0.005, 0.007, 0.1, 1.0])
def test_however_short_a_window_is_rows_go_and_never_too_many(window_s: float) -> None:
    lab = Lab(Limits("p", requests_per_minute=60_000, window_s=window_s), [Tenant("a", rows_of(1.0))])
    assert 400 <= len(lab.run(1)) <= 1_001
