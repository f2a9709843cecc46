"""What one tenant asks the schedule for, on a scripted schedule."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.limiter.base import Cost, Limits
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
