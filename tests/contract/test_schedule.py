"""Both schedules keep one contract, and answer every call with the same numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from batch_llm.limiter.memory import Memory
from batch_llm.limiter.redis_link import RedisLink
from batch_llm.limiter.redis_schedule import RedisSchedule
from batch_llm.limiter.schedule import PoolSchedule
from tests.contract.schedule_lab import STORIES, Caller, Pool, Step, pools, request, steps
from tests.redis_server import RedisServer, redis_executables, redis_server

START_US = 1_790_000_000_000_000


@pytest.fixture(scope="module", params=redis_executables(), ids=["redis-6.2", "redis-7"][: len(redis_executables())])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("schedule"), request.param) as running:
        yield running


class Twins:
    """One pool in Python and in Redis, at one virtual time."""

    def __init__(self, server: RedisServer) -> None:
        self.us = START_US
        self.python = PoolSchedule()
        self.redis = RedisSchedule(RedisLink(server.url), "twins", now_us=lambda: self.us)
        self._loop = asyncio.Runner()
        with server.client() as client:
            client.flushall()

    def __enter__(self) -> Twins:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self.redis.aclose())
        self._loop.close()

    def call(self, request: list[Any]) -> tuple[list[Any], list[Any]]:
        return self.python.call(self.us / 1e6, request), self._loop.run(self.redis.call(request))

    def change(self, change: list[Any]) -> None:
        self.python.change(self.us / 1e6, change)
        self._loop.run(self.redis._run("change", change))

    def memories(self) -> tuple[Memory, Memory]:
        return self.python.memory, self._loop.run(self.redis.read())[1]


def _live(twins: Twins, pool: Pool, life: list[Step]) -> None:
    callers = [Caller() for _ in range(4)]
    for step in life:
        twins.us = max(1, twins.us + step.later_us)
        if step.change is not None:
            twins.change(step.change)
            continue
        caller = callers[step.worker]
        python, redis = twins.call(request(pool, step, caller))
        assert redis == python
        caller.epoch, caller.seq, caller.days = python[0], python[1], python[9]
        for wish, grant in zip(step.wishes, python[10], strict=True):
            caller.granted[wish.tenant + 10 * wish.lane] = grant[4]


def _assert_equal(python: Memory, redis: Memory) -> None:
    for each in fields(Memory):
        assert getattr(redis, each.name) == getattr(python, each.name), each.name


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pool=pools(), life=steps())
def test_both_schedules_give_the_same_replies_and_remember_the_same(
    server: RedisServer, pool: Pool, life: list[Step]
) -> None:
    """Exactly the same doubles: any pool, any callers, honest or not, clocks that jump, people who change."""
    with Twins(server) as twins:
        _live(twins, pool, life)
        _assert_equal(*twins.memories())


@pytest.mark.parametrize("story", STORIES)
def test_both_schedules_agree_in_long_stories(server: RedisServer, story: str) -> None:
    """What random lives are too short for."""
    pool, life = STORIES[story]
    with Twins(server) as twins:
        _live(twins, pool, life)
        _assert_equal(*twins.memories())
