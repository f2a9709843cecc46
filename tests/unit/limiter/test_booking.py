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
