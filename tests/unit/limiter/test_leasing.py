"""The limiter of one process on a scripted schedule: pacing, booking ahead, handing back, settling."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.errors import LimiterError, NeverFits
from batch_llm.limiter.base import Cost, Limits, Tenant
from batch_llm.limiter.leasing import LeasingOptions, LeasingRateLimiter
from batch_llm.limiter.wire import Served
from tests.unit.limiter.scripted_schedule import TENANT, Lab, ScriptedSchedule, denied, granted, run

ROW = Cost(10, 0)
TEN_PER_S = Limits("p", requests_per_minute=600)


def ten_per_s(*script: dict[str, Any], **options: Any) -> Lab:
    return Lab(TEN_PER_S, [10.0], *script, **options)


# -- slices -----------------------------------------------------------------------------------------------------------


def test_rows_leave_evenly_inside_a_slice_and_never_before_it_begins() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 5)
        await lab.clock.advance(2)

    assert run(lambda: ten_per_s(granted(3, after_s=0.5)), scenario).times == [0.5, 0.6, 0.7]


def test_a_slice_begins_at_its_moment_however_late_the_reply_came() -> None:
    """The least late reply of the last seconds shows the offset of the two clocks."""

    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(0.1)
        lab.schedule.delay_s = 0.02
        lab.schedule.script = [granted(1, after_s=0.3)]
        lab.ask(ROW)
        await lab.clock.advance(1)

    assert run(lambda: ten_per_s(granted(1)), scenario).times == [0, 0.4]


def test_a_schedule_whose_clock_steps_forward_starts_nothing_more_than_50_ms_early() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(0.1)
        lab.schedule.skew_s += 60
        lab.ask(ROW)
        await lab.clock.advance(0.5)
        lab.schedule.skew_s -= 60
        lab.ask(ROW)
        await lab.clock.advance(0.9)

    lab = run(lambda: ten_per_s(granted(1), granted(1, after_s=0.2), granted(1, after_s=0.2)), scenario)
    assert lab.times == [0, 0.3, 0.8]


def test_the_next_slice_is_booked_when_the_last_one_begins() -> None:
    async def scenario(lab: Lab) -> None:
        lab.feed(ROW)
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(4), granted(4, after_s=0.4), granted(4, after_s=0.4)), scenario)
    assert lab.times == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert [round(call.at_s - 1_000, 3) for call in lab.schedule.asked][:3] == [0, 0, 0.4]


def test_a_refused_question_is_asked_again_when_told_and_once_a_second_at_least() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(3)

    lab = run(lambda: ten_per_s(denied(0.3), denied(30)), scenario)
    times = [round(call.at_s - 1_000, 3) for call in lab.schedule.asked if any(item["rows"] for item in call.items)]
    assert times == [0, 0.3, 1.2, 2.1, 3.0]


def test_a_sign_of_life_is_given_while_a_slice_for_later_is_held() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(2)

    lab = run(lambda: ten_per_s(granted(1, after_s=50, served=Served.MET)), scenario)
    assert [round(call.at_s - 1_000, 3) for call in lab.schedule.asked][:3] == [0, 0.9, 1.8]


def test_tenants_that_are_due_together_share_a_call() -> None:
    async def scenario(lab: Lab) -> None:
        for user in "abc":
            lab.ask(ROW, tenant=Tenant(user, "tone"))
        await lab.clock.advance(0.1)

    lab = run(lambda: ten_per_s(granted(1), granted(1), granted(1)), scenario)
    assert [item["user"] for item in lab.schedule.asked[0].items] == ["a", "b", "c"]
    assert lab.times == [0, 0, 0]


def test_a_rest_smaller_than_a_row_is_used_in_the_next_slice() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[Cost(100, 0)] * 5)
        await lab.clock.advance(5)

    limits = Limits("p", tokens_per_minute=6_000)
    lab = run(lambda: Lab(limits, [100.0], granted(250), granted(250, after_s=3)), scenario)
    assert lab.times == [0, 1, 3, 4, 5]


def test_a_row_stands_across_two_slices_that_meet() -> None:
    """No time is lost at the seam: the third row takes half of its tokens from each slice."""

    async def scenario(lab: Lab) -> None:
        lab.ask(*[Cost(100, 0)] * 5)
        await lab.clock.advance(6)

    limits = Limits("p", tokens_per_minute=6_000)
    lab = run(lambda: Lab(limits, [100.0], granted(250), granted(250, after_s=2.5)), scenario)
    assert lab.times == [0, 1, 2, 3, 4]


def test_two_slices_run_at_once_when_a_refund_brought_the_schedule_back() -> None:
    async def scenario(lab: Lab) -> None:
        lab.feed(ROW)
        await lab.clock.advance(0.36)

    lab = run(lambda: ten_per_s(granted(4), granted(4, after_s=0.05)), scenario)
    assert lab.times == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35]


# -- lateness ---------------------------------------------------------------------------------------------------------


def test_what_a_stalled_process_could_not_send_in_time_is_void() -> None:
    """Not sent later, not handed back: reported as used."""

    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 10)
        await lab.clock.advance(0.15)
        lab.clock._now += 2.0  # the process stands still
        await lab.clock.advance(0.05)

    lab = run(lambda: ten_per_s(granted(10)), scenario)
    assert lab.times == [0, 0.1]
    assert lab.schedule.reported("done") == lab.schedule.reported("used") == pytest.approx([8])
    assert lab.schedule.reported("unused") == [0]


def test_a_stall_inside_a_slice_is_not_caught_up() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 10)
        await lab.clock.advance(0)
        lab.clock._now += 0.55
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(10)), scenario)
    assert lab.times == [0, 0.55, 0.645, 0.745, 0.845, 0.945]  # 5 ms count as on time


def test_a_burst_that_the_provider_keeps_absorbs_a_stall() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[ROW] * 10)
        await lab.clock.advance(0)
        lab.clock._now += 0.55
        await lab.clock.advance(1)

    limits = Limits("p", requests_per_minute=600, burst_s=1)
    lab = run(lambda: Lab(limits, [10.0], granted(10)), scenario)
    assert lab.times == [0, *[0.55] * 5, 0.6, 0.7, 0.8, 0.9]


# -- handing back -----------------------------------------------------------------------------------------------------


def test_what_nobody_wants_is_handed_back_as_far_as_its_time_has_not_come() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(10, served=Served.MET)), scenario)
    report = next(call for call in lab.schedule.asked[1:] if call.items)
    assert round(report.at_s - 1_000, 3) == 0.05
    assert lab.schedule.reported("unused") == pytest.approx([9])


def test_closing_hands_back_slices_and_settlements_in_a_last_call() -> None:
    async def scenario(lab: Lab) -> None:
        await lab.limiter.open()
        lab.ask(ROW, ROW)
        await lab.clock.advance(0.01)
        lab.limiter.settle(lab.rows[0], ROW)

    lab = run(lambda: ten_per_s(granted(10, after_s=0), granted(5, after_s=1)), scenario)
    assert lab.schedule.reported("done") == pytest.approx([1])
    assert lab.schedule.reported("unused") == pytest.approx([9])


def test_who_waits_when_the_limiter_is_closed_is_told() -> None:
    async def scenario(lab: Lab) -> None:
        (task,) = lab.ask(ROW)
        await lab.clock.advance(0.1)
        await lab.limiter.aclose()
        with pytest.raises(LimiterError, match="pool p was closed"):
            await task
        with pytest.raises(LimiterError, match="is closed"):
            await lab.limiter.reserve(TENANT, ROW)

    run(lambda: ten_per_s(denied()), scenario)


def test_slices_that_have_not_begun_are_handed_back_when_somebody_changes_the_pool() -> None:
    async def scenario(lab: Lab) -> None:
        lab.feed(ROW)
        await lab.clock.advance(0.85)
        lab.schedule.reply = {"version": 2, "rates": [5.0]}
        lab.schedule.script = [granted(2, after_s=0.1)]
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(2), granted(5, after_s=3)), scenario)
    assert lab.schedule.reported("unused") == [5]
    assert lab.times == [0, 0.1, 1.0, 1.2]  # at the new rate


def test_a_lost_schedule_takes_its_slices_and_settlements_along() -> None:
    async def scenario(lab: Lab) -> None:
        lab.feed(ROW)
        await lab.clock.advance(0.5)
        lab.schedule.epoch = 8
        await lab.clock.advance(0.5)
        lab.limiter.settle(lab.rows[0], ROW)  # was booked in the old one
        await lab.clock.advance(1)

    lab = run(lambda: ten_per_s(granted(2), granted(5, after_s=3)), scenario)
    assert lab.schedule.asked[-1].epoch == 8
    assert [lab.schedule.reported(name) for name in ("done", "used", "unused")] == [[0], [0], [0]]


def test_no_rows_are_refused() -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(LimiterError, match="at least one row"):
            await lab.limiter.reserve_next(TENANT, [])

    run(ten_per_s, scenario)


# -- ending -----------------------------------------------------------------------------------------------------------


def test_settlements_are_reported_by_the_debit_rule() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(Cost(100, 50, 400))
        await lab.clock.advance(0.01)
        lab.limiter.settle(lab.rows[0], Cost(100, 20))
        await lab.clock.advance(1)

    def reported(debit: Any) -> list[list[float]]:
        limits = Limits("p", requests_per_minute=600, tokens_per_minute=6_000, debit=debit)
        lab = run(lambda: Lab(limits, [10.0, 100.0], granted(1, 500, served=Served.MET)), scenario)
        return [lab.schedule.reported("done"), lab.schedule.reported("used")]

    # what the slice held beyond the row is handed back or void: it stands on both sides
    assert [[round(x) for x in each] for each in reported("input_plus_max_tokens")] == [[1, 500], [1, 500]]
    assert [[round(x) for x in each] for each in reported("input_plus_max_tokens_then_corrected")] == [
        [1, 500],
        [1, 120],
    ]


def test_a_large_refund_is_told_at_once_so_that_others_can_use_it() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(Cost(100, 900), Cost(100, 900))
        await lab.clock.advance(0.5)
        before = len(lab.schedule.asked)
        lab.limiter.settle(lab.rows[0], Cost(100, 0))
        await lab.clock.advance(0.03)
        assert len(lab.schedule.asked) == before + 1
        (item,) = lab.schedule.asked[-1].items
        assert (item["rows"], item["done"], item["used"]) == (1, [1000], [100])

    run(lambda: Lab(Limits("p", tokens_per_minute=6_000), [100.0], granted(1000)), scenario)


def test_never_fits_names_the_figures_and_says_per_day() -> None:
    async def scenario(lab: Lab) -> None:
        with pytest.raises(NeverFits, match=r"700 tokens, but pool p allows 600 per day"):
            await lab.limiter.reserve(TENANT, Cost(700, 0))

    run(lambda: Lab(Limits("p", tokens_per_day=600), [600 / 86_400]), scenario)


def test_an_unknown_limit_refuses_no_row_until_it_is_learned() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(Cost(900, 0))
        await lab.clock.advance(0.1)
        lab.schedule.reply = {"limits": [5.0]}
        lab.ask(Cost(10, 0))
        await lab.clock.advance(1)
        with pytest.raises(NeverFits, match="900 tokens, but pool p allows 300 per minute"):
            await lab.limiter.reserve(TENANT, Cost(900, 0))

    lab = run(lambda: Lab(Limits("p", tokens_per_minute=600, unknown=True), [10.0], granted(900)), scenario)
    assert len(lab.times) == 1


def test_the_state_tells_the_rates_in_force_of_every_kind_of_token() -> None:
    """What the schedule answered last, not what was declared."""

    async def scenario(lab: Lab) -> None:
        assert lab.limiter.state().input_tokens_per_minute == 60_000
        lab.schedule.rates = [100.0, 10.0]
        lab.ask(ROW)
        await lab.clock.advance(0.1)
        state = lab.limiter.state()
        assert (state.input_tokens_per_minute, state.output_tokens_per_minute) == (6_000, 600)
        assert state.requests_per_minute is None and state.tokens_per_minute is None

    limits = Limits("p", input_tokens_per_minute=60_000, output_tokens_per_minute=600)
    run(lambda: Lab(limits, [1_000.0, 10.0]), scenario)


def test_a_reservation_of_another_limiter_is_refused() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW)
        await lab.clock.advance(0.1)
        other = LeasingRateLimiter(TEN_PER_S, ScriptedSchedule(lab.clock, [10.0]), lab.clock, LeasingOptions())
        with pytest.raises(LimiterError, match="another limiter"):
            other.settle(lab.rows[0], ROW)

    run(lambda: ten_per_s(granted(1)), scenario)


def test_everything_that_was_booked_is_reported_in_the_end() -> None:
    """Granted = ended + handed back, whatever happened in between."""

    async def scenario(lab: Lab) -> None:
        lab.feed(ROW, listed=3)
        await lab.clock.advance(0.75)
        for number, row in enumerate(lab.rows):
            if number % 3 == 0:
                lab.limiter.settle(row, ROW)
            elif number % 3 == 1:
                lab.limiter.release(row)
        lab.clock._now += 0.5
        await lab.clock.advance(1)

    script = [granted(4.5), granted(4.5, after_s=0.45), granted(6, after_s=0.6)]
    lab = run(lambda: ten_per_s(*script), scenario)
    open_rows = sum(row.is_open for row in lab.rows)
    ended = lab.schedule.reported("done")[0] + lab.schedule.reported("unused")[0]
    assert ended + open_rows == pytest.approx(15)
