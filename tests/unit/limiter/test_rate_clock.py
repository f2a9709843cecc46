"""The arithmetic of one rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.limiter.rate_clock import RateClock
from tests.contract.strict_bucket import Flow, highest_level, largest_window, overshoot


def clock(
    name: str = "tokens",
    per_minute: float = 60,
    *,
    burst_s: float = 0.0,
    slack_s: float = 0.0,
    window_s: float | None = None,
) -> RateClock:
    rate_clock = RateClock(name, per_minute, burst_s=burst_s, slack_s=slack_s, window_s=window_s)
    rate_clock.start(0.0)
    return rate_clock


def test_a_request_pays_for_itself_after_it_was_sent() -> None:
    one = clock()
    one.take(0, 10)
    assert one.ready_at_s == 10


def test_time_that_passed_unused_is_lost_beyond_the_burst() -> None:
    one = clock(burst_s=3)
    one.take(100, 1)
    assert one.ready_at_s == 98


def test_a_refund_larger_than_the_credit_is_cut() -> None:
    one = clock()
    charge = one.take(0, 10)
    assert one.correct(9.9, charge, 0, credit_s=0.25) == 0
    assert one.ready_at_s == 9.9 - 0.25


def test_a_refund_leaves_no_more_unused_time_than_the_request_had_taken() -> None:
    one = clock()
    charge = one.take(0, 2)
    one.correct(50, charge, 0, credit_s=float("inf"))
    assert one.ready_at_s <= 50 - 2 + 2  # no debt was left: nothing to win
    other = clock()
    charge = other.take(0, 2)
    other.take(2, 1)
    other.correct(3, charge, 0, credit_s=float("inf"))
    assert other.ready_at_s == 1


def test_the_rest_of_a_refund_is_dropped_when_nobody_took_it() -> None:
    one = clock(slack_s=0.005)
    charge = one.take(0, 10)
    one.correct(9, charge, 0, credit_s=float("inf"))
    assert one.ready_at_s == 0
    one.settle_credit(9)
    assert one.ready_at_s == 9 - 0.005


def test_who_waits_uses_a_refund_whole() -> None:
    """Or a pool that reserves the cap and gets most of it back would stand idle half the time."""
    one = clock()
    charge = one.take(0, 10)
    one.correct(9, charge, 1, credit_s=float("inf"))  # 9 s come back: ready since 1
    one.take(9, 10)
    assert one.ready_at_s == 11


def test_a_debt_is_never_paid_with_time_that_passed_unused() -> None:
    one = clock()
    charge = one.take(0, 1)
    assert one.correct(100, charge, 6, credit_s=0.25) == 5
    assert one.ready_at_s == 105


def test_an_absurd_usage_costs_a_minute_at_most() -> None:
    one = clock(per_minute=600)
    assert one.correct(0, one.take(0, 1), 1e12, credit_s=0) == pytest.approx(59.9)


def test_what_is_given_back_late_does_not_bring_two_others_together() -> None:
    one = clock()
    first = one.take(0, 10)
    one.take(10, 10)
    one.give_back(10.1, first)
    assert one.ready_at_s == 20


def test_what_is_given_back_does_not_pay_the_debt_of_another() -> None:
    one = clock()
    first = one.take(0, 10)
    one.correct(10, one.take(10, 10), 15, credit_s=0)
    one.give_back(10.1, first)
    assert one.ready_at_s == 25


def test_a_debt_keeps_its_units_when_the_rate_changes() -> None:
    one = clock()
    one.take(0, 10)
    one.set_factor(4, 0.5)
    assert one.ready_at_s == 4 + 6 / 0.5
    one.set_limit(4, 240)
    assert one.ready_at_s == 4 + 6 / 2


def test_time_that_passed_is_no_debt_when_the_rate_changes() -> None:
    one = clock()
    one.set_factor(7, 0.1)
    assert one.ready_at_s == 0


def test_what_is_saved_up_is_told_in_units() -> None:
    one = clock(per_minute=120, burst_s=10)
    assert one.saved(0) == 20
    one.take(0, 30)
    assert one.saved(0) == 0


@pytest.mark.parametrize(
    ("per_minute", "window_s", "rate"),
    [
        (60_000, 1, 990),  # 1 % stays free
        (90, 1, 0.99),  # half a request fits no window
        (60, 1, 0.99),
        (30, 1, 0.495),  # less than one a window: the window cannot be the limit
        (600, 10, 9.9),
    ],
)
def test_a_fixed_window_of_requests_keeps_one_percent_free(per_minute: float, window_s: float, rate: float) -> None:
    assert clock("requests", per_minute, window_s=window_s).rate == pytest.approx(rate)


def test_a_fixed_window_of_tokens_keeps_its_largest_row_free() -> None:
    one = clock("tokens", 60_000, window_s=1)
    one.take(0, 5)
    assert one.rate == pytest.approx(990)
    one.take(0, 200)
    assert one.rate == pytest.approx(800)
    one.take(0, 900)
    assert one.rate == pytest.approx(500)
    one.take(0, 5_000)  # no such window would ever take it: these windows do not count tokens
    assert one.rate == pytest.approx(990)


@pytest.mark.parametrize("window_s", [1.0, 10.0, 60.0])
@given(st.integers(80, 3_000), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_no_fixed_window_overflows_wherever_it_begins(window_s: float, per_s: int, sizes: list[int]) -> None:
    """Rows up to half a window, back to back; windows are a hair shorter than told: binary fractions."""
    limit = per_s * 60
    one = clock("tokens", limit, window_s=window_s)
    for size in sizes:
        one.take(0, size)
    one.start(0.0)
    flows = []
    for number in range(300):
        at_s = one.ready_at_s
        size = sizes[number % len(sizes)]
        one.take(at_s, size)
        flows.append(Flow(at_s, size))
    assert largest_window(flows, window_s - 1e-6) <= limit / 60 * window_s + 1e-6


def test_the_judge_itself() -> None:
    """One unit too early is seen."""
    even = [Flow(float(number), 1) for number in range(10)]
    assert overshoot(even, 1) == 0
    assert highest_level(even, 1) == 1
    assert overshoot([*even, Flow(4.5, 1)], 1) == pytest.approx(1)
    assert largest_window(even, 3) == 3
