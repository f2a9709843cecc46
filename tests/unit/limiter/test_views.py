"""A pool as people see it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from batch_llm.limiter.base import Limits, PoolChange
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.memory import Memory
from batch_llm.limiter.schedule import PoolSchedule
from batch_llm.limiter.views import checked_change, view_of
from tests.unit.limiter.pool_lab import Lab, Tenant, rows_of

START_S = 1_790_000_000.0
LIMITS = Limits("openai:main", requests_per_minute=600, tokens_per_minute=60_000)
DAYS = Limits("g:free", requests_per_minute=10, requests_per_day=200, day_resets="America/Los_Angeles")


def _call(
    pool: PoolSchedule,
    limits: Limits,
    at_s: float,
    user: str,
    *,
    rows: int = 4,
    lane: int = 2,
    throttles: list[list[float]] | None = None,
) -> None:
    rules = [rule.to_wire() for rule in rules_of(limits, datetime.fromtimestamp(START_S, UTC))]
    row = [1.0 if n == 0 or rule[0] == 4 else 100.0 for n, rule in enumerate(rules)]
    none = [0.0] * len(rules)
    item = [user, "tone", lane, 2.0, rows, 1, [each * rows for each in row], row, row, none, none, none, rows, 1, 2]
    most = limits.max_concurrency or 0
    request = [f"w{user}", 0, 0, 0.0, rules, [item], most, int(limits.unknown), throttles or [], [], 0, [], 0.0]
    pool.call(START_S + at_s, request)


def test_a_pool_that_nobody_used_shows_its_limits() -> None:
    view = view_of(Memory(), LIMITS, START_S)
    assert [(each.name, each.declared, each.in_force, each.used_now) for each in view.dimensions] == [
        ("requests", 600, 600, 0),
        ("tokens", 60_000, 60_000, 0),
    ]
    assert (view.tenants, view.paused_for_s, view.why, view.factor) == ((), 0.0, "", 1.0)


def test_it_shows_who_gets_what_and_who_waits() -> None:
    pool = PoolSchedule()
    for number in range(200):
        _call(pool, LIMITS, 0.1 * number, "ann")
        _call(pool, LIMITS, 0.1 * number + 0.05, "bob", lane=1)
    view = view_of(pool.memory, LIMITS, START_S + 20)
    high, normal = view.tenants
    assert (high.user, high.priority, high.job_weight, high.waiting, high.processes) == ("bob", "high", 2.0, 4, 1)
    assert (normal.user, normal.priority) == ("ann", "normal")
    assert high.share == pytest.approx(0.8, abs=0.08)
    assert high.share + normal.share == pytest.approx(1.0)
    assert view.dimensions[0].used_now == pytest.approx(600, rel=0.2)


def test_who_is_silent_has_no_process_and_vanishes_with_its_share() -> None:
    pool = PoolSchedule()
    _call(pool, LIMITS, 0, "ann")
    _call(pool, LIMITS, 10, "bob")
    ann, bob = view_of(pool.memory, LIMITS, START_S + 10).tenants
    assert (ann.processes, ann.waiting, bob.processes) == (0, 0, 1)
    assert [each.user for each in view_of(pool.memory, LIMITS, START_S + 60_000).tenants] == []


def test_a_job_that_was_forgotten_while_its_caller_is_known_does_not_break_the_view() -> None:
    pool = PoolSchedule()
    _call(pool, LIMITS, 0, "ann")
    for key in ("j2\x1fann\x1ftone", "u2\x1fann"):
        del pool.memory.records[key]
    assert view_of(pool.memory, LIMITS, START_S).tenants[0].user == "ann"


def test_a_pause_says_why_and_how_long() -> None:
    pool = PoolSchedule()
    _call(pool, LIMITS, 0, "ann", throttles=[[0, 1, 30.0]])
    view = view_of(pool.memory, LIMITS, START_S + 10)
    assert view.paused_for_s == 20.0
    assert view.why == "the provider asked to wait (429); it goes on in 20.0 s"
    after = view_of(pool.memory, LIMITS, START_S + 31)
    assert after.why == "slowed down to 93% after 429s; it comes back by itself"
    assert after.factor == pytest.approx(0.93)
    assert (after.dimensions[0].in_force, after.dimensions[0].learned) == (pytest.approx(558), True)


def test_a_used_up_day_says_so() -> None:
    pool = PoolSchedule()
    _call(pool, DAYS, 0, "ann", throttles=[[1, 1, -1.0]])
    view = view_of(pool.memory, DAYS, START_S)
    assert view.why.startswith("the provider's day is used up; it goes on in ")
    assert (view.dimensions[1].name, view.dimensions[1].declared, view.dimensions[1].used_now) == (
        "requests_per_day",
        pytest.approx(200),
        pytest.approx(200),
    )
    assert view_of(pool.memory, DAYS, START_S + 86_400).dimensions[1].used_now == 0.0  # another day


def test_a_days_limit_without_a_reset_shows_what_has_not_come_back() -> None:
    limits = Limits("g:free", requests_per_day=86_400)
    pool = PoolSchedule()
    _call(pool, limits, 0, "ann", rows=100)
    used = view_of(pool.memory, limits, START_S).dimensions[0].used_now
    assert used > 1
    assert view_of(pool.memory, limits, START_S + 1).dimensions[0].used_now == pytest.approx(used - 1)


def test_a_guess_is_not_shown_as_declared() -> None:
    limits = Limits("v:main", requests_per_minute=600, unknown=True)
    assert view_of(Memory(), limits, START_S).dimensions[0].declared is None


def test_requests_in_flight_of_crashed_processes_are_not_counted() -> None:
    limits = Limits("p", requests_per_minute=600, max_concurrency=7)
    pool = PoolSchedule()
    _call(pool, limits, 0, "ann")
    _call(pool, limits, 8, "bob")
    assert view_of(pool.memory, limits, START_S + 8).dimensions[-1].used_now == 2
    assert view_of(pool.memory, limits, START_S + 12).dimensions[-1].used_now == 1


def test_a_set_back_clock_does_not_change_what_is_shown() -> None:
    """Pauses and shares lie on the schedule's clock, which never goes back."""
    pool = PoolSchedule()
    _call(pool, LIMITS, 0, "ann", throttles=[[0, 1, 30.0]])
    _call(pool, LIMITS, -300, "bob")
    view = view_of(pool.memory, LIMITS, START_S - 300)
    assert view.paused_for_s == 30.0
    assert [each.user for each in view.tenants] == ["ann", "bob"]


def test_a_change_is_told_in_units_per_second() -> None:
    change = PoolChange({"requests_per_minute": 300, "tokens_per_minute": None}, {"ann": 2, "bob": None}, resume=True)
    assert checked_change(LIMITS, change) == [[[0, 5.0], [1, 0.0]], [["ann", 2.0], ["bob", 0.0]], 1]
    assert checked_change(DAYS, PoolChange({"requests_per_day": 86_400})) == [[[4, 1.0]], [], 0]


def _uses(lab: Lab, from_s: float, until_s: float) -> list[float]:
    """The part of the first limit that the view shows as used, at odd moments."""
    seen = []
    at_s = from_s
    while at_s < until_s:
        lab.run(at_s)
        one = view_of(lab.schedule.memory, lab.limits, START_S + at_s).dimensions[0]
        seen.append(one.used_now / one.in_force)
        at_s += 0.173
    return seen


@pytest.mark.parametrize("per_minute", [3, 600, 60_000])
@pytest.mark.parametrize("burst_s", [0.0, 3.0])
def test_full_use_shows_as_the_whole_limit_and_nothing_when_it_ends(per_minute: float, burst_s: float) -> None:
    """What is booked ahead has not been used yet; what was used some seconds ago is past."""
    limits = Limits("p", requests_per_minute=per_minute, burst_s=burst_s)
    rows = per_minute / 60 * (60 + burst_s) / 4
    lab = Lab(limits, [Tenant(user, rows_of(1.0), worker=worker, rows=rows) for user in "ab" for worker in "vw"])
    seen = _uses(lab, 25.0, 55.0)
    assert min(seen) >= 0.97
    assert max(seen) <= 1.03
    lab.run(90)
    assert len(lab.sent) == pytest.approx(4 * rows, abs=4)
    ended_s = lab.sent[-1].at_s
    after = view_of(lab.schedule.memory, limits, START_S + ended_s + 15 + 60 / per_minute)
    assert after.dimensions[0].used_now <= 0.025 * per_minute
    assert [each.share for each in after.tenants if each.share] == []


def test_nothing_counts_before_it_is_sent() -> None:
    lab = Lab(LIMITS, [Tenant("ann", rows_of(1.0, 10.0), worker=worker) for worker in "uvw"])
    assert max(_uses(lab, 0.05, 10.0)) <= 1.01


def test_a_learned_limit_is_told_only_where_it_is_the_one_in_force() -> None:
    pool = PoolSchedule()
    _call(pool, LIMITS, 0, "ann")
    pool.memory.learned[0], pool.memory.learned[1] = 20.0, 500.0  # twice what is declared, and half
    requests, tokens = view_of(pool.memory, LIMITS, START_S).dimensions
    assert (requests.in_force, requests.learned) == (600, False)
    assert (tokens.in_force, tokens.learned) == (30_000, True)
    unknown = Limits("openai:main", requests_per_minute=600, unknown=True)
    assert view_of(pool.memory, unknown, START_S).dimensions[0].learned
    pool.memory.changed[1] = 400.0
    assert not view_of(pool.memory, LIMITS, START_S).dimensions[1].learned
