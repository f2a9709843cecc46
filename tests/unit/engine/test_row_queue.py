"""The rows that wait to be sent: their order, their room, and how far is read ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.engine.row_queue import AGAIN_BYTES, AGAIN_MAX, AHEAD_BYTES, LISTED_MAX, RowQueue
from batch_llm.engine.window import Standing
from batch_llm.engine.work import Work
from batch_llm.limiter.base import Cost
from batch_llm.providers.base import Message, Request

FAILURE: Any = object()


def row(number: int) -> Work:
    request = Request(f"r-{number}", "m", (Message("user", "?"),), {}, None)
    nowhere: Any = None
    return Work(nowhere, number, request, "h", 1, Cost(1, 1), attempt=1, first_messages=1)


async def rows(count: int) -> AsyncIterator[Work]:
    for number in range(count):
        yield row(number)


async def filled(queue: RowQueue, count: int, *, ahead: int = 1_000_000) -> asyncio.Task[None]:
    """Let the queue read as far as it does by itself; the task that reads."""
    reading = asyncio.create_task(queue.read(rows(count), lambda: True, lambda: ahead))
    await asyncio.sleep(0)
    return reading


def numbers(works: list[Work]) -> list[int]:
    return [work.row for work in works]


async def test_rows_come_in_order_and_stay_until_they_are_sent() -> None:
    """What the limiter does not let go now stands at the front the next time."""
    queue = RowQueue(ManualClock())
    await filled(queue, 5)
    listed = queue.listed(3)
    assert numbers(listed) == numbers(queue.listed(3)) == [0, 1, 2]
    queue.sent(listed[0])
    queue.sent(listed[1])
    assert numbers(queue.listed(10)) == [2, 3, 4]
    assert queue.more(2) and not queue.more(3)


async def test_what_is_due_again_comes_before_what_was_never_sent() -> None:
    """In the order in which it is due."""
    clock = ManualClock()
    queue = RowQueue(clock)
    await filled(queue, 2)
    queue.again(row(10), 5.0)
    queue.again(row(11), 3.0)
    assert numbers(queue.listed(10)) == [0, 1]
    await clock.advance(5.0)
    assert numbers(queue.listed(10)) == [11, 10, 0, 1]


async def test_rows_that_wait_to_be_asked_again_take_no_room() -> None:
    """Neither in back-off nor after a 429: they are not in flight. What is due waits for room like any other."""
    clock = ManualClock()
    queue = RowQueue(clock)
    await filled(queue, 9)
    throttled = row(11)
    throttled.throttles = 1
    queue.again(row(10), 5.0)
    queue.again(throttled, 5.0)
    assert numbers(queue.listed(2)) == [0, 1]
    await clock.advance(5.0)
    assert numbers(queue.listed(0)) == []
    assert numbers(queue.listed(1)) == [10]
    assert numbers(queue.listed(3)) == [10, 11, 0]


@pytest.mark.parametrize(("count", "held_bytes"), [(AGAIN_MAX, 1), (4, AGAIN_BYTES // 4)])
async def test_where_very_many_wait_to_be_asked_again_nothing_new_is_sent(count: int, held_bytes: int) -> None:
    """Or very large ones: memory does not follow the number of rows that fail."""
    clock = ManualClock()
    queue = RowQueue(clock)
    await filled(queue, 1)
    for number in range(count):
        waiting = row(10 + number)
        waiting.input_bytes = held_bytes
        queue.again(waiting, 5.0)
    assert queue.listed(9) == []
    assert queue.claimed(9, queue.claim("a")) == []
    assert numbers(queue.listed(9, Standing.AWAY)) == [0]
    await clock.advance(5.0)
    queue.sent(queue.listed(1)[0])
    assert 0 in numbers(queue.listed(LISTED_MAX)) or count > LISTED_MAX


async def test_a_provider_that_may_be_away_is_sent_no_more_than_its_window_holds() -> None:
    """Rows that failed and wait count: else a whole table would be tried before it is known to be away."""
    queue = RowQueue(ManualClock())
    await filled(queue, 9)
    for number in range(3):
        queue.again(row(10 + number), 5.0)
    assert numbers(queue.listed(3)) == [0, 1, 2]
    assert queue.listed(3, Standing.IN_DOUBT) == []
    assert numbers(queue.listed(4, Standing.IN_DOUBT)) == [0, 1, 2, 3]


async def test_a_pool_that_is_away_is_probed_with_rows_that_did_not_fail() -> None:
    """Then with those that did, each time with another one."""
    clock = ManualClock()
    queue = RowQueue(clock)
    await filled(queue, 1)
    failing = [row(number) for number in (10, 11)]
    for work in failing:
        work.failure = FAILURE
        queue.again(work, 0.0)
    queue.again(row(12), 0.0)
    assert numbers(queue.listed(4)) == [12, 10, 11, 0]
    assert numbers(queue.listed(4, Standing.AWAY)) == [12, 0, 10, 11]
    for expected in (12, 0, 10, 11, 10, 11):
        (probe,) = queue.listed(1, Standing.AWAY)
        assert probe.row == expected
        queue.sent(probe)
        if probe in failing:
            queue.again(probe, 0.0)


async def test_it_reads_as_far_ahead_as_it_is_told_and_not_without_room() -> None:
    room = False
    queue = RowQueue(ManualClock())
    reading = asyncio.create_task(queue.read(rows(20), lambda: room, lambda: 4))
    await asyncio.sleep(0)
    assert queue.listed(20) == [] and queue.more(0)
    room = True
    queue.wake()
    await asyncio.sleep(0)
    assert numbers(queue.listed(20)) == [0, 1, 2, 3]
    queue.sent(queue.listed(20)[0])
    await asyncio.sleep(0)
    assert numbers(queue.listed(20)) == [1, 2, 3, 4]
    while not queue.is_empty:
        for work in queue.listed(20):
            queue.sent(work)
        await asyncio.sleep(0)
    await reading


async def test_the_limiter_is_never_shown_more_than_it_can_use() -> None:
    queue = RowQueue(ManualClock())
    await filled(queue, 3 * LISTED_MAX)
    assert len(queue.listed(3 * LISTED_MAX)) == LISTED_MAX
    assert queue.more(LISTED_MAX)


@pytest.mark.parametrize("delay_s", [0.0, 7.0])
async def test_waiting_ends_when_a_row_is_due(delay_s: float) -> None:
    """By itself: nobody else need wake it."""
    clock = ManualClock()
    queue = RowQueue(clock)
    queue.again(row(1), delay_s)
    waiting = asyncio.create_task(queue.changed())
    await asyncio.sleep(0)
    await clock.advance(delay_s)
    await waiting
    assert numbers(queue.listed(1)) == [1]


async def large_rows(of: str) -> AsyncIterator[Work]:
    """Nine rows of eight megabytes each."""
    for number in range(9):
        work = row(number)
        setattr(work, of, AHEAD_BYTES // 4)
        yield work


@pytest.mark.parametrize("of", ["input_bytes", "image_bytes"])
async def test_it_reads_no_further_ahead_than_memory_allows(of: str) -> None:
    """Four of such rows, of text or images, are read, and one more for each that is sent."""
    queue = RowQueue(ManualClock())
    reading = asyncio.create_task(queue.read(large_rows(of), lambda: True, lambda: 1_000))
    await asyncio.sleep(0)
    assert numbers(queue.listed(20)) == [0, 1, 2, 3]
    queue.sent(queue.listed(20)[0])
    await asyncio.sleep(0)
    assert numbers(queue.listed(20)) == [1, 2, 3, 4]
    reading.cancel()


# -- several pools ----------------------------------------------------------------------------------------------------


async def test_several_pools_list_different_rows() -> None:
    """None is asked for twice; a pool that lists again begins at the front."""
    queue = RowQueue(ManualClock())
    a, b = queue.claim("a"), queue.claim("b")
    await filled(queue, 6)
    assert numbers(queue.claimed(2, a)) == [0, 1]
    assert numbers(queue.claimed(2, b)) == [2, 3]
    assert numbers(queue.claimed(3, a)) == [0, 1, 4]
    assert numbers(queue.claimed(0, b)) == [] and numbers(queue.claimed(9, a)) == [0, 1, 4, 2, 3, 5]


@pytest.mark.parametrize("of", ["input_bytes", "image_bytes"])
async def test_a_row_that_one_of_several_pools_took_makes_room_for_another(of: str) -> None:
    queue = RowQueue(ManualClock())
    claim = queue.claim("a")
    reading = asyncio.create_task(queue.read(large_rows(of), lambda: True, lambda: 1_000))
    await asyncio.sleep(0)
    for number in range(9):
        first = queue.claimed(1, claim)[0]
        assert first.row == number
        assert queue.take(first, claim)
        await asyncio.sleep(0)
    await reading


async def test_a_pool_without_rows_lists_those_of_the_others_from_their_end() -> None:
    """Whoever sends a row first has it; the other one is told so."""
    queue = RowQueue(ManualClock())
    a, b = queue.claim("a"), queue.claim("b")
    await filled(queue, 3)
    held = queue.claimed(9, a)
    assert numbers(queue.claimed(9, b)) == [2, 1, 0]
    assert queue.take(held[2], b)
    assert not queue.waits(held[2], a) and not queue.take(held[2], a)
    assert queue.take(held[0], a) and queue.take(held[1], a) and queue.is_empty


async def test_a_row_that_was_given_back_can_still_be_taken() -> None:
    """Its pool listed anew while another one waited for it as well."""
    queue = RowQueue(ManualClock())
    a, b = queue.claim("a"), queue.claim("b")
    await filled(queue, 1)
    held = queue.claimed(9, a)
    assert queue.claimed(9, b) == held
    queue.give_back(a)
    assert not queue.is_empty and queue.waiting == held
    assert queue.take(held[0], b) and queue.is_empty


async def test_rows_to_be_asked_again_take_no_room_of_another_pool() -> None:
    """They failed at a pool that is away; those that are due go first."""
    clock = ManualClock()
    queue = RowQueue(clock)
    a = queue.claim("a")
    await filled(queue, 2)
    for number in (10, 11, 12):
        queue.again(row(number), 5.0)
    assert numbers(queue.claimed(2, a)) == [0, 1]
    await clock.advance(5.0)
    assert numbers(queue.claimed(4, a)) == [10, 11, 12, 0]


async def test_one_of_several_pools_that_is_away_is_probed_with_rows_that_did_not_fail() -> None:
    queue = RowQueue(ManualClock())
    a, b = queue.claim("a"), queue.claim("b")
    await filled(queue, 2)
    failing = row(10)
    failing.failure = FAILURE
    queue.again(failing, 0.0)
    assert numbers(queue.claimed(2, a)) == [10, 0]
    assert numbers(queue.claimed(3, a, Standing.AWAY)) == [0, 1, 10]
    assert numbers(queue.claimed(1, b, Standing.AWAY)) == [1]


async def test_all_that_wait_can_be_dropped_at_once() -> None:
    queue = RowQueue(ManualClock())
    claim = queue.claim("a")
    await filled(queue, 2)
    queue.again(row(10), 5.0)
    held = queue.claimed(1, claim)
    queue.clear()
    assert queue.is_empty and queue.waiting == [] and not queue.take(held[0], claim)


async def test_a_row_goes_to_no_pool_whose_limit_is_smaller() -> None:
    queue = RowQueue(ManualClock())
    a, b = queue.claim("a"), queue.claim("b")
    await filled(queue, 3)
    large = queue.claimed(1, a)[0]
    large.fits_not |= {"a"}
    assert numbers(queue.claimed(9, a)) == [1, 2]
    assert numbers(queue.claimed(9, b)) == [0]
    queue.give_back(a)
    assert numbers(queue.claimed(1, a)) == [1]


async def test_what_stands_for_a_row_is_sent_in_its_place() -> None:
    """A row that was never sent, one that waits to be sent again, one of a pool's claim."""
    clock = ManualClock()
    queue = RowQueue(clock)
    await filled(queue, 3)
    queue.again(row(10), 0.0)
    due, first, *_ = queue.listed(10)
    queue.replace(first, [row(20), row(21)])
    queue.replace(due, [row(30), row(31)])
    claim = queue.claim("a")
    assert numbers(queue.claimed(3, claim)) == [30, 31, 20]
    queue.replace(claim.fresh[0], [row(40), row(41)])
    assert numbers(queue.claimed(10, claim)) == [30, 31, 40, 41, 21, 1, 2]
    while listed := queue.claimed(10, claim):
        assert queue.take(listed[0], claim)
    assert queue.is_empty and (queue._fresh_bytes, queue._again_bytes, queue._again) == (0, 0, {})
