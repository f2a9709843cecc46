"""What one tenant asks the schedule for, on a scripted schedule."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from batch_llm.limiter.base import Cost, Limits, Tenant
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.lease_demand import COVERED_ROWS, LISTED_ROWS, question_of
from batch_llm.limiter.lease_line import Line, Pace, Slice, Waiter
from batch_llm.limiter.pacing import ready_at_s
from tests.unit.limiter.scripted_schedule import Lab, denied, granted, run

ROW = Cost(10, 0)
TEN_PER_S = Limits("p", requests_per_minute=600)


def ten_per_s(*script: dict[str, Any], **options: Any) -> Lab:
    return Lab(TEN_PER_S, [10.0], *script, **options)


def test_the_question_lists_the_rows_that_wait() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(Cost(10, 5), Cost(40, 0), Cost(20, 1))
        await lab.clock.advance(0.1)

    limits = Limits("p", requests_per_minute=600, tokens_per_minute=6_000)
    lab = run(lambda: Lab(limits, [10.0, 100.0], denied()), scenario)
    item = lab.schedule.rows_asked()[0]
    assert (item["rows"], item["more"]) == (3, 0)
    assert (item["cost"], item["first"], item["largest"]) == ([3, 76], [1, 15], [1, 40])


def test_what_is_booked_already_is_not_asked_for_again() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(ROW, ROW)
        await lab.clock.advance(0.05)

    lab = run(lambda: ten_per_s(granted(1.5)), scenario)
    assert [item["cost"] for item in lab.schedule.rows_asked()][:2] == [[2], [0.5]]


def test_as_many_rows_are_listed_as_suit_and_none_that_is_covered_already() -> None:
    """So the slice holds the very rows that will leave in it, whole."""

    async def scenario(lab: Lab) -> None:
        lab.ask(*[Cost(tokens, 0) for tokens in (50, 50, 10, 10, 90, 90, 90, 90)])
        await lab.clock.advance(0.05)

    limits = Limits("p", requests_per_minute=600, tokens_per_minute=6_000)
    lab = run(lambda: Lab(limits, [10.0, 100.0], granted(2, 100, suits_s=1.0)), scenario)
    item = lab.schedule.rows_asked()[1]
    assert (item["rows"], item["more"]) == (3, 1)
    assert item["cost"] == [3, 110]
    assert item["first"] == pytest.approx([1, 10])


def test_of_the_first_row_only_what_the_rest_of_a_slice_lacks_is_asked_for() -> None:
    async def scenario(lab: Lab) -> None:
        lab.ask(*[Cost(tokens, 0) for tokens in (50, 50, 40, 90, 90)])
        await lab.clock.advance(0.05)

    limits = Limits("p", requests_per_minute=600, tokens_per_minute=6_000)
    lab = run(lambda: Lab(limits, [10.0, 100.0], granted(3, 130, suits_s=1.0)), scenario)
    item = lab.schedule.rows_asked()[1]
    assert (item["rows"], item["cost"], item["first"]) == (2, [2, 100], [1, 10])


def test_a_consumer_with_more_rows_gets_the_mixture_of_its_mean_row() -> None:
    async def scenario(lab: Lab) -> None:
        lab.feed(Cost(30, 0), listed=1)
        await lab.clock.advance(1)
        lab.tasks.pop().cancel()
        lab.feed(Cost(90, 0), listed=1)
        await lab.clock.advance(1)

    limits = Limits("p", requests_per_minute=600, tokens_per_minute=60_000)
    lab = run(lambda: Lab(limits, [10.0, 1e3], granted(10, 300, suits_s=1.0)), scenario)
    item = lab.schedule.rows_asked()[-1]
    assert item["more"] == 1
    assert item["rows"] == 10
    assert item["cost"] == pytest.approx([10, 90 + 9 * 30])  # a slice that suits: this row and nine mean ones


def line_with(limits: Limits, *costs: Cost) -> Line:
    """A line on which somebody waits for these rows."""
    pace = Pace(limits, rules_of(limits, datetime(2026, 1, 1, tzinfo=UTC)), 0.005)
    pace.epoch = 1
    line = Line(Tenant("a", "j"), pace, None, limited=False)
    loop = asyncio.new_event_loop()
    line.waiters.append(Waiter(list(costs), loop.create_future(), more=False))
    loop.close()
    return line


def test_what_has_no_time_left_for_the_first_row_is_asked_for_anew() -> None:
    """The row before was long: its slice is over before the next one may go, and behind it the next slice as well."""
    line = line_with(Limits("p", tokens_per_minute=6_000), Cost(8, 0))
    late, following = Slice(line.pace, [100.0], [8.0], 100.0), Slice(line.pace, [100.08], [8.0], 100.0)
    late.next_s = [100.2]
    line.slices.extend([late, following])
    assert ready_at_s(line, Cost(8, 0)) == math.inf
    question = question_of(line, 100.1)
    assert question is not None
    assert question.cost == [8]


def test_rows_that_take_nothing_are_not_asked_for() -> None:
    free, limited = Cost(9, 0), Cost(9, 8)
    line = line_with(Limits("p", output_tokens_per_minute=6_000), free, free, limited)
    line.slices.append(Slice(line.pace, [0.0], [0.0], 0.0))
    assert ready_at_s(line, free) == 0
    question = question_of(line, 0.0)
    assert question is not None
    assert (question.rows, question.cost, question.first) == (1, [8], [8])


def test_a_long_list_is_not_walked_to_its_end_at_each_question() -> None:
    line = line_with(Limits("p", tokens_per_minute=6_000_000), *[Cost(1, 0)] * 20_000)
    line.slices.append(Slice(line.pace, [100.0], [15_000.0], 100.0))
    question = question_of(line, 100.0)
    assert question is not None
    assert question.more
    assert question.seen <= COVERED_ROWS + LISTED_ROWS
