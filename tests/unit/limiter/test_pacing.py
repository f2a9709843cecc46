"""Rows inside slices, without any clock or event loop: never early, never lost, never bunched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.limiter.base import Cost, Limits, Reservation, Tenant
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.lease_line import PLAY_S, Leased, Line, Pace, Slice
from batch_llm.limiter.pacing import hand_back, put_back, ready_at_s, take, void_begun
from tests.contract.strict_bucket import Flow, overshoot
from tests.search import examples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SLACK_S = 0.005
TOKENS = Limits("p", tokens_per_minute=6_000)  # 100 per second
BOTH = Limits("p", requests_per_minute=600, tokens_per_minute=60_000)  # 10 and 1,000 per second
FOUR = Limits(
    "p",
    requests_per_minute=600,
    tokens_per_minute=60_000,
    input_tokens_per_minute=48_000,
    output_tokens_per_minute=30_000,
)


def new_line(limits: Limits) -> Line:
    return Line(Tenant("a", "b"), Pace(limits, rules_of(limits, NOW), SLACK_S), object(), limited=False)


def book(line: Line, start_s: float, *amounts: float, joined: bool = False) -> Slice:
    piece = Slice(line.pace, [start_s] * len(amounts), list(amounts), start_s)
    piece.joined = [joined and amount > 0 for amount in amounts]
    line.slices.append(piece)
    return piece


def leave(line: Line, costs: list[Cost], until_s: float, step_s: float = 0.001) -> list[float]:
    """Let rows out as soon as they may go, looking every millisecond."""
    times: list[float] = []
    for number in range(round(until_s / step_s) + 1):
        now_s = number * step_s
        times += [round(now_s, 6)] * len(take(line, costs[len(times) :], now_s))
    return times


def reported(line: Line) -> list[float]:
    return [done + unused for done, unused in zip(line.done, line.unused, strict=True)]


# -- one limit, several limits ----------------------------------------------------------------------------------------


def test_a_row_pays_for_itself_after_it_was_sent() -> None:
    line = new_line(TOKENS)
    book(line, 0.0, 300)
    assert leave(line, [Cost(100, 0), Cost(20, 0), Cost(50, 0), Cost(60, 0)], 4) == [0, 1, 1.2, 1.7]


def test_the_slowest_dimension_paces() -> None:
    line = new_line(BOTH)
    book(line, 0.0, 4, 1_000)
    line.note_largest((1, 500), 0.0)
    assert leave(line, [Cost(50, 0), Cost(500, 0), Cost(50, 0), Cost(50, 0)], 2) == [0, 0.1, 0.345, 0.44]
    # the third would have to wait for the 500 tokens until 0.595, but is 450 smaller than the largest row


def test_no_row_is_early_by_more_than_the_play_nor_where_the_provider_counts_in_windows() -> None:
    plain, in_windows = new_line(BOTH), new_line(Limits("p", 600, 60_000, window_s=1))
    for line, times in ((plain, [0, 0.55]), (in_windows, [0, 0.8])):
        line.note_largest((1, 800), 0.0)
        book(line, 0.0, 4, 1_000)
        assert leave(line, [Cost(800, 0), Cost(10, 0)], 1) == times
    assert pytest.approx(0.8 - 0.55) == PLAY_S


def test_a_dimension_of_which_a_row_takes_nothing_does_not_hold_it_back() -> None:
    line = new_line(Limits("p", requests_per_minute=60_000, output_tokens_per_minute=60))
    book(line, 0.0, 3, 100)
    assert leave(line, [Cost(1, 50), Cost(1, 0), Cost(1, 50)], 51, 0.5) == [0, 0.5, 50]


def test_a_row_that_takes_nothing_that_is_limited_needs_no_slice() -> None:
    line = new_line(Limits("p", output_tokens_per_minute=60))
    assert leave(line, [Cost(50, 0), Cost(50, 0), Cost(50, 1), Cost(50, 0)], 1) == [0, 0]


def test_a_limit_per_day_paces_nothing_and_ends() -> None:
    line = new_line(Limits("p", requests_per_day=1_000))
    book(line, 0.0, 3)
    assert leave(line, [Cost(1, 0)] * 5, 1) == [0, 0, 0]


def test_four_limits_at_once() -> None:
    line = new_line(FOUR)
    book(line, 0.0, 4, 4_000, 4_000, 2_000)
    assert leave(line, [Cost(400, 100)] * 4, 3) == [0, 0.5, 1.0, 1.5]  # 400 input tokens at 800 per second


# -- between slices ---------------------------------------------------------------------------------------------------


def test_what_was_sent_beyond_a_slice_delays_the_next_one() -> None:
    """A rest that moved on is used once: the slice after it keeps its distance."""
    line = new_line(TOKENS)
    book(line, 0.0, 150)
    book(line, 2.0, 150)
    book(line, 3.5, 100, joined=False)
    assert leave(line, [Cost(100, 0)] * 4, 5) == [0, 2, 3, 4]


def test_a_slice_whose_time_has_passed_is_void_but_for_a_rest_smaller_than_a_row() -> None:
    line = new_line(TOKENS)
    book(line, 0.0, 150)
    assert len(take(line, [Cost(100, 0)], 0.0)) == 1
    assert take(line, [Cost(100, 0)], 3.0) == []
    book(line, 3.0, 150)
    assert len(take(line, [Cost(100, 0)], 3.0)) == 1
    assert len(take(line, [Cost(100, 0)], 4.0)) == 1
    book(line, 10.0, 500)
    assert take(line, [Cost(100, 0)], 20.0) == []
    assert (line.done, line.used, line.unused) == ([500], [500], [0])


def test_handing_back_is_void_for_the_time_that_has_passed() -> None:
    line = new_line(TOKENS)
    book(line, 0.0, 100)
    book(line, 5.0, 50)
    hand_back(line, 0.25, begun=False)
    assert (line.unused, len(line.slices)) == ([50], 1)
    hand_back(line, 0.25, begun=True)
    assert line.unused == pytest.approx([125])
    assert line.done == line.used == pytest.approx([25])


def test_a_429_voids_what_has_begun() -> None:
    line = new_line(TOKENS)
    book(line, 0.0, 100)
    book(line, 5.0, 50)
    void_begun(line, 0.5)
    assert (line.done, line.used, line.unused) == ([100], [100], [0])
    assert [piece.start_s for piece in line.slices] == [5.0]


# -- rows that come back ----------------------------------------------------------------------------------------------


def test_a_row_that_was_never_sent_leaves_its_place_to_the_next() -> None:
    line = new_line(TOKENS)
    book(line, 0.0, 200)
    (row,) = take(line, [Cost(100, 0)], 0.0)
    assert isinstance(row, Leased)
    put_back(line, row, 0.01)
    assert [row.granted_at_s for row in take(line, [Cost(150, 0)] * 2, 0.01)] == [0.01]


def test_a_row_that_comes_back_late_or_from_before_others_moves_no_clock() -> None:
    line = new_line(TOKENS)
    book(line, 0.0, 300)
    first = take(line, [Cost(100, 0)], 0.0)[0]
    take(line, [Cost(100, 0)], 1.0)
    assert isinstance(first, Leased)
    put_back(line, first, 1.5)
    assert ready_at_s(line, Cost(100, 0)) == 2.0
    assert line.done == line.used == [100]


# -- invariants -------------------------------------------------------------------------------------------------------

LIMITS = st.sampled_from([TOKENS, BOTH, FOUR, Limits("p", tokens_per_minute=6_000, burst_s=2.0)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), st.floats(0, 1), st.floats(0.2, 3)),
        st.tuples(st.just("take"), st.floats(0, 0.5), st.integers(1, 4)),
        st.tuples(st.just("stall"), st.floats(0, 5), st.integers(1, 8)),
        st.tuples(st.just("back"), st.floats(0, 0.1), st.integers(0, 50)),
        st.tuples(st.just("hand"), st.floats(0, 0.1), st.booleans()),
    ),
    max_size=60,
)
COSTS = st.lists(st.builds(Cost, st.integers(1, 120), st.integers(0, 80)), min_size=1, max_size=8)


@settings(max_examples=examples(300))
@given(LIMITS, COSTS, STEPS)
def test_nothing_is_early_bunched_or_lost_whatever_happens(limits: Limits, costs: list[Cost], steps: list[Any]) -> None:
    """Booked = sent + reported + still held, and a strict bucket of slack (and play) and one row overflows nowhere."""
    line = new_line(limits)
    now_s, booked_to_s, granted = 0.0, 0.0, [0.0] * line.pace.count
    sent: list[Reservation] = []
    largest = [max(pair) for pair in zip(*map(line.pace.measures.reserved, costs), strict=True)]
    line.note_largest(tuple(largest), 0.0)
    for name, after_s, value in steps:
        now_s += after_s
        if name == "book":
            start_s = max(now_s, booked_to_s) + (after_s if after_s > 0.5 else 0.0)
            amounts = [max(rate * value, largest[place]) for place, rate in enumerate(line.pace.rates)]
            granted = [total + amount for total, amount in zip(granted, amounts, strict=True)]
            book(line, start_s, *amounts, joined=start_s == booked_to_s)
            booked_to_s = start_s + line.pace.seconds(amounts)
        elif name == "back" and sent:
            row = sent[int(value) % len(sent)]
            if row.is_open and isinstance(row, Leased):
                row.is_open = False
                put_back(line, row, now_s)
        elif name == "hand":
            hand_back(line, now_s, begun=bool(value))
        else:
            sent += take(line, (costs * 8)[: int(value)], now_s)
    out = [row for row in sent if row.is_open and isinstance(row, Leased)]
    held = [sum(piece.left[place] for piece in line.slices) for place in range(line.pace.count)]
    for place, rate in enumerate(line.pace.rates):
        flows = [Flow(row.granted_at_s, row.amounts[place]) for row in out]
        assert reported(line)[place] + held[place] + sum(flow.amount for flow in flows) == pytest.approx(granted[place])
        play = min(largest[place], rate * PLAY_S) if line.pace.play_s else 0.0
        late_s = 2 * line.pace.slack_s + 1e-6  # a slice that is late by the slack may meet the next one
        assert overshoot(flows, rate) <= rate * late_s + play + 1e-6


@settings(max_examples=examples(100))
@given(LIMITS, COSTS, st.lists(st.floats(0.2, 2), min_size=1, max_size=5))
def test_ready_says_when_the_next_row_may_go(limits: Limits, costs: list[Cost], lengths_s: list[float]) -> None:
    """Not a moment earlier, and then it goes."""
    line = new_line(limits)
    at_s = 1.0
    largest = [max(pair) for pair in zip(*map(line.pace.measures.reserved, costs), strict=True)]
    for number, length_s in enumerate(lengths_s):
        amounts = [max(rate * length_s, largest[place]) for place, rate in enumerate(line.pace.rates)]
        book(line, at_s, *amounts, joined=number > 0)
        at_s += line.pace.seconds(amounts)
    for cost in costs * 3:
        ready_s = ready_at_s(line, cost)
        if ready_s > 1e9:
            return
        assert take(line, [cost], ready_s - 1e-4) == []
        assert len(take(line, [cost], ready_s)) == 1
