"""The judge of the benchmarks is strict: exactly at the limit passes, one row more does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.limiter.judge import (
    Event,
    back_in_use_after_s,
    earliest_sends,
    jain,
    kept_up,
    needed_depth,
    rejected_by_bucket,
    rejected_by_windows,
    use,
    weight_error,
    worst_window,
)

SCHEDULES = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=60).map(sorted)


def evenly(rate: float, duration_s: float, amount: float = 1.0) -> list[Event]:
    """``rate`` units per second in rows of ``amount``."""
    rows = round(rate * duration_s / amount)
    return [(1000 + number * amount / rate, amount) for number in range(rows)]


# -- the bucket


@pytest.mark.parametrize(("rate", "amount"), [(1000.0, 1.0), (500_000.0, 503.0), (0.05, 1.0)])
def test_a_schedule_exactly_at_the_limit_needs_a_bucket_of_one_row(rate: float, amount: float) -> None:
    events = evenly(rate, 1000 * amount / rate, amount)
    assert rejected_by_bucket(events, rate, amount) == 0
    assert needed_depth(events, rate) == pytest.approx(amount)
    assert rejected_by_bucket(events, rate, amount * 0.99) == len(events)


def test_one_row_more_is_rejected() -> None:
    events = sorted([*evenly(100, 10), (1005.0001, 1.0)])
    assert rejected_by_bucket(events, 100, 1.0) == 1
    assert rejected_by_bucket(events, 100, 2.0) == 0
    assert needed_depth(events, 100) == pytest.approx(2.0, abs=0.02)


def test_a_bucket_is_full_at_the_start_and_never_fuller() -> None:
    burst = [(0.0, 1.0)] * 12
    assert rejected_by_bucket(burst, 1.0, 10) == 2
    later = [(at_s + 1000, amount) for at_s, amount in burst]
    assert rejected_by_bucket([*burst, *later], 1.0, 10) == 4


def test_what_is_rejected_takes_nothing() -> None:
    assert rejected_by_bucket([(0.0, 8.0), (0.0, 3.0), (0.0, 2.0)], 1.0, 10) == 1


def test_a_faster_schedule_loses_the_difference() -> None:
    assert rejected_by_bucket(evenly(110, 100), 100, 10) == pytest.approx(1000 - 10, abs=2)


@given(SCHEDULES)
def test_the_needed_depth_is_the_smallest_that_rejects_nothing(events: list[Event]) -> None:
    depth = needed_depth(events, 7.0)
    assert rejected_by_bucket(events, 7.0, depth) == 0
    if events:
        assert rejected_by_bucket(events, 7.0, depth - 0.01) > 0


# -- windows


def test_a_window_is_half_open() -> None:
    """With 10 rows per second evenly no window of a second holds eleven."""
    assert worst_window(evenly(10, 100), 1.0) == 10
    assert rejected_by_windows(evenly(10, 100), 10, 1.0, 1000) == 0


def test_one_row_more_is_too_much_for_its_window_only() -> None:
    events = sorted([*evenly(10, 100), (1050.45, 1.0)])
    assert worst_window(events, 1.0) == 11
    assert rejected_by_windows(events, 10, 1.0, 1000) == 1
    assert rejected_by_windows(events, 11, 1.0, 1000) == 0


def test_a_fixed_window_does_not_see_what_crosses_its_edge() -> None:
    """Ten rows on either side of an edge: allowed by fixed windows, twice the limit for a sliding one."""
    events = [(0.99, 1.0)] * 10 + [(1.01, 1.0)] * 10
    assert rejected_by_windows(events, 10, 1.0) == 0
    assert rejected_by_windows(events, 10, 1.0, offset_s=0.5) == 10
    assert worst_window(events, 1.0) == 20


@given(SCHEDULES, st.floats(0.1, 5), st.floats(0, 5))
def test_no_fixed_window_holds_more_than_the_worst_sliding_one(
    events: list[Event], window_s: float, offset_s: float
) -> None:
    assert rejected_by_windows(events, worst_window(events, window_s), window_s, offset_s) == 0


@given(SCHEDULES, st.floats(0.1, 5))
def test_the_worst_window_is_one_of_those_that_end_with_a_row(events: list[Event], window_s: float) -> None:
    counted = [sum(a for at, a in events[: n + 1] if at > end - window_s + 1e-9) for n, (end, _) in enumerate(events)]
    assert worst_window(events, window_s) == pytest.approx(max(counted, default=0.0))


# -- use, shares


def test_use_counts_the_stretch_only() -> None:
    events = evenly(100, 10)
    assert use(events, 100, 1000, 1010) == pytest.approx(1)
    assert use(events, 200, 1002, 1004) == pytest.approx(0.5, abs=0.01)
    assert use(events, 100, 1005, 1015) == pytest.approx(0.5, abs=0.01)


def test_use_after_an_outage_is_back_when_it_stays() -> None:
    """Nothing for 2 s, full speed, nothing again from 14 to 14.5, full speed to the end."""
    before, outage_s = 1000.0, 2.0
    events = [event for event in evenly(100, 20) if event[0] >= before + outage_s]
    assert back_in_use_after_s(events, 100, (before, before + 20), 0.98) == pytest.approx(2.0, abs=0.11)
    gap = [event for event in events if not before + 14 <= event[0] < before + 14.5]
    assert back_in_use_after_s(gap, 100, (before, before + 20), 0.98) == pytest.approx(14.5, abs=0.11)
    assert math.isinf(back_in_use_after_s(events, 120, (before, before + 20), 0.98))


def test_jain_is_one_for_equals_and_one_nth_for_a_single_winner() -> None:
    assert jain([3.0, 3.0, 3.0, 3.0]) == pytest.approx(1)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([0.0, 0.0]) == 0
    assert jain([1.0, 1.1]) == pytest.approx(0.9977, abs=1e-4)


def test_weights_are_compared_with_the_part_of_the_whole() -> None:
    weights = {"a": 1.0, "b": 3.0}
    assert weight_error({"a": 25.0, "b": 75.0}, weights) == pytest.approx(0)
    assert weight_error({"a": 26.0, "b": 74.0}, weights) == pytest.approx(0.04)
    assert math.isinf(weight_error({"a": 0.0, "b": 0.0}, weights))


# -- days


def test_the_ideal_of_a_fixed_day_stops_at_its_limit_and_goes_on_at_the_reset() -> None:
    """3 per minute, 200 per day from 08:00 on, begun at midnight."""
    times = earliest_sends(450, 0.0, 0.05, (200, 8 * 3600.0))
    assert times[1] - times[0] == pytest.approx(20)
    assert times[199] == pytest.approx(199 * 20)
    assert times[200] == pytest.approx(8 * 3600)
    assert times[400] == pytest.approx(32 * 3600)
    assert rejected_by_windows([(at_s, 1.0) for at_s in times], 200, 86_400, 8 * 3600) == 0


def test_the_ideal_of_a_day_that_refills_uses_its_bucket_and_then_its_rate() -> None:
    times = earliest_sends(600, 0.0, 0.05, (200, None))
    events = [(at_s, 1.0) for at_s in times]
    assert rejected_by_bucket(events, 200 / 86_400, 200) == 0
    assert rejected_by_bucket(events, 0.05, 1.0) == 0
    assert times[-1] - times[-2] == pytest.approx(432)
    assert needed_depth(events, 200 / 86_400) == pytest.approx(200, abs=1)


def test_who_is_late_by_some_rows_has_not_kept_up() -> None:
    ideal = [float(n) for n in range(200)]
    assert kept_up(ideal, ideal, 100, 0.1) == 1
    assert kept_up([at_s + 2.5 for at_s in ideal], ideal, 100, 0.1) == pytest.approx(0.97, abs=0.001)
    assert kept_up([at_s + 2.5 for at_s in ideal], ideal, 100, 3.0) == 1
