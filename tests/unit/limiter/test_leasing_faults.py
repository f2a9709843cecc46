"""The limiter of one process when the store, the provider or a caller misbehaves."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.errors import LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter.base import Cost, Limits, Throttle
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.leasing import LeasingOptions, LeasingRateLimiter
from batch_llm.limiter.wire import Served
from tests.unit.limiter.scripted_schedule import Lab, denied, granted, run

ROW = Cost(10, 0)
TEN_PER_S = Limits("p", requests_per_minute=600)
DOWN = LimiterUnreachable("connection refused", refused=True)
HANGS = LimiterUnreachable("no answer within 1 s")


def ten_per_s(*script: dict[str, Any], **options: Any) -> Lab:
    return Lab(TEN_PER_S, [10.0], *script, **options)


class Outage(InProcessSchedule):
    """A real schedule that fails when told to."""

    error: Exception | None = None
    outages_told = 0

    async def call(self, request: list[Any]) -> list[Any]:
        if self.error is not None:
            raise self.error
        self.outages_told += bool(request[10])
        return await super().call(request)


class OutageLab(Lab):
    """A limiter on a schedule that can fail."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        super().__init__(limits, [1.0])
        self.outage = Outage(self.clock)
        self.limiter = LeasingRateLimiter(limits, self.outage, self.clock, LeasingOptions(**options))


# -- the store --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "most"), [(DOWN, 0.8), (HANGS, 0.0)])
def test_only_a_store_that_is_down_for_everybody_lets_rows_go_without_it(error: Exception, most: float) -> None:
    """At four fifths of the own share of the last seconds, evenly; not reached by us alone: others may use it all."""

    async def scenario(lab: Any) -> None:
        lab.feed(ROW)
        await lab.clock.advance(20)
        lab.outage.error = error
        await lab.clock.advance(20)
        state = lab.limiter.state()
        assert state.binding == "unreachable"
        assert str(error) in state.why

    lab = run(lambda: OutageLab(TEN_PER_S), scenario)
    assert sum(5 <= at_s < 15 for at_s in lab.times) == pytest.approx(100, abs=1)
    assert sum(25 <= at_s < 35 for at_s in lab.times) == pytest.approx(most * 100, abs=3)


def test_going_on_alone_ends_in_time_and_is_told_afterwards() -> None:
    async def scenario(lab: Any) -> None:
        lab.feed(ROW)
        await lab.clock.advance(10)
        lab.outage.error = DOWN
        await lab.clock.advance(20)
        lab.outage.error = None
        await lab.clock.advance(20)

    lab = run(lambda: OutageLab(TEN_PER_S, degraded_for_s=9), scenario)
    assert [at_s for at_s in lab.times if 19.1 < at_s < 30] == []
    assert sum(15 <= at_s < 18 for at_s in lab.times) == pytest.approx(24, abs=1)
    assert sum(40 <= at_s < 49 for at_s in lab.times) == pytest.approx(90, abs=1)
    assert lab.outage.outages_told == 1  # type: ignore[attr-defined]


def test_without_that_option_nothing_goes_without_the_store() -> None:
    async def scenario(lab: Any) -> None:
        lab.feed(ROW)
        await lab.clock.advance(10)
        lab.outage.error = DOWN
        await lab.clock.advance(10)

    assert max(run(lambda: OutageLab(TEN_PER_S, degraded_for_s=0), scenario).times) < 14  # what was booked


def test_settlements_that_could_not_be_sent_are_kept() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW, ROW)
        await lab.clock.advance(0.3)
        lab.schedule.error = HANGS
        lab.limiter.settle(lab.rows[0], ROW)
        lab.limiter.throttled(lab.rows[1], Throttle(2.0))
        await lab.clock.advance(3)
        lab.schedule.asked.clear()
        lab.schedule.error = None
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(2, served=Served.MET)), scenario)
    assert lab.schedule.reported("done") == [2]
    assert lab.schedule.asked[0].throttles == [[-1, 1, 2.0]]


def test_an_error_of_the_store_at_the_first_call_is_the_callers_and_later_it_is_waited_out() -> None:
    async def scenario(lab: Lab) -> None:
        lab.schedule.error = LimiterStoreError("OOM command not allowed")
        (task,) = lab.ask(ROW)
        await lab.clock.advance(0.1)
        with pytest.raises(LimiterStoreError, match="OOM"):
            await task
        lab.schedule.error = None
        lab.ask(ROW)
        await lab.clock.advance(1.1)
        lab.schedule.error = LimiterStoreError("OOM command not allowed")
        lab.ask(ROW)
        await lab.clock.advance(1.1)
        assert "OOM" in lab.limiter.state().why
        lab.schedule.error = None
        await lab.clock.advance(2)
        assert lab.limiter.state().why == ""

    lab = run(lambda: ten_per_s(granted(1), granted(1)), scenario)
    assert len(lab.times) == 2


def test_a_defect_in_the_schedule_reaches_who_waits() -> None:
    async def scenario(lab: Lab) -> None:
        lab.schedule.error = ZeroDivisionError("defect")
        (task,) = lab.ask(ROW)
        await lab.clock.advance(0.1)
        with pytest.raises(ZeroDivisionError):
            await task
        lab.schedule.error = None
        lab.ask(ROW)
        await lab.clock.advance(0.1)

    assert len(run(lambda: ten_per_s(granted(1)), scenario).times) == 1


def test_closing_never_raises_for_a_store_that_is_gone() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(0.1)
        lab.schedule.error = DOWN
        told_before.append(len(lab.schedule.asked))

    told_before: list[int] = []
    lab = run(lambda: ten_per_s(granted(5)), scenario)
    assert len(lab.times) == 1
    assert told_before < [len(lab.schedule.asked)], "it tried to tell the store what was left"


# -- 429 --------------------------------------------------------------------------------------------------------------


def test_a_429_is_told_at_once_and_what_has_begun_is_void() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 20)
        await lab.clock.advance(0.25)
        lab.schedule.reply = {"pause_s": 5.0}
        lab.limiter.throttled(lab.rows[0], Throttle(5.0, "requests"))
        await lab.clock.advance(0)
        assert lab.schedule.asked[-1].throttles == [[0, 1, 5.0]]
        assert lab.limiter.state().binding == "pause"
        assert "429" in lab.limiter.state().why
        lab.schedule.reply = {}
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(10), granted(10, after_s=1)), scenario)
    assert lab.schedule.reported("done") == lab.schedule.reported("used") == pytest.approx([8])
    assert lab.schedule.reported("unused") == [10]
    assert lab.times == [0, 0.1, 0.2]


def test_a_429_without_a_time_pauses_until_the_schedule_has_said_for_how_long() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW, ROW)
        await lab.clock.advance(0)
        lab.schedule.delay_s = 0.1
        lab.schedule.reply = {"pause_s": 3.0}
        lab.limiter.throttled(lab.rows[0], Throttle())
        assert lab.limiter.state().paused_for_s == 0.5
        await lab.clock.advance(0.1)
        assert lab.limiter.state().paused_for_s == pytest.approx(3.0)

    lab = run(lambda: ten_per_s(granted(1)), scenario)
    assert [call.throttles for call in lab.schedule.asked if call.throttles] == [[[-1, 1, -1.0]]]


@pytest.mark.parametrize("scope", ["requests", None])
def test_a_429_that_is_not_about_a_day_pauses_for_a_minute_at_most(scope: str | None) -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW, ROW)
        await lab.clock.advance(0)
        lab.limiter.throttled(lab.rows[0], Throttle(86_400.0, scope))
        assert lab.limiter.state().paused_for_s == 60
        await lab.clock.advance(0)
        assert [throttle[2] for throttle in lab.schedule.asked[-1].throttles] == [60]

    run(lambda: ten_per_s(granted(1)), scenario)


def test_429s_that_come_at_any_speed_pause_nobody() -> None:
    async def scenario(lab: Lab) -> None:
        lab.schedule.reply = {"stray": 1}
        lab.ask(*[ROW] * 5)
        await lab.clock.advance(0.05)
        lab.limiter.throttled(lab.rows[0], Throttle(5.0))
        await lab.clock.advance(1)

    assert run(lambda: ten_per_s(granted(5)), scenario).times == [0, 0.1, 0.2, 0.3, 0.4]


def test_every_call_tells_how_far_ahead_its_slices_were_booked() -> None:
    """Others may hold as much when the schedule is lost, even where nothing of it is left here."""

    async def scenario(lab: Lab) -> None:
        lab.feed(ROW)
        await lab.clock.advance(6)

    lab = run(lambda: ten_per_s(granted(5, after_s=1.5), granted(1)), scenario)
    assert lab.schedule.asked[0].depth_s == 0
    assert lab.schedule.asked[-1].at_s > lab.rows[-1].granted_at_s + 1
    assert lab.schedule.asked[-1].depth_s == pytest.approx(2.0)


def test_who_needs_nothing_but_the_end_of_a_pause_goes_when_somebody_ends_it() -> None:
    async def scenario(lab: Lab) -> None:
        lab.schedule.reply = {"pause_s": 100.0}
        lab.schedule.afterwards = denied(0.0, binding=-1, permits=2)
        lab.ask(ROW, ROW)
        await lab.clock.advance(5)
        assert lab.times == []
        lab.schedule.reply = {}
        await lab.clock.advance(1)

    assert len(run(lambda: Lab(Limits("p", max_concurrency=10), []), scenario).times) == 2


def test_a_pause_that_somebody_ends_is_over_within_a_second() -> None:
    async def scenario(lab: Lab) -> None:
        lab.schedule.reply = {"pause_s": 100.0}
        lab.ask(ROW)
        await lab.clock.advance(5)
        lab.schedule.reply = {}
        lab.schedule.afterwards = granted(1)
        await lab.clock.advance(2)

    (at_s,) = run(lambda: Lab(TEN_PER_S, [10.0], denied(100, binding=-1)), scenario).times
    assert 5 <= at_s <= 6


# -- permits ----------------------------------------------------------------------------------------------------------

FOUR = Limits("p", requests_per_minute=600, max_concurrency=4)


def four(*script: dict[str, Any], permits: int) -> Lab:
    lab = Lab(FOUR, [10.0], *script)
    lab.schedule.afterwards = denied(permits=permits)
    return lab


def test_a_row_needs_a_permit_and_an_ended_request_leaves_it_for_the_next() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 6)
        await lab.clock.advance(0.95)
        assert lab.times == [0, 0.1]
        calls = len(lab.schedule.asked)
        lab.limiter.settle(lab.rows[0], ROW)
        await lab.clock.advance(0)
        assert lab.times == [0, 0.1, 0.95]
        assert len(lab.schedule.asked) == calls  # without asking anybody
        assert lab.limiter.state().binding == "concurrency"

    lab = run(lambda: four(granted(20, permits=2), permits=2), scenario)
    assert lab.schedule.asked[0].items[0]["permits_wanted"] == 6


def test_fewer_permits_let_requests_finish_and_start_none() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 9)
        await lab.clock.advance(0.5)
        assert len(lab.rows) == 3
        lab.schedule.afterwards = denied(permits=1)
        await lab.clock.advance(1)
        for row in list(lab.rows[:2]):
            lab.limiter.settle(row, ROW)
        await lab.clock.advance(0.2)
        assert len(lab.rows) == 3
        lab.limiter.settle(lab.rows[2], ROW)
        lab.schedule.script = [granted(5, permits=1)]
        await lab.clock.advance(1)
        assert len(lab.rows) == 4

    run(lambda: four(granted(5, permits=3), permits=3), scenario)


def test_permits_that_nobody_needs_are_given_back_at_once() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW, ROW)
        await lab.clock.advance(0.2)
        for row in lab.rows:
            lab.limiter.settle(row, ROW)
        await lab.clock.advance(0.03)
        (item,) = lab.schedule.asked[-1].items
        assert (item["in_flight"], item["permits_wanted"]) == (0, 0)

    run(lambda: four(granted(2, permits=2, served=Served.MET), permits=0), scenario)


# -- headers ----------------------------------------------------------------------------------------------------------


def headers(limit: int, remaining: int) -> dict[str, str]:
    return {"x-ratelimit-limit-tokens": str(limit), "x-ratelimit-remaining-tokens": str(remaining)}


def test_headers_are_told_when_they_may_matter_and_not_more_than_once_a_second() -> None:
    async def scenario(lab: Lab) -> None:
        async def told(limit: int, remaining: int, after_s: float = 1.5) -> list[list[float]]:
            lab.schedule.asked.clear()
            lab.limiter.observe(headers(limit, remaining))
            await lab.clock.advance(after_s)
            return [seen for call in lab.schedule.asked for seen in call.observed]

        lab.ask(ROW)  # waits all the time
        assert await told(6_000, 5_000) == [[0, 100.0, 5_000]]  # half of it and more is left: a bucket of a minute
        assert await told(6_000, 2_000) == []  # nothing new
        assert await told(6_000, 100, 0.5) == []  # low: waits for the next sign of life ..
        assert await told(6_000, 90, 0.5) == [[0, 100.0, 100]]  # .. and the next one follows a second later
        assert await told(3_000, 2_000) == [[0, 50.0, 2_000]]
        assert await told(3_000, 2_000) == []
        lab.limiter.observe({"x-ratelimit-limit-tokens": "many"})

    run(lambda: Lab(Limits("p", tokens_per_minute=6_000), [100.0], headers="openai"), scenario)


def test_headers_of_an_unknown_kind_are_refused_at_the_start() -> None:
    with pytest.raises(LimiterError, match="no rate-limit headers are known for 'postbox'"):
        LeasingRateLimiter(TEN_PER_S, Outage(ManualClock()), ManualClock(), LeasingOptions(headers="postbox"))
