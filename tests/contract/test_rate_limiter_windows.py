"""How much a rate limiter lets out: never more than the limit in any window, and all of it while rows wait.

Over random interleavings, for every implementation of the RateLimiter protocol; its other promises are in
test_rate_limiter.py. The judge is tests/contract/strict_bucket.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_llm.limiter import booking, lease_line
from batch_llm.limiter.base import Cost, Limits
from batch_llm.limiter.leasing import LeasingOptions
from tests.contract.limiter_driver import IMPLEMENTATIONS, STEPS, Driver, Make, dimensions, play, run
from tests.contract.strict_bucket import overshoot
from tests.search import examples

MINUTE_S = 60.0
SLACK_S = LeasingOptions().slack_s  # so late a start may be and still count as on time


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


LIMITS = st.builds(
    Limits,
    st.just("p"),
    requests_per_minute=st.sampled_from([None, 30, 600, 60_000]),
    tokens_per_minute=st.sampled_from([None, 2_000, 60_000, 10_000_000]),
    input_tokens_per_minute=st.sampled_from([None, 3_000]),
    output_tokens_per_minute=st.sampled_from([None, 2_000]),
    max_concurrency=st.sampled_from([None, 3]),
    burst_s=st.sampled_from([0.0, 0.002, 5.0]),
    debit=st.sampled_from(["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"]),
)


@settings(deadline=None, max_examples=examples(150))
@given(LIMITS, STEPS)
def test_no_window_ever_holds_more_than_the_limit(limits: Limits, steps: list[Any]) -> None:
    """Sent in any window <= rate * (window + burst or slack) + one row; nobody overtakes; everybody leaves."""

    async def scenario(driver: Driver) -> None:
        await play(driver, steps)

    for make in IMPLEMENTATIONS.values():
        driver = run(make, limits, scenario)
        assert driver.order == sorted(driver.order)
        tolerance_s = max(limits.burst_s, SLACK_S) + 1e-6
        # with several limits the one that does not bind may lag behind, and a row smaller than the largest may go early
        several = len(dimensions(limits)) + (limits.requests_per_minute is not None) > 1
        lag_s = booking.PLAY_S + SLACK_S if several else 0.0
        if limits.requests_per_minute is not None:
            rate = limits.requests_per_minute / MINUTE_S
            assert overshoot(driver.requests(), rate) <= rate * (tolerance_s + lag_s)
        for dimension in dimensions(limits):
            flows = driver.tokens(dimension)
            rate = dimension.limit / MINUTE_S
            # a refund lets one waiting row go before the time it bought has come: one row more
            largest = max((flow.amount for flow in flows if flow.sent), default=0.0)
            credit = largest if dimension.corrected else 0.0
            early = min(largest, rate * lease_line.PLAY_S) if several else 0.0
            # a debt is told with the next call: what is booked already may still leave
            debts = sum(flow.amount for flow in flows if not flow.sent and flow.amount > 0)
            assert overshoot(flows, rate) <= rate * (tolerance_s + lag_s) + credit + early + debts + 1e-6


@settings(deadline=None, max_examples=examples(60))
@example(  # rows larger than a slice, carried on until the last slice had no time left for the last row
    Limits("p", requests_per_minute=600, input_tokens_per_minute=3000, debit="actual"),
    [("ask", [Cost(100, 0, None)] * 3), ("ask", [Cost(1, 0, None)])],
)
@given(LIMITS, STEPS)
def test_nobody_starves_and_nothing_is_lost(limits: Limits, steps: list[Any]) -> None:
    """Whatever happened before, every request that was not cancelled leaves once the others are answered."""

    async def scenario(driver: Driver) -> None:
        await play(driver, steps)
        for _ in range(len(driver.tasks) + 1):
            await driver.clock.advance(60)
            for number in driver.open():
                driver.settle(number, driver.tasks[number].result().cost)
        await driver.clock.advance(0)
        assert all(task.done() for task in driver.tasks)
        assert driver.limiter.state().waiting == 0

    for make in IMPLEMENTATIONS.values():
        run(make, limits, scenario)


@pytest.mark.parametrize("debit", ["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"])
@pytest.mark.parametrize("concurrency", [None, 200])
def test_while_a_row_waits_the_binding_limit_is_used(make: Make, debit: Any, concurrency: int | None) -> None:
    """At least 98.5 % of what the rule lets through, with mixed rows whose real length differs from the predicted."""
    limits = Limits("p", requests_per_minute=3_000, tokens_per_minute=60_000, debit=debit, max_concurrency=concurrency)
    latency_s, duration_s = 3.0, 400.0

    async def scenario(driver: Driver) -> None:
        pending: list[tuple[float, int]] = []
        seen = 0
        while driver.clock.monotonic() < 1_000 + duration_s:
            if driver.limiter.state().waiting < 20:
                n = len(driver.tasks)
                await driver.ask(*(Cost(20 + 7 * (i % 90), 100, 300) for i in range(n, n + 20)))
            await driver.clock.advance(0.05)
            started = driver.order[seen:]
            pending += [(driver.tasks[number].result().granted_at_s + latency_s, number) for number in started]
            seen = len(driver.order)
            while pending and pending[0][0] <= driver.clock.monotonic():
                _, number = pending.pop(0)
                cost = driver.tasks[number].result().cost
                driver.settle(number, Cost(cost.input_tokens, (number * 37) % 201))  # on average the predicted 100

    driver = run(make, limits, scenario)
    (dimension,) = dimensions(limits)
    in_its_stride = [flow.amount for flow in driver.tokens(dimension) if flow.at_s >= 1_000 + duration_s / 4]
    assert 0.985 <= sum(in_its_stride) / (dimension.limit / MINUTE_S * duration_s * 3 / 4) <= 1.01
