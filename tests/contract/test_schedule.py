"""Both schedules keep one contract, and answer every call with the same numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from batch_llm.clock import ManualClock
from batch_llm.errors import LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter.base import Limits, PoolChange, Schedule
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.memory import Memory
from batch_llm.limiter.redis_link import RedisLink
from batch_llm.limiter.redis_schedule import RedisSchedule
from batch_llm.limiter.schedule import PoolSchedule
from batch_llm.limiter.wire import Call, Item, Reply, Served
from tests.contract.schedule_lab import STORIES, Caller, Pool, Step, pools, request, steps
from tests.redis_server import RedisServer, redis_executables, redis_server
from tests.search import examples

START_US = 1_790_000_000_000_000
LIMITS = Limits("openai:main", requests_per_minute=600, max_concurrency=10)


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


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
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


@pytest.fixture(params=["in process", "redis"])
async def schedule(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[tuple[Schedule, ManualClock]]:
    """Each implementation of the protocol, on a clock that stands."""
    clock = ManualClock()
    if request.param == "in process":
        yield InProcessSchedule(clock), clock
        return
    with server.client() as client:
        client.flushall()
    async with RedisLink(server.url) as link:
        yield RedisSchedule(link, LIMITS.pool, now_us=lambda: int(clock.now().timestamp() * 1e6)), clock


def _asked(rows: int, *, last: Reply | None = None, user: str = "ann", wanted: int = 4) -> list[Any]:
    item = Item(user, "tone", 2, 1.0, rows, False, [float(rows)], [1.0], [1.0], [0.0], [0.0], [0.0], rows, 0, wanted)
    rules = rules_of(LIMITS, ManualClock().now())
    epoch, seq = (0, 0) if last is None else (last.epoch, last.seq)
    return Call(f"worker of {user}", epoch, seq, 0.0, rules, [item], max_concurrency=10).to_wire()


async def test_a_call_books_a_slice_and_the_next_one_waits_for_its_turn(
    schedule: tuple[Schedule, ManualClock],
) -> None:
    pool, clock = schedule
    first = Reply.from_wire(await pool.call(_asked(4)))
    assert first.grants[0].served == Served.MET
    assert first.grants[0].amounts == [4.0]
    assert first.grants[0].permits == 4
    assert first.rates == [10.0]
    second = Reply.from_wire(await pool.call(_asked(4, last=first)))
    assert (second.epoch, second.seq) == (first.epoch, first.seq + 1)
    assert second.grants[0].served == Served.DENIED
    await clock.advance(second.grants[0].wait_s)
    third = Reply.from_wire(await pool.call(_asked(4, last=second)))
    assert third.grants[0].starts_s[0] == pytest.approx(first.grants[0].starts_s[0] + 0.4)


async def test_the_view_shows_what_callers_did_and_what_people_changed(schedule: tuple[Schedule, ManualClock]) -> None:
    pool, _ = schedule
    idle = await pool.view(LIMITS)
    assert [(each.name, each.declared, each.used_now) for each in idle.dimensions] == [
        ("requests", 600, 0),
        ("concurrency", 10, 0),
    ]
    assert idle.tenants == ()
    await pool.change(LIMITS, PoolChange({"requests_per_minute": 300}, {"ann": 2.0}))
    reply = Reply.from_wire(await pool.call(_asked(50)))
    assert reply.rates == [5.0]
    seen = await pool.view(LIMITS)
    assert seen.dimensions[0].in_force == 300
    assert seen.dimensions[0].changed_by_hand
    assert seen.dimensions[0].used_now > 0
    assert [(each.user, each.user_weight, each.waiting, each.processes, each.share) for each in seen.tenants] == [
        ("ann", 2.0, 50, 1, 1.0)
    ]


async def test_a_change_taken_back_leaves_what_is_declared(schedule: tuple[Schedule, ManualClock]) -> None:
    pool, _ = schedule
    await pool.change(LIMITS, PoolChange({"requests_per_minute": 300}, {"ann": 2.0}))
    before = Reply.from_wire(await pool.call(_asked(50)))
    await pool.change(LIMITS, PoolChange({"requests_per_minute": None}, {"ann": None}))
    after = Reply.from_wire(await pool.call(_asked(50, last=before)))
    assert (before.rates, after.rates) == ([5.0], [10.0])
    assert after.version > before.version
    assert (await pool.view(LIMITS)).tenants[0].user_weight == 1.0


async def test_a_users_new_weight_counts_while_it_works(schedule: tuple[Schedule, ManualClock]) -> None:
    """No need to wait until it is idle once."""
    pool, _ = schedule
    await pool.call(_asked(1000, user="ann", wanted=10))
    await pool.call(_asked(1000, user="bob", wanted=10))
    await pool.change(LIMITS, PoolChange(user_weights={"ann": 3.0}))
    ann = Reply.from_wire(await pool.call(_asked(1000, user="ann", wanted=10)))
    bob = Reply.from_wire(await pool.call(_asked(1000, user="bob", wanted=10)))
    assert (ann.grants[0].permits, bob.grants[0].permits) == (8, 2)


async def test_resume_ends_a_pause(schedule: tuple[Schedule, ManualClock]) -> None:
    pool, _ = schedule
    request = _asked(4)
    request[8] = [[0, 1, 60.0]]
    assert Reply.from_wire(await pool.call(request)).pause_s == 60.0
    paused = await pool.view(LIMITS)
    assert paused.paused_for_s == 60.0
    assert "goes on in 60.0 s" in paused.why
    await pool.change(LIMITS, PoolChange(resume=True))
    assert Reply.from_wire(await pool.call(_asked(4))).pause_s == 0.0
    assert (await pool.view(LIMITS)).factor == 1.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (PoolChange({"tokens_per_minute": 5.0}), "declares no tokens_per_minute"),
        (PoolChange({"rows_per_minute": 5.0}), "there is no limit 'rows_per_minute'; known: requests_per_minute"),
        (PoolChange({"requests_per_minute": 0.0}), "requests_per_minute must be a number above 0, got 0.0"),
        (PoolChange({"requests_per_minute": float("nan")}), "must be a number above 0, got nan"),
        (PoolChange(user_weights={"ann": -1.0}), "the weight of user 'ann' must be a number above 0, got -1.0"),
    ],
)
async def test_a_wrong_change_is_refused_and_changes_nothing(
    schedule: tuple[Schedule, ManualClock], change: PoolChange, told: str
) -> None:
    pool, _ = schedule
    with pytest.raises(LimiterError, match=told):
        await pool.change(LIMITS, PoolChange({"requests_per_minute": 60.0, **change.limits}, change.user_weights))
    assert (await pool.view(LIMITS)).dimensions[0].in_force == 600


async def test_redis_keys_share_one_hash_tag_and_go_after_their_time(server: RedisServer) -> None:
    async with RedisLink(server.url) as link:
        with server.client() as client:
            client.flushall()
            await RedisSchedule(link, "openai:main").call(_asked(1000))
            names = sorted(key.decode() for key in client.keys("*"))
            parts = ["backlogged", "holders", "known", "records", "state"]
            assert names == [f"batch_llm:{{openai:main}}:{part}" for part in parts]
            assert all(86_000 < client.ttl(name) <= 86_400 for name in names)
            await RedisSchedule(link, "openai:main").change(LIMITS, PoolChange(user_weights={"ann": 2.0}))
            assert all(86_400 < client.ttl(key) <= 604_800 for key in client.keys("*"))


async def test_what_is_left_of_a_lost_state_does_not_count(server: RedisServer) -> None:
    """A Redis that dropped one key: the permits and shares of the others would never return."""
    async with RedisLink(server.url) as link:
        with server.client() as client:
            client.flushall()
            us = START_US
            schedule = RedisSchedule(link, "openai:main", now_us=lambda: us)
            first = Reply.from_wire(await schedule.call(_asked(1000, user="bob")))
            client.delete("batch_llm:{openai:main}:state")
            us += 1000
            after = Reply.from_wire(await schedule.call(_asked(1000, user="ann")))
            assert after.epoch > first.epoch
            _, memory = await schedule.read()
            assert sorted(memory.backlogged) == ["c2\x1fann\x1ftone\x1fworker of ann"]


async def test_a_record_that_is_missing_stops_nobody(server: RedisServer) -> None:
    """Nor is its caller looked for for ever."""
    us = START_US
    async with RedisLink(server.url) as link:
        with server.client() as client:
            client.flushall()
            schedule = RedisSchedule(link, "openai:main", now_us=lambda: us)
            await schedule.call(_asked(1000, user="bob"))
            client.delete("batch_llm:{openai:main}:records")
            for later_us in (4_000_000, 11_000_000, 700_000_000):
                us = START_US + later_us
                await schedule.call(_asked(1000, user="ann"))
            _, memory = await schedule.read()
            assert sorted(memory.known) == ["c2\x1fann\x1ftone\x1fworker of ann"]


async def test_redis_errors_come_as_errors_of_the_limiter(server: RedisServer, tmp_path: Path) -> None:
    async with RedisLink(server.url) as link:
        with server.client() as client:
            client.flushall()
            client.lpush("batch_llm:{openai:main}:state", "not ours")
            with pytest.raises(LimiterStoreError, match="batch_llm's keys"):
                await RedisSchedule(link, "openai:main").call(_asked(4))
    async with RedisLink(f"unix://{tmp_path}/nobody.sock") as link:
        with pytest.raises(LimiterUnreachable):
            await RedisSchedule(link, "openai:main").view(LIMITS)
