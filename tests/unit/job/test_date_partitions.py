"""Date partitions: they cover every day once, and are called by their first day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.job.date_partitions import Cadence, DatePartition, DatePartitions, day_of

START = date(2026, 1, 1)  # a Thursday


@pytest.mark.parametrize(
    ("cadence", "day", "first", "end"),
    [
        ("daily", "2026-01-01", "2026-01-01", "2026-01-02"),
        ("daily", "2028-02-29", "2028-02-29", "2028-03-01"),
        ("weekly", "2026-01-07", "2026-01-01", "2026-01-08"),
        ("weekly", "2026-01-08", "2026-01-08", "2026-01-15"),
        ("monthly", "2026-02-11", "2026-02-01", "2026-03-01"),
        ("monthly", "2026-12-31", "2026-12-01", "2027-01-01"),
    ],
)
def test_a_day_lies_in_its_partition(cadence: Cadence, day: str, first: str, end: str) -> None:
    found = DatePartitions(cadence, START).holding(date.fromisoformat(day))
    assert found == DatePartition(date.fromisoformat(first), date.fromisoformat(end))
    assert found.key == first
    assert DatePartitions(cadence, START).called(first) == found


@given(st.sampled_from(get_args(Cadence)), st.dates(START, date(2100, 1, 1)))
def test_partitions_follow_each_other_without_gap_or_overlap(cadence: Cadence, day: date) -> None:
    partitions = DatePartitions(cadence, START)
    found = partitions.holding(day)
    assert found is not None
    assert found.start <= day < found.end
    following = partitions.holding(found.end)
    assert following is not None
    assert following.start == found.end


@pytest.mark.parametrize("key", ["2025-12-31", "2026-01-02x", "20260105", "2026-1-5", "", "2026-02-30", "9999-12-31"])
def test_what_names_no_day_from_the_start_on_is_no_partition(key: str) -> None:
    assert DatePartitions("daily", START).called(key) is None


def test_a_day_inside_a_week_does_not_name_it() -> None:
    assert DatePartitions("weekly", START).called("2026-01-09") is None
    assert DatePartitions("monthly", START).called("2026-01-09") is None


def test_a_partition_is_over_at_midnight_utc() -> None:
    first = DatePartition(START, START + timedelta(days=1))
    midnight = datetime(2026, 1, 2, tzinfo=UTC)
    assert first.is_over(midnight)
    assert not first.is_over(midnight - timedelta(microseconds=1))


def test_the_latest_that_is_over() -> None:
    now = datetime(2026, 1, 15, 0, 30, tzinfo=UTC)
    found = {cadence: DatePartitions(cadence, START).latest_over(now) for cadence in get_args(Cadence)}
    assert {cadence: one and one.key for cadence, one in found.items()} == {
        "daily": "2026-01-14",
        "weekly": "2026-01-08",
        "monthly": None,
    }
    assert DatePartitions("daily", START).latest_over(datetime(2025, 5, 1, tzinfo=UTC)) is None


def test_a_day_is_written_in_one_way() -> None:
    assert day_of("2026-01-03") == date(2026, 1, 3)
    assert [day_of(text) for text in ("2026-W01-1", "20260103", "2026-01-03T00:00")] == [None] * 3
