"""One suite for every implementation of the RateLimiter protocol.

The promises of the protocol in virtual time: order, cancelling, refusing, pausing. How much any window may hold is in
test_rate_limiter_windows.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.errors import LimiterError, NeverFits
from batch_llm.limiter.base import Cost, Limits, Reservation, Tenant, Throttle
from tests.contract.limiter_driver import IMPLEMENTATIONS, TENANT, Driver, Make, row, run
from tests.search import examples

ROUND_S = 1.0  # a long row behind a short one may be booked so much later than its moment


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


# -- order, waiting, cancelling ---------------------------------------------------------------------------------------


def test_requests_leave_evenly_spaced_and_the_first_at_once(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row()] * 4)
        await driver.clock.advance(10)

    assert run(make, Limits("p", requests_per_minute=60), scenario).times() == [0, 1, 2, 3]


def test_first_come_first_served_whatever_the_size(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(500), row(900), row(1), row(700), row(1))
        await driver.clock.advance(600)

    driver = run(make, Limits("p", tokens_per_minute=1000), scenario)
    assert driver.order == [0, 1, 2, 3, 4]
    ideal = [0, 30, 84, 84.06, 126.06]  # a row pays for itself after it was sent
    assert all(0 <= late <= ROUND_S for late in map(float.__sub__, driver.times(), map(float, ideal)))


def test_a_stall_is_not_caught_up(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row())
        await driver.clock.advance(30)
        await driver.ask(*[row()] * 3)
        await driver.clock.advance(30)

    assert run(make, Limits("p", requests_per_minute=60), scenario).times()[1:] == pytest.approx([30, 31, 32], abs=0.01)


def test_a_declared_burst_is_used_at_the_start_and_after_a_pause(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row()] * 6)
        await driver.clock.advance(60)
        await driver.ask(*[row()] * 6)
        await driver.clock.advance(60)

    times = run(make, Limits("p", requests_per_minute=60, burst_s=3), scenario).times()
    assert times == [0, 0, 0, 0, 1, 2, 60, 60, 60, 60, 61, 62]


def test_a_cancelled_wait_costs_nobody(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row()] * 4)
        await driver.cancel(1)
        await driver.cancel(2)
        assert driver.limiter.state().waiting == 1
        await driver.clock.advance(10)

    assert run(make, Limits("p", requests_per_minute=60), scenario).times() == [0, 1]


def test_a_request_that_was_cancelled_while_it_was_let_out_gives_its_turn_back(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(), row())
        driver.limiter.release(driver.tasks[0].result())  # lets the second one out at once ...
        driver.ended.add(0)
        driver.tasks[1].cancel()  # ... which is cancelled before it could know
        await driver.clock.advance(0)
        await driver.ask(row())
        assert driver.limiter.state().waiting == 0

    assert run(make, Limits("p", requests_per_minute=1, max_concurrency=1), scenario).granted() == [0, 2]


def test_cancelling_everything_leaves_an_empty_queue(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row()] * 50)
        for task in driver.tasks:
            task.cancel()
        await driver.clock.advance(0)
        state = driver.limiter.state()
        assert (state.waiting, state.binding) == (0, None)
        await driver.ask(row())
        await driver.clock.advance(1)
        assert driver.granted()[-1] == 50

    run(make, Limits("p", requests_per_minute=60), scenario)


def test_no_limit_means_no_waiting(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row(10**9)] * 20)
        assert len(driver.granted()) == 20

    run(make, Limits("p"), scenario)


def test_max_concurrency_lets_the_next_one_in_when_one_ends(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row()] * 5)
        await driver.clock.advance(100)
        assert driver.granted() == [0, 1]
        assert driver.limiter.state().binding == "concurrency"
        driver.settle(0, row())
        await driver.clock.advance(0)
        assert driver.granted() == [0, 1, 2]
        driver.release(1)
        driver.throttled(2, Throttle(retry_after_s=0))
        await driver.clock.advance(1)
        assert driver.granted() == [0, 1, 2, 3, 4]

    run(make, Limits("p", max_concurrency=2), scenario)


@pytest.mark.parametrize(
    ("limits", "binding"),
    [
        (Limits("p", requests_per_minute=1, tokens_per_minute=1e6), "requests"),
        (Limits("p", requests_per_minute=1e6, tokens_per_minute=60), "tokens"),
        (Limits("p", input_tokens_per_minute=60, output_tokens_per_minute=1e6), "input_tokens"),
        (Limits("p", input_tokens_per_minute=1e6, output_tokens_per_minute=60), "output_tokens"),
    ],
)
def test_the_state_names_what_makes_requests_wait(make: Make, limits: Limits, binding: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(10, output=10), row(10, output=10))
        assert driver.limiter.state().binding == binding
        assert driver.limiter.state().waiting == 1
        assert driver.limiter.state().requests_per_minute == limits.requests_per_minute

    run(make, limits, scenario)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_cost_above_one_minute_of_the_limit_is_refused_at_once_with_the_figures(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(600))
        with pytest.raises(NeverFits, match=r"1,001 tokens.*openai:main allows 1,000 per minute"):
            await driver.limiter.reserve(TENANT, Cost(900, 101))
        await driver.ask(row(400))
        await driver.clock.advance(36)
        assert len(driver.granted()) == 2  # what was refused cost nothing

    run(make, Limits("openai:main", tokens_per_minute=1000), scenario)


@pytest.mark.parametrize(
    ("tenant", "told"),
    [
        (Tenant("ann\x1fbob", "tone"), r"the name of a user must not contain the character '\\x1f': 'ann\\x1fbob'"),
        (Tenant("ann", "\x1f"), "the name of a job must not contain"),
    ],
)
def test_a_name_that_would_be_taken_for_two_is_refused_before_anything_is_asked(
    make: Make, tenant: Tenant, told: str
) -> None:
    async def scenario(driver: Driver) -> None:
        with pytest.raises(LimiterError, match=told):
            await driver.limiter.reserve(tenant, row())
        with pytest.raises(LimiterError, match=told):
            await driver.limiter.reserve_next(tenant, [row()], more=True)
        assert driver.limiter.state().waiting == 0
        await driver.ask(row())
        assert len(driver.granted()) == 1  # at once: nothing was booked

    run(make, Limits("p", requests_per_minute=1), scenario)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_no_positive_number_is_refused(make: Make, limit: float) -> None:
    with pytest.raises(LimiterError, match="pool p: a limit must be a number above 0"):
        make(Limits("p", requests_per_minute=limit), ManualClock())


def test_ending_a_reservation_twice_is_refused_and_mints_nothing(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(1000), row(1000))
        reservation = driver.tasks[0].result()
        driver.limiter.settle(reservation, row(1000))
        for end in (
            lambda: driver.limiter.settle(reservation, row(0)),
            lambda: driver.limiter.release(reservation),
            lambda: driver.limiter.throttled(reservation, Throttle()),
            lambda: driver.limiter.settle(Reservation(TENANT, row(9), 0.0), row(0)),
        ):
            with pytest.raises(LimiterError, match="settled or released before"):
                end()
        await driver.clock.advance(59)
        assert len(driver.granted()) == 1

    run(make, Limits("p", tokens_per_minute=1000), scenario)


# -- settling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("debit", "second_at"),
    [
        ("actual", [0, 6]),  # reserved 100 + 100, used 100: 6 s of 1000 tokens per minute
        ("input_plus_max_tokens", [0, 30]),  # reserved and kept 100 + 400
        ("input_plus_max_tokens_then_corrected", [0, 6]),
    ],
)
def test_the_debit_rule_decides_what_is_reserved_and_what_is_corrected(
    make: Make, debit: Any, second_at: list[float]
) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row(100, output=100, cap=400)] * 2)
        await driver.clock.advance(1)
        driver.settle(0, Cost(60, 40))
        await driver.clock.advance(60)

    assert run(make, Limits("p", tokens_per_minute=1000, debit=debit), scenario).times() == second_at


def test_what_was_used_beyond_the_prediction_is_charged(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(100), row(100))
        driver.settle(0, Cost(100, 400))
        await driver.clock.advance(60)

    assert run(make, Limits("p", tokens_per_minute=1000), scenario).times() == [0, 30]


def test_an_absurd_usage_does_not_stop_the_pool_for_hours(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(100), row(100))
        driver.settle(0, Cost(10**12, 10**12))
        await driver.clock.advance(60)

    assert run(make, Limits("p", tokens_per_minute=1000), scenario).times() == [0, 60]


def test_a_refund_without_anybody_waiting_is_not_saved_up(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(1000))
        await driver.clock.advance(59)
        driver.settle(0, row(0))
        await driver.ask(*[row(100)] * 3)
        await driver.clock.advance(60)

    assert run(make, Limits("p", tokens_per_minute=1000), scenario).times() == pytest.approx([0, 59, 65, 71], abs=0.02)


def test_a_release_gives_the_turn_back_but_not_the_time_that_passed(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(), row(), row())
        driver.release(0)  # never sent: the second may go at once
        await driver.clock.advance(1.5)
        assert driver.times() == [0, 0, 1]
        await driver.ask(row(), row())
        driver.release(1)  # the third left after it and keeps its distance
        await driver.clock.advance(2)

    assert run(make, Limits("p", requests_per_minute=60), scenario).times() == [0, 0, 1, 2, 3]


# -- 429 --------------------------------------------------------------------------------------------------------------


def test_a_429_pauses_everybody_for_as_long_as_the_provider_says(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(*[row()] * 3)
        driver.throttled(0, Throttle(retry_after_s=20))
        assert driver.limiter.state().paused_for_s == 20
        assert driver.limiter.state().binding == "pause"
        await driver.clock.advance(60)
        assert driver.limiter.state().paused_for_s == 0

    assert run(make, Limits("p", requests_per_minute=60), scenario).times()[:2] == [0, 20]


def test_a_rejected_request_stays_counted_and_its_tokens_do_not(make: Make) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(row(900), row(900), row(900))
        driver.throttled(0, Throttle(retry_after_s=0))
        await driver.clock.advance(180)

    by_requests = run(make, Limits("p", requests_per_minute=1), scenario).times()
    assert by_requests[:2] == [0, 60]
    assert by_requests[2] == 120  # what was booked before stays booked
    assert run(make, Limits("p", tokens_per_minute=1000), scenario).times()[:2] == [0, 0]


@settings(deadline=None, max_examples=examples(30))
@given(st.lists(st.floats(0, 120), min_size=2, max_size=2), st.lists(st.floats(0.1, 1), min_size=2, max_size=2))
def test_a_longer_retry_after_or_a_lower_limit_never_lets_a_row_go_earlier(
    pauses: list[float], shares: list[float]
) -> None:
    def second_start(make: Make, pause_s: float, share: float) -> float:
        async def scenario(driver: Driver) -> None:
            await driver.ask(row(), row())
            driver.throttled(0, Throttle(retry_after_s=pause_s))
            await driver.clock.advance(600)

        return run(make, Limits("p", requests_per_minute=60 * share), scenario).times()[1]

    for make in IMPLEMENTATIONS.values():
        assert second_start(make, max(pauses), min(shares)) >= second_start(make, min(pauses), max(shares))
