"""Requests in flight, where a pool limits them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.limiter.schedule import PoolSchedule
from tests.search import examples

START_S = 1_790_000_000.0
RULES = [[0, 0, 1000.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
NONE = [0.0]


def _permits(
    pool: PoolSchedule, at_s: float, user: str, *, wanted: int, in_flight: int = 0, most: int = 10, worker: str = "w"
) -> int:
    rows = 16 if wanted else 0
    item = [user, "j", 2, 1.0, rows, 1, [float(rows)], [1.0], [1.0], NONE, NONE, NONE, rows, in_flight, wanted]
    reply = pool.call(START_S + at_s, [worker, 0, 0, 0.0, RULES, [item], most, 0, [], [], 0, [], 0.0])
    return int(reply[10][0][5])


@settings(max_examples=examples(100))
@given(
    asks=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["w1", "w2"]), st.integers(0, 12), st.floats(0, 0.2)),
        max_size=40,
    ),
    most=st.integers(1, 10),
)
def test_never_more_in_flight_than_the_pool_allows(asks: list[tuple[str, str, int, float]], most: int) -> None:
    """Callers that use all they were given, and whose requests end before they ask for fewer."""
    pool, at_s = PoolSchedule(), 0.0
    in_flight: dict[tuple[str, str], int] = {}
    may_have: dict[tuple[str, str], int] = {}
    for user, worker, wanted, later_s in asks:
        at_s += later_s
        caller = user, worker
        in_flight[caller] = min(max(in_flight.get(caller, 0), may_have.get(caller, 0)), wanted)
        may_have[caller] = _permits(
            pool, at_s, user, wanted=wanted, in_flight=in_flight[caller], most=most, worker=worker
        )
        held = sum(max(in_flight[each], may_have[each]) for each in in_flight)
        assert held <= most
        assert pool.memory.permits == held


def test_a_pool_without_the_limit_gives_no_number() -> None:
    assert _permits(PoolSchedule(), 0, "a", wanted=5, most=0) == -1


def test_one_who_had_all_gives_back_when_another_goes_without() -> None:
    """It lets out no new ones until it is below its share; the other gets what comes free."""
    pool = PoolSchedule()
    assert _permits(pool, 0.0, "a", wanted=10) == 10
    assert _permits(pool, 0.1, "b", wanted=10) == 0
    assert _permits(pool, 0.2, "a", wanted=10, in_flight=7) == 5
    assert _permits(pool, 0.3, "b", wanted=10) == 3
    assert _permits(pool, 0.4, "a", wanted=10, in_flight=4) == 5
    assert _permits(pool, 0.5, "b", wanted=10, in_flight=3) == 5


def test_permits_of_one_without_work_are_free_at_once() -> None:
    pool = PoolSchedule()
    _permits(pool, 0.0, "a", wanted=10)
    assert _permits(pool, 0.1, "a", wanted=0) == 0
    assert _permits(pool, 0.2, "b", wanted=10) == 10


def test_permits_of_a_crashed_caller_return_after_its_heartbeat() -> None:
    pool = PoolSchedule()
    _permits(pool, 0.0, "a", wanted=10)
    for number in range(1, 11):
        assert _permits(pool, 0.95 * number, "b", wanted=10) == 0
    assert _permits(pool, 10.5, "b", wanted=10) == 10
    assert list(pool.memory.holders) == ["c2\x1fb\x1fj\x1fw"]


def test_permits_of_a_caller_that_lives_do_not_return() -> None:
    pool = PoolSchedule()
    for second in range(40):
        _permits(pool, float(second), "a", wanted=10, in_flight=10)
        assert _permits(pool, second + 0.5, "b", wanted=10) == 0


def test_who_lacks_nothing_takes_nothing() -> None:
    """What one user does not want, the other keeps."""
    pool = PoolSchedule()
    _permits(pool, 0.0, "a", wanted=10)
    assert _permits(pool, 0.1, "b", wanted=2) == 0
    for number in range(2, 20):
        a = _permits(pool, number / 10, "a", wanted=10, in_flight=8)
        b = _permits(pool, number / 10 + 0.05, "b", wanted=2, in_flight=2)
    assert (a, b) == (8, 2)


def test_only_as_many_are_given_back_as_others_lack() -> None:
    """One of three lacks two: one of those who have seven gives them, the other keeps its seven."""
    pool = PoolSchedule()
    assert [_permits(pool, 0.0, user, wanted=7, most=14) for user in "ab"] == [7, 7]
    assert _permits(pool, 0.1, "c", wanted=2, most=14) == 0
    assert _permits(pool, 0.2, "a", wanted=9, in_flight=7, most=14) == 5
    assert _permits(pool, 0.3, "b", wanted=9, in_flight=7, most=14) == 7
    assert _permits(pool, 0.4, "a", wanted=9, in_flight=5, most=14) == 5
    assert _permits(pool, 0.5, "c", wanted=2, most=14) == 2


def test_the_permits_of_a_share_below_one_go_round() -> None:
    pool = PoolSchedule()
    had = {user: [_permits(pool, 0.0, user, wanted=1, most=1)] for user in "ab"}
    for number in range(1, 400):
        for user, permits in had.items():
            permits.append(_permits(pool, number / 4, user, wanted=3, in_flight=permits[-1], most=1))
    assert sum(had["a"]) == pytest.approx(sum(had["b"]), rel=0.1)
    changes = sum(one != other for one, other in zip(had["a"], had["a"][1:], strict=False))
    assert changes <= 30  # it is not handed over at each call
