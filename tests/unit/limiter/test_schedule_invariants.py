"""What a pool's schedule promises, in virtual time, with callers that send exactly what their slices allow."""

from __future__ import annotations

import copy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_llm.limiter.base import Limits
from batch_llm.limiter.booking import PLAY_S
from batch_llm.limiter.schedule import OVERHANG, ROUND_MOST_S, ROUND_S, PoolSchedule
from tests.search import examples
from tests.unit.limiter.pool_lab import Lab, Tenant, excess, jain, rows_of, shares, use

ROW = rows_of(1.0)
PER_S = 100.0
LIMITS = Limits("p", requests_per_minute=PER_S * 60)


def _crowd(users: str, workers: int = 1, **more: object) -> list[Tenant]:
    return [Tenant(user, ROW, worker=f"w{n}", **more) for user in users for n in range(workers)]  # type: ignore[arg-type]


def _assert_never_above(lab: Lab, tenants: list[Tenant], rates: list[float], burst_s: float = 0.0) -> None:
    """In any window: rate * (window + burst) + one row, and a rest of a slice per caller at each end of it."""
    for dimension, per_s in enumerate(rates):
        largest = max(each.amounts[dimension] for each in lab.sent)
        play = PLAY_S * per_s if len(rates) > 1 else 0.0
        assert excess(lab.sent, dimension, per_s) <= per_s * burst_s + play + largest * (1 + 2 * len(tenants)) + 1e-6


_TENANTS = st.builds(
    lambda user, worker, tokens, lane, weight, rows, answer_s, used: Tenant(
        user, rows_of(1.0, tokens), worker, "job", lane, weight, rows, answer_s=answer_s, used=used
    ),
    st.sampled_from("abc"),
    st.sampled_from(["w0", "w1"]),
    st.sampled_from([10.0, 60.0, 400.0]),
    st.integers(0, 3),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from([1.0, 30.0, float("inf")]),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([1.0, 1.0, 0.3]),
)


@settings(max_examples=examples(40))
@given(
    tenants=st.lists(_TENANTS, min_size=1, max_size=6, unique_by=lambda each: (each.user, each.worker, each.lane)),
    burst_s=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 9),
)
def test_no_window_of_any_length_is_above_the_limit(tenants: list[Tenant], burst_s: float, seed: int) -> None:
    """Any callers, row sizes, lanes, weights, refunds. Rows of two limits may shift against each other a little."""
    limits = Limits("p", requests_per_minute=6000, tokens_per_minute=600_000, burst_s=burst_s)
    lab = Lab(limits, tenants, seed=seed)
    lab.run(5.0)
    _assert_never_above(lab, tenants, [100.0], burst_s + 2 * PLAY_S)
    if all(each.used == 1.0 for each in tenants):
        _assert_never_above(lab, tenants, [100.0, 10_000.0], burst_s)


@settings(max_examples=examples(40))
@given(lies=st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 1e9])] * 3), min_size=1, max_size=60))
def test_settling_never_mints(lies: list[tuple[float, float, float]]) -> None:
    """Whatever a caller claims to hand back, it gets no more than time gave, and what it really held and returned."""
    pool = PoolSchedule()
    rules = [[0, 0, PER_S, 0.0, 0.0, 0.0, 0.0, 0.0]]
    epoch = seq = 0
    held = granted = returned = 0.0
    for number, (done, used, unused) in enumerate(lies):
        claims = [[held * done], [held * done * min(used, 1.0)], [held * unused]]
        item = ["u", "j", 2, 1.0, 16, 1, [16.0], [1.0], [1.0], *claims, 0, 0, 0]
        reply = pool.call(1e9 + 0.2 * number, ["w", epoch, seq, 0.0, rules, [item], 0, 0, [], [], 0, [], 0.0])
        epoch, seq = reply[0], reply[1]
        back = min(held * done, held)
        free = min(held * unused, held - back)
        returned += max(0.0, back - claims[1][0]) + free
        held += reply[10][0][4][0] - back - free
        granted += reply[10][0][4][0]
    assert granted <= PER_S * (0.2 * len(lies) + OVERHANG * ROUND_MOST_S) + returned


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_while_rows_wait_the_limit_is_used(workers: int) -> None:
    lab = Lab(LIMITS, _crowd("abcd", workers))
    lab.run(20)
    assert use(lab.sent, PER_S, 2, 20) >= 0.985


def test_while_rows_of_different_sizes_wait_the_tightest_limit_is_used() -> None:
    tenants = [
        Tenant(user, rows_of(1.0, tokens)) for user, tokens in zip("abcd", (200.0, 400.0, 800.0, 1600.0), strict=True)
    ]
    lab = Lab(Limits("p", requests_per_minute=60_000, tokens_per_minute=6_000_000), tenants)
    lab.run(10)
    assert max(use(lab.sent, 1000, 2, 10), use(lab.sent, 100_000, 2, 10, dimension=1)) >= 0.985


@pytest.mark.parametrize("workers", [1, 4])
def test_equal_users_get_equal_shares(workers: int) -> None:
    """However many processes each has."""
    tenants = [*_crowd("abc", workers), Tenant("d", ROW)]
    lab = Lab(LIMITS, tenants)
    lab.run(40)
    assert jain(list(shares(lab.sent, tenants).values())) > 0.99


def test_who_asks_for_long_rows_gets_no_more_of_the_pool_than_who_asks_for_short_ones() -> None:
    tenants = [
        Tenant(user, rows_of(1.0, tokens)) for user, tokens in zip("abcd", (50.0, 50.0, 1000.0, 200.0), strict=True)
    ]
    lab = Lab(Limits("p", requests_per_minute=60_000, tokens_per_minute=6_000_000), tenants)
    lab.run(20)
    rows, tokens = shares(lab.sent, tenants), shares(lab.sent, tenants, 1)
    used = (use(lab.sent, 1000, 2, 20), use(lab.sent, 100_000, 2, 20, dimension=1))
    assert jain([max(rows[user] * used[0], tokens[user] * used[1]) for user in "abcd"]) > 0.97


def test_shares_follow_the_weights_of_jobs_and_users() -> None:
    tenants = [Tenant("a", ROW, job=f"j{weight}", weight=weight) for weight in (1.0, 2.0, 4.0)] + [Tenant("b", ROW)]
    lab = Lab(Limits("p", requests_per_minute=60_000), tenants)
    lab.schedule.memory.weights["b"] = 2.0
    lab.run(5)
    sent = lab.run(30)
    parts = [sum(each.tenant == n for each in sent) / len(sent) for n in range(4)]
    assert parts == pytest.approx([1 / 21, 2 / 21, 4 / 21, 14 / 21], rel=0.05)


@pytest.mark.parametrize("burst_s", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("flood", [0, 1])
def test_the_lowest_lane_keeps_its_part_under_a_flood(burst_s: float, flood: int) -> None:
    """Also where live requests have a reserve of their own."""
    limits = Limits("p", requests_per_minute=60_000, burst_s=burst_s)
    tenants = [*_crowd("a", 4, lane=flood), Tenant("b", ROW, lane=3)]
    lab = Lab(limits, tenants)
    lab.run(8)
    sent = lab.run(24)
    assert shares(sent, tenants)["b"] >= 0.04
    assert use(sent, 1000, 8, 24) >= 0.985


def test_live_requests_start_at_once_while_jobs_fill_the_pool() -> None:
    """As long as the reserve lasts: here 1 s of the limit, of which 10 % are asked for."""
    tenants = [
        *_crowd("ab", 2),
        *(Tenant("live", ROW, job=f"{n}", lane=0, rows=1, from_s=4 + 0.1 * n) for n in range(60)),
    ]
    lab = Lab(Limits("p", requests_per_minute=6000, burst_s=2.0), tenants)
    lab.run(15)
    live = [each for each in lab.sent if tenants[each.tenant].lane == 0]
    late_s = [each.at_s - tenants[each.tenant].from_s for each in live]
    assert len(late_s) == 60
    assert max(late_s[:15]) <= 1.5  # jobs were booked into the reserve before the first live request came
    assert max(late_s[15:]) <= 0.011  # the time until it asks


def test_the_share_of_a_vanished_caller_goes_to_the_others() -> None:
    tenants = [Tenant("a", ROW), Tenant("b", ROW, until_s=10.0)]
    lab = Lab(LIMITS, tenants)
    lab.run(14)
    assert use(lab.run(20), PER_S, 14, 20) >= 0.985
    assert list(lab.schedule.memory.backlogged) == ["c2\x1fa\x1fjob\x1fw0ajob"]


@pytest.mark.parametrize("how", ["lost", "rewound", "restored"])
@pytest.mark.parametrize("burst_s", [0.0, 2.0])
def test_a_lost_or_older_memory_never_lets_more_out(how: str, burst_s: float) -> None:
    """And the pool goes on when what was booked before is over: here rounds are 1.8 s long."""
    tenants = _crowd("abc", 3)
    lab = Lab(Limits("p", requests_per_minute=6000, burst_s=burst_s), tenants)
    lab.run(3)
    earlier = copy.deepcopy(lab.schedule.memory)
    lab.run(3.2 if how == "rewound" else 9)
    lab.is_down = how != "lost"
    lab.run(lab.now_s + 0.3)
    lab.is_down = False
    lab.schedule = PoolSchedule()
    if how != "lost":
        lab.schedule.memory = earlier
    back_s = lab.now_s
    lab.run(back_s + 12)
    _assert_never_above(lab, tenants, [PER_S], burst_s)
    assert use(lab.sent, PER_S, back_s + 5, back_s + 12) >= 0.95  # a caller that comes late may cost a moment


@pytest.mark.parametrize(("later_s", "still_s"), [(0.5, 1.5), (3.0, 0.0)])
def test_who_comes_back_after_the_memory_was_lost_stops_the_pool_only_while_it_may_hold_a_slice(
    later_s: float, still_s: float
) -> None:
    """Its slices were booked before the loss, at most two seconds ahead."""
    pool = PoolSchedule()
    rules = [[0, 0, PER_S, 0.0, 0.0, 0.0, 0.0, 0.0]]
    pool.call(1e9, ["new", 0, 0, 0.0, rules, [], 0, 0, [], [], 0, [], 0.0])
    pool.call(1e9 + later_s, ["old", 7, 7, 2.0, rules, [], 0, 0, [], [], 0, [], 0.0])
    assert max(0.0, pool.memory.tat[0] - 1e9 - later_s) == pytest.approx(still_s, abs=1e-5)


@pytest.mark.parametrize("step_s", [-300.0, -0.3, -30.0, 300.0])
def test_a_clock_that_jumps_neither_stops_the_pool_nor_lets_more_out(step_s: float) -> None:
    tenants = _crowd("abc", 2)
    lab = Lab(LIMITS, tenants)
    lab.run(5)
    lab.clock_offset_s = step_s
    lab.run(15)
    assert use(lab.sent, PER_S, 8, 15) >= 0.985
    _assert_never_above(lab, tenants, [PER_S])
    lab.clock_offset_s = 0.0
    lab.run(25)
    assert use(lab.sent, PER_S, 18, 25) >= 0.985


@settings(max_examples=examples(25))
@example(shorter_s=1e-308, longer_s=0.25, lower=1.0, at_s=1.0)
@given(shorter_s=st.floats(0, 10), longer_s=st.floats(0, 10), lower=st.floats(0.1, 1.0), at_s=st.floats(0.5, 3.0))
def test_a_longer_wait_or_a_lower_limit_lets_nothing_go_earlier(
    shorter_s: float, longer_s: float, lower: float, at_s: float
) -> None:
    """The rows after a 429 in the same order, with a longer wait or under a lower limit: none is earlier.

    But for what a pause of any length costs: the slices booked then are handed back, which may take a round to regain.
    """
    shorter_s, longer_s = sorted((shorter_s, longer_s))
    sent = []
    for wait_s, part in ((shorter_s, 1.0), (longer_s, 1.0), (shorter_s, lower)):
        lab = Lab(Limits("p", requests_per_minute=6000 * part), [Tenant("a", ROW)], judge=_reject_once(at_s, wait_s))
        lab.run(12)
        sent.append([each.at_s for each in lab.sent])
    for later in sent[1:]:
        assert all(late_s >= early_s - ROUND_S for early_s, late_s in zip(sent[0], later, strict=False))


def _reject_once(at_s: float, wait_s: float):  # type: ignore[no-untyped-def]
    rejected = []

    def judge(now_s: float, amounts: list[float]) -> tuple[bool, float]:
        if now_s >= at_s and not rejected:
            rejected.append(now_s)
            return False, wait_s
        return True, -1.0

    return judge
