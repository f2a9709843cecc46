"""The limiter of one process and limits per day: what is borne, what parks a run, and what a 429 about a day means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from batch_llm.errors import QuotaExhausted
from batch_llm.limiter.base import Cost, Limits, Throttle
from batch_llm.limiter.wire import UNDECLARED_DAY
from tests.unit.limiter.scripted_schedule import TENANT, Lab, denied, granted, run

ROW = Cost(10, 0)
DAILY = Limits("openai:main", requests_per_minute=600, requests_per_day=1_000)


def test_a_wait_for_a_days_limit_longer_than_told_to_bear_raises_and_says_until_when() -> None:
    async def scenario(lab: Lab) -> None:
        first, second = lab.ask(ROW, ROW)
        await lab.clock.advance(0.1)
        assert second.done()  # nobody overtakes, so it waits at least as long
        with pytest.raises(QuotaExhausted, match=r"openai:main has used up its requests per day.*2026-01-01 02:00 UTC"):
            await first
        assert second.exception().until == datetime(2026, 1, 1, 2, tzinfo=UTC)  # type: ignore[union-attr]

    run(lambda: Lab(DAILY, [10.0, 0.01], denied(7_200, binding=1), park_after_s=60), scenario)


def test_a_bearable_wait_for_a_days_limit_is_borne_and_named() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(0.1)
        assert lab.limiter.state().binding == "requests_per_day"

    run(lambda: Lab(DAILY, [10.0, 0.01], denied(30, binding=1), park_after_s=60), scenario)


def test_a_429_about_the_day_parks_everybody() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 3)
        await lab.clock.advance(0)
        lab.schedule.reply = {"pause_s": 3_600.0, "pause_dimension": 1.0}
        lab.limiter.throttled(lab.rows[0], Throttle(3_600.0, "requests_per_day"))
        assert lab.limiter.state().paused_for_s == 3_600
        for task in lab.tasks[1:]:
            with pytest.raises(QuotaExhausted):
                await task
        with pytest.raises(QuotaExhausted):
            await lab.limiter.reserve(TENANT, ROW)

    run(lambda: Lab(DAILY, [10.0, 0.01], granted(1, 1), park_after_s=60), scenario)


@pytest.mark.parametrize(
    ("day_resets", "retry_after_s", "told_s"),
    [
        (None, 7_200.0, 7_200.0),
        ("America/Los_Angeles", 50.0, 50.0),
        ("America/Los_Angeles", None, 8 * 3_600.0),  # the clock begins at midnight in Greenwich
        (None, None, -1.0),
    ],
)
def test_a_429_about_a_day_that_the_pool_does_not_declare_is_no_reason_to_slow_down(
    day_resets: str | None, retry_after_s: float | None, told_s: float
) -> None:
    """It pauses as one about a declared day does; a rate that is not the reason stays as it is."""

    async def scenario(lab: Lab) -> None:
        lab.ask(ROW, ROW)
        await lab.clock.advance(0)
        lab.limiter.throttled(lab.rows[0], Throttle(retry_after_s, "tokens_per_day"))
        assert lab.limiter.state().binding == "limits_per_day"
        assert "its limits per day are used up" in lab.limiter.state().why
        await lab.clock.advance(1)

    limits = Limits("p", requests_per_minute=600, day_resets=day_resets)
    lab = run(lambda: Lab(limits, [10.0], granted(1)), scenario)
    (told,) = [call.throttles for call in lab.schedule.asked if call.throttles]
    assert told == [[UNDECLARED_DAY, 1, told_s]]


def test_a_429_about_a_day_that_the_pool_does_not_declare_parks_everybody() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 3)
        await lab.clock.advance(0)
        lab.schedule.reply = {"pause_s": 7_200.0, "pause_dimension": float(UNDECLARED_DAY)}
        lab.limiter.throttled(lab.rows[0], Throttle(7_200.0, "requests_per_day"))
        for task in lab.tasks[1:]:
            with pytest.raises(QuotaExhausted, match=r"declares none.*under `limits`") as caught:
                await task
            assert caught.value.until == datetime(2026, 1, 1, 2, tzinfo=UTC)

    run(lambda: Lab(Limits("p", requests_per_minute=600), [10.0], granted(1), park_after_s=60), scenario)


def test_nobody_books_the_rest_of_the_day_because_more_rows_will_follow() -> None:
    async def scenario(lab: Lab) -> None:
        lab.feed(ROW, listed=3)
        await lab.clock.advance(0.1)

    lab = run(lambda: Lab(Limits("p", requests_per_day=1_000), [0.01], granted(3)), scenario)
    assert [(item["rows"], item["more"]) for item in lab.schedule.rows_asked()][:2] == [(3, 0), (3, 0)]
