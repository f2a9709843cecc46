"""How a pool's speed follows what the provider says and does, in virtual time."""

from __future__ import annotations

import pytest

from batch_llm.limiter.base import Limits
from batch_llm.limiter.schedule import PoolSchedule
from batch_llm.limiter.throttling import DAY_PAUSE_S
from batch_llm.limiter.wire import CLOCK, FIXED, ROLLING, UNDECLARED_DAY, Reply
from tests.unit.limiter.pool_lab import START_S, Bucket, Lab, Tenant, excess, rows_of, use

PER_S = 1000.0
LIMITS = Limits("p", requests_per_minute=PER_S * 60)
DAY_S = 86_400.0
CALLERS = [Tenant(user, rows_of(1.0), worker=f"w{n}") for user in "ab" for n in range(2)]
REQUESTS = [0, CLOCK, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def _call(
    pool: PoolSchedule,
    at_s: float,
    rules: list[list[float]],
    *,
    throttles: list[list[float]] | None = None,
    observed: list[list[float]] | None = None,
    unknown: bool = False,
    rows: int = 1000,
) -> Reply:
    some = [float(rows)] * len(rules)
    none = [0.0] * len(rules)
    item = ["u", "j", 2, 1.0, rows, 1, some, [1.0] * len(rules), [1.0] * len(rules), none, none, none, rows, 0, 0]
    request = ["w", 0, 0, 0.0, rules, [item], 0, int(unknown), throttles or [], observed or [], 0, [], 0.0]
    return Reply.from_wire(pool.call(START_S + at_s, request))


def test_a_limit_cut_without_telling_is_found_with_few_rows_rejected() -> None:
    """By 30 %; 0.3 % rejected at most, 93 % of what is left used."""
    bucket = Bucket(PER_S)
    lab = Lab(LIMITS, CALLERS, judge=bucket)
    lab.run(10)
    bucket.per_s = 0.7 * PER_S
    sent = lab.run(100)
    assert sum(not each.accepted for each in sent) / len(sent) <= 0.003
    assert use(sent, bucket.per_s, 10, 100) >= 0.93


def test_the_429s_of_the_first_wave_show_how_far_the_limit_was_cut() -> None:
    """Else each of the next steps down costs a wave of its own. By no more than was cut, and half of it at least."""
    bucket = Bucket(PER_S)
    lab = Lab(LIMITS, CALLERS, judge=bucket)
    lab.run(10)
    bucket.per_s = 0.7 * PER_S
    while all(each.accepted for each in lab.run(lab.now_s + 0.05)):
        pass
    lab.run(lab.now_s + 1.5)  # the wave is those that were on their way, and the calls that tell of them
    assert 0.7 <= lab.schedule.memory.factor[0] <= 0.85


@pytest.mark.parametrize("says", [True, False])
def test_a_limit_given_back_is_used_again(says: bool) -> None:
    bucket = Bucket(0.7 * PER_S, says=says)
    lab = Lab(LIMITS, CALLERS, judge=bucket)
    lab.run(20)
    bucket.per_s = PER_S
    lab.run(80)
    assert use(lab.run(100), PER_S, 80, 100) >= 0.97


@pytest.mark.parametrize(("per_s", "share"), [(100.0, 0.01), (1000.0, 0.002), (1000.0, 0.01), (1000.0, 0.03)])
def test_429s_that_come_at_any_speed_slow_the_pool_down_for_seconds_only(per_s: float, share: float) -> None:
    limits = Limits("p", requests_per_minute=per_s * 60)
    lab = Lab(limits, CALLERS, judge=Bucket(per_s, depth_s=2.0, stray=share, seed=3))
    lab.run(30)
    assert use(lab.run(90), per_s, 30, 90) >= 0.98 - share
    assert lab.schedule.memory.tolerated >= share


def test_a_lone_429_among_many_rows_slows_nothing() -> None:
    """But a time to wait that came with it counts."""
    pool = PoolSchedule()
    for number in range(100):
        _call(pool, 0.3 * number, [REQUESTS])
    assert _call(pool, 30, [REQUESTS], throttles=[[0, 1, 0.5]]).pause_s == 0.5
    assert pool.memory.factor[0] == 1.0
    _call(pool, 30.1, [REQUESTS], throttles=[[0, 1, -1.0]])
    assert pool.memory.factor[0] < 1.0


def test_a_real_limit_is_respected_although_some_429s_come_at_any_speed() -> None:
    bucket = Bucket(PER_S, stray=0.01)
    lab = Lab(LIMITS, CALLERS, judge=bucket)
    lab.run(30)
    bucket.per_s = 0.6 * PER_S
    sent = lab.run(90)
    assert sum(not each.accepted for each in sent) / len(sent) <= 0.03
    assert use(sent, bucket.per_s, 40, 90) >= 0.85


@pytest.mark.parametrize("true_per_s", [30.0, 100.0, 1000.0])
def test_an_unknown_limit_is_found(true_per_s: float) -> None:
    """From a guess of 100 per second; whatever it is, most of it is used and little is rejected."""
    limits = Limits("p", requests_per_minute=6000, unknown=True)
    lab = Lab(limits, CALLERS, judge=Bucket(true_per_s))
    lab.run(60)
    sent = lab.run(180)
    assert use(sent, true_per_s, 60, 180) >= 0.9
    assert sum(not each.accepted for each in sent) / len(sent) <= 0.02


def test_an_unknown_limit_does_not_grow_while_nobody_waits() -> None:
    pool = PoolSchedule()
    for number in range(60):
        _call(pool, number * 1.0, [REQUESTS], unknown=True, rows=0)
    assert pool.memory.factor[0] == 1.0


def test_a_person_goes_before_the_provider_and_the_provider_before_what_is_declared() -> None:
    pool = PoolSchedule()
    assert _call(pool, 0, [REQUESTS], observed=[[0, 40.0, -1.0]]).limits == [10.0]  # never above what is declared ..
    assert _call(pool, 1, [REQUESTS], observed=[[0, 4.0, -1.0]]).limits == [4.0]
    assert _call(PoolSchedule(), 0, [REQUESTS], observed=[[0, 40.0, -1.0]], unknown=True).limits == [
        40.0
    ]  # .. if known
    pool.change(START_S + 2, [[[0, 20.0]], [], 0])
    assert _call(pool, 2, [REQUESTS]).limits == [20.0]


def test_less_left_at_the_provider_than_here_moves_the_clock() -> None:
    """Somebody else uses the account."""
    rule = [0, CLOCK, 10.0, 6.0, 0.0, 0.0, 0.0, 0.0]
    pool = PoolSchedule()
    _call(pool, 0, [rule], observed=[[0, -1.0, 20.0]], rows=0)
    assert pool.memory.tat[0] == pytest.approx(START_S + 4)  # 6 s of burst, 2 s of them left
    _call(pool, 0, [rule], observed=[[0, -1.0, 50.0]], rows=0)
    assert pool.memory.tat[0] == pytest.approx(START_S + 4)  # more left than we think: no reason to trust it


def test_a_nearly_empty_minute_of_the_provider_is_left_alone() -> None:
    """Only where `remaining` was seen to span a minute; elsewhere a small number says nothing."""
    pool = PoolSchedule()
    _call(pool, 0, [REQUESTS], observed=[[0, -1.0, 1.0]], rows=0)
    assert pool.memory.tat[0] == pytest.approx(START_S)
    _call(pool, 0, [REQUESTS], observed=[[0, -1.0, 590.0]], rows=0)
    _call(pool, 0, [REQUESTS], observed=[[0, -1.0, 1.0]], rows=0)
    assert pool.memory.tat[0] == pytest.approx(START_S + 0.2)  # 0.5 % of 600 are to be left


def test_a_retry_after_pauses_everybody() -> None:
    pool = PoolSchedule()
    reply = _call(pool, 0, [REQUESTS], throttles=[[0, 1, 7.0]])
    assert reply.pause_s == 7.0
    assert reply.grants[0].wait_s == 7.0
    assert _call(pool, 7.1, [REQUESTS]).grants[0].served > 0


@pytest.mark.parametrize(("wait_s", "pause_s"), [(-1.0, DAY_S), (50.0, 50.0)])
def test_a_days_429_pauses_until_the_day_is_over_and_slows_nothing(wait_s: float, pause_s: float) -> None:
    day = [4, FIXED, 1000 / DAY_S, 0.0, 0.0, DAY_S, START_S % DAY_S, 0.0]
    pool = PoolSchedule()
    reply = _call(pool, 0, [REQUESTS, day], throttles=[[1, 1, wait_s]])
    assert (reply.pause_s, reply.pause_dimension) == (pytest.approx(pause_s), 1)
    assert pool.memory.factor == [1.0] * 6
    after = _call(pool, 50.1, [REQUESTS, day])
    assert after.grants[0].served == 0  # the day stays used up
    tomorrow = [_call(pool, DAY_S + later_s, [REQUESTS, day]) for later_s in (0.1, 1.0, 2.0, 3.0)]
    assert any(each.grants[0].served > 0 for each in tomorrow)  # the first after a silence waits for what others hold


def test_a_rolling_days_429_without_a_time_is_tried_again_after_a_minute() -> None:
    day = [4, ROLLING, 1000 / DAY_S, DAY_S, 0.0, DAY_S, 0.0, 0.0]
    assert _call(PoolSchedule(), 0, [day], throttles=[[0, 1, -1.0]]).pause_s == DAY_PAUSE_S


@pytest.mark.parametrize(("wait_s", "pause_s"), [(50.0, 50.0), (-1.0, DAY_PAUSE_S)])
def test_a_429_about_a_day_that_is_not_declared_pauses_everybody_and_slows_nothing(
    wait_s: float, pause_s: float
) -> None:
    pool = PoolSchedule()
    reply = _call(pool, 0, [REQUESTS], throttles=[[UNDECLARED_DAY, 3, wait_s]])
    assert (reply.pause_s, reply.pause_dimension) == (pause_s, UNDECLARED_DAY)
    assert pool.memory.factor == [1.0] * 6
    after = _call(pool, pause_s + 0.1, [REQUESTS])
    assert after.rates == [10.0] and after.grants[0].served > 0


@pytest.mark.parametrize("window_s", [1.0, 10.0, 60.0])
def test_no_fixed_window_of_the_provider_overflows_wherever_it_begins(window_s: float) -> None:
    limits = Limits("p", requests_per_minute=6000, window_s=window_s)
    lab = Lab(limits, CALLERS)
    sent = lab.run(2 * window_s + 5)
    times = [each.at_s for each in sent]
    most = round(100 * window_s)
    assert all(later - first >= window_s for first, later in zip(times, times[most:], strict=False))
    assert use(sent, 100.0, 3, 2 * window_s + 5) >= 0.97


def test_a_burst_is_used_at_the_start_and_no_more_than_it_is() -> None:
    lab = Lab(Limits("p", requests_per_minute=6000, burst_s=5.0), CALLERS)
    sent = lab.run(20)
    assert sum(each.at_s < 1.0 for each in sent) >= 500
    assert excess(sent, 0, 100.0) <= 500 + 1 + 2 * len(CALLERS)
