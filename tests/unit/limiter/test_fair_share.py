"""Who is counted, and who is forgotten."""

from __future__ import annotations

import pytest

from batch_llm.limiter.fair_share import ABSENT_AT_ONCE, LANE_WEIGHTS, REMEMBERED_S, lane_shares
from batch_llm.limiter.memory import LANE, Memory
from batch_llm.limiter.schedule import PoolSchedule

START_S = 1_790_000_000.0
RULES = [[0, 0, 1000.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
NONE = [0.0]


def _call(pool: PoolSchedule, at_s: float, user: str, *, rows: int = 16, worker: str = "w", job: str = "j") -> None:
    item = [user, job, 2, 1.0, rows, 1, [float(rows)], [1.0], [1.0], NONE, NONE, NONE, rows, 0, 1]
    pool.call(START_S + at_s, [worker, 0, 0, 0.0, RULES, [item], 5, 0, [], [], 0, [], 0.0])


@pytest.mark.parametrize("at_work", [{0}, {3}, {1, 2}, {0, 3}, {1, 2, 3}, {0, 1, 2, 3}])
def test_lanes_at_work_share_the_whole_pool_and_the_lowest_gets_its_least(at_work: set[int]) -> None:
    memory = Memory()
    for number in at_work:
        memory.lanes[number][LANE.W] = 1.0
    shares = lane_shares(memory, min(at_work))
    assert sum(shares) == pytest.approx(1.0)
    assert all((share >= 0.05) == (number in at_work) for number, share in enumerate(shares))
    assert [share for share in shares if share] == sorted((share for share in shares if share), reverse=True)
    assert len(shares) == len(LANE_WEIGHTS)


def test_a_crowd_that_vanished_is_forgotten_wholly() -> None:
    """However many there are at once, a few per call; with their jobs, users and permits."""
    pool = PoolSchedule()
    for number in range(4 * ABSENT_AT_ONCE):
        _call(pool, 0.01 * number, f"u{number}", worker=f"w{number}")
    for number in range(40):
        _call(pool, REMEMBERED_S + 10 + number, "last")
    memory = pool.memory
    assert sorted(memory.records) == ["c2\x1flast\x1fj\x1fw", "j2\x1flast\x1fj", "u2\x1flast"]
    assert list(memory.known) == list(memory.backlogged) == list(memory.holders) == ["c2\x1flast\x1fj\x1fw"]
    assert memory.permits == 1
    assert memory.lanes[2][LANE.W] == pytest.approx(1.0)


def test_a_job_stays_while_one_of_its_callers_was_heard_of_lately() -> None:
    pool = PoolSchedule()
    _call(pool, 0, "a", worker="first")
    _call(pool, 500, "a", worker="second")  # after a silence nobody starts at once
    _call(pool, 501, "a", worker="second")
    _call(pool, 501.1, "a", rows=0, worker="second")
    for number in range(10):
        _call(pool, 690 + number, "b")
    assert "c2\x1fa\x1fj\x1ffirst" not in pool.memory.records
    assert {"c2\x1fa\x1fj\x1fsecond", "j2\x1fa\x1fj", "u2\x1fa"} <= set(pool.memory.records)


def test_a_silent_caller_counts_no_more_after_three_heartbeats_but_is_known() -> None:
    pool = PoolSchedule()
    _call(pool, 0, "a")
    for number in range(1, 9):
        _call(pool, 0.5 * number, "b")
    assert list(pool.memory.backlogged) == ["c2\x1fb\x1fj\x1fw"]
    assert set(pool.memory.known) == {"c2\x1fa\x1fj\x1fw", "c2\x1fb\x1fj\x1fw"}


def test_a_caller_that_speaks_is_not_forgotten() -> None:
    """The time at which it is looked after is not moved at each of its calls."""
    pool = PoolSchedule()
    for number in range(3000):
        _call(pool, 0.5 * number, "a")
        assert list(pool.memory.backlogged) == ["c2\x1fa\x1fj\x1fw"]


def test_who_was_away_saved_nothing_up() -> None:
    """It comes back one quantum behind the mean, not with the hours it missed."""
    pool = PoolSchedule()
    _call(pool, 0, "a")
    _call(pool, 0.1, "a", rows=0)
    for number in range(2000):
        _call(pool, 1 + 0.1 * number, "b")
    _call(pool, 201, "a")
    records = pool.memory.records
    assert records["u2\x1fb"][0] - records["u2\x1fa"][0] < 1.0
