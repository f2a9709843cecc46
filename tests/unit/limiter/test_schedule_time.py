"""The offset between the schedule's clock and ours."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.limiter.schedule_time import LEAST_EARLY_S, REMEMBERED_S, ScheduleTime


def test_the_least_late_reply_shows_the_offset() -> None:
    time = ScheduleTime()
    late = random.Random(1)
    for number in range(200):
        now_s = number * 0.05
        time.sample(now_s + 0.0003 + late.expovariate(200), now_s + 1e9)
    assert time.offset_s == pytest.approx(-1e9 + 0.0003, abs=2e-4)
    assert time.ours(1e9 + 10.5, 10.04, 1e9 + 10) == pytest.approx(10.5003, abs=2e-4)


def test_a_clock_that_was_set_back_is_followed_at_once() -> None:
    time = ScheduleTime()
    time.sample(1.0, 101.0)
    time.sample(2.0, 42.0)
    assert time.offset_s == -40


def test_a_clock_that_was_set_forward_starts_nothing_before_what_its_reply_says() -> None:
    time = ScheduleTime()
    time.sample(1.0, 101.0)
    time.sample(2.0, 162.0)
    assert time.ours(163.0, 2.0, 162.0) == 3.0
    time.sample(3.0, 103.0)  # and back again
    assert time.ours(104.0, 3.0, 103.0) == 4.0


def test_an_old_sample_counts_no_more_when_the_clocks_drift_apart() -> None:
    time = ScheduleTime()
    for second in range(200):
        time.sample(second * 1.0001, second)  # ours runs fast
    assert 199 * 0.0001 - 2.1 * REMEMBERED_S * 0.0001 <= time.offset_s <= 199 * 0.0001


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 0.3), st.floats(-100, 100)), min_size=1, max_size=40))
def test_nothing_begins_earlier_than_50_ms_before_its_time_whatever_the_clocks_do(
    replies: list[tuple[float, float, float]],
) -> None:
    time, now_s = ScheduleTime(), 0.0
    for pause_s, late_s, skew_s in replies:
        now_s += pause_s
        told_s, received_s = now_s + skew_s, now_s + late_s
        time.sample(received_s, told_s)
        assert time.ours(told_s + 5, received_s, told_s) >= received_s + 5 - LEAST_EARLY_S - 1e-9
        now_s = received_s
