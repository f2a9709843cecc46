"""Tokens waiting in native batches: in this process and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.errors import NeverFits
from batch_llm.limiter.enqueued import FORGOTTEN_S, EnqueuedTokens, InProcessEnqueued, RedisEnqueued
from batch_llm.limiter.redis_link import RedisLink
from tests.redis_server import RedisServer, redis_executables, redis_server
from tests.search import examples

POOL = "openai:main"
STEPS = st.one_of(
    st.tuples(st.just("take"), st.sampled_from("abcd"), st.integers(0, 60)),
    st.tuples(st.just("give_back"), st.sampled_from("abcd"), st.just(0)),
    st.tuples(st.just("pause"), st.just(""), st.sampled_from([1, int(FORGOTTEN_S) // 2, int(FORGOTTEN_S) + 1])),
)


@pytest.fixture(scope="module", params=redis_executables(), ids=lambda path: Path(path).parent.name)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("enqueued"), request.param) as started:
        yield started


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def of_redis(link: RedisLink, clock: ManualClock) -> RedisEnqueued:
    return RedisEnqueued(link, now_us=lambda: round(clock.now().timestamp() * 1_000_000))


@pytest.fixture(params=["in process", "redis"])
async def enqueued(
    request: pytest.FixtureRequest, clock: ManualClock, server: RedisServer
) -> AsyncIterator[EnqueuedTokens]:
    with server.client() as client:
        client.flushall()
    async with RedisLink(server.url) as link:
        yield InProcessEnqueued(clock) if request.param == "in process" else of_redis(link, clock)


async def test_batches_are_counted_up_to_the_limit_until_they_end(enqueued: EnqueuedTokens) -> None:
    assert await enqueued.take(POOL, "a", 60, 100)
    assert not await enqueued.take(POOL, "b", 41, 100)
    assert await enqueued.take(POOL, "b", 40, 100)
    assert await enqueued.taken(POOL) == 100
    assert await enqueued.take("openai:other", "c", 100, 100)  # another pool
    await enqueued.give_back(POOL, "a")
    assert await enqueued.take(POOL, "c", 60, 100)


async def test_taking_and_giving_back_twice_changes_nothing(enqueued: EnqueuedTokens) -> None:
    for _ in range(2):
        assert await enqueued.take(POOL, "a", 60, 100)
    assert await enqueued.taken(POOL) == 60
    for _ in range(2):
        await enqueued.give_back(POOL, "a")
    assert await enqueued.taken(POOL) == 0


async def test_a_batch_larger_than_the_limit_is_refused_at_once(enqueued: EnqueuedTokens) -> None:
    with pytest.raises(NeverFits, match=r"a batch of 101 tokens .* openai:main, 100 tokens"):
        await enqueued.take(POOL, "a", 101, 100)
    with pytest.raises(ValueError, match="negative"):
        await enqueued.take(POOL, "a", -1, 100)


async def test_a_batch_that_nobody_harvests_does_not_block_the_pool_for_ever(
    enqueued: EnqueuedTokens, clock: ManualClock
) -> None:
    assert await enqueued.take(POOL, "a", 100, 100)
    await clock.advance(FORGOTTEN_S)
    assert not await enqueued.take(POOL, "b", 1, 100)
    await clock.advance(1)
    assert await enqueued.take(POOL, "b", 1, 100)


async def test_another_process_counts_them_too(server: RedisServer) -> None:
    async with RedisLink(server.url) as first, RedisLink(server.url) as second:
        assert await RedisEnqueued(first).take("shared:main", "a", 60, 100)
        assert not await RedisEnqueued(second).take("shared:main", "b", 60, 100)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=30))
def test_both_answer_the_same(server: RedisServer, steps: list[tuple[str, str, int]]) -> None:
    async def drive() -> None:
        clock = ManualClock()
        with server.client() as client:
            client.flushall()
        async with RedisLink(server.url) as link:
            both: tuple[EnqueuedTokens, EnqueuedTokens] = (InProcessEnqueued(clock), of_redis(link, clock))
            for what, batch, number in steps:
                match what:
                    case "take":
                        one, other = [await each.take(POOL, batch, number, 100) for each in both]
                        assert one == other
                    case "give_back":
                        for each in both:
                            await each.give_back(POOL, batch)
                    case _:
                        clock._now += number
                assert await both[0].taken(POOL) == await both[1].taken(POOL) <= 100

    asyncio.run(drive())
