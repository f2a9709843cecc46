"""What a call costs Redis: processor time inside the script, as Redis itself counts it (INFO commandstats).

Belongs here: calls made one after the other, each of which settles what the last one granted and is granted its rows.
Not here: what a worker pays (client_cost.py). Floors of the same run: PING, INCR, and a script that returns its
argument.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
from redis import Redis

from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.redis_link import RedisLink
from batch_llm.limiter.redis_schedule import RedisSchedule
from batch_llm.limiter.wire import Call, Item, Reply, Served
from benchmarks.limiter.case import Case
from benchmarks.limiter.machine import Machine, Watch
from benchmarks.limiter.redis_process import RedisProcess, redis_process

__all__ = ["run_redis_cost"]

CALLS = 200  # per chunk
CHUNKS_PER_S = 4
KNOWN = 1000
ROWS = 16.0
TOKENS = 500.0
ECHO = "return ARGV[1]"


class Worker:
    """One caller of the schedule, by hand."""

    def __init__(self, case: Case, schedule: RedisSchedule, name: str) -> None:
        """``name``: of the worker."""
        self._schedule = schedule
        self._rules = rules_of(case.limits, datetime.now(UTC))
        self._name = name
        self._last: Reply | None = None
        self._held: dict[str, list[float]] = {}
        self.granted = self.asked = 0

    async def call(self, users: list[str]) -> None:
        """One call for these tenants: settle what they hold, ask for 16 rows each."""
        last = self._last
        call = Call(
            self._name, last.epoch if last else 0, last.seq if last else 0, 0.0, self._rules,
            [self._item(user) for user in users], memory=last.memory if last else [],
        )  # fmt: skip
        reply = Reply.from_wire(await self._schedule.call(call.to_wire()))
        self._last = reply
        for user, grant in zip(users, reply.grants, strict=True):
            self.asked += 1
            if grant.served != Served.DENIED:
                self.granted += 1
                self._held[user] = grant.amounts

    def _item(self, user: str) -> Item:
        held = self._held.pop(user, [0.0, 0.0])
        listed = [ROWS, ROWS * TOKENS]
        row = [1.0, TOKENS]
        return Item(user, "job", 2, 1.0, int(ROWS), False, listed, row, row, held, held, [0.0, 0.0])


def run_redis_cost(case: Case, seconds: float) -> tuple[dict[str, float], Machine]:
    """Figures: us_1_tenant, us_4_tenants, the same .._at_1000, more_at_1000; the floors; the share granted."""
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_process(Path(folder)) as redis:
        figures = asyncio.run(_measure(case, redis, max(4, round(seconds * CHUNKS_PER_S))))
    return figures, watch.stop()


async def _measure(case: Case, redis: RedisProcess, chunks: int) -> dict[str, float]:
    with redis.client() as client:
        figures = _floors(client)
        async with RedisLink(redis.url) as link:
            schedule = RedisSchedule(link, case.limits.pool)
            worker = Worker(case, schedule, "worker")
            few = await _compare(client, worker, chunks)
            crowd = Worker(case, schedule, "crowd")
            for number in range(0, KNOWN, 4):
                await crowd.call([f"known{each:04}" for each in range(number, number + 4)])
            many = await _compare(client, worker, chunks)
    more = max(many[0] / few[0], many[1] / few[1]) - 1
    return figures | {
        "us_1_tenant": few[0],
        "us_4_tenants": few[1],
        "us_1_tenant_best": few[3],
        "us_4_tenants_best": few[4],
        "us_1_tenant_at_1000": many[0],
        "us_4_tenants_at_1000": many[1],
        "more_at_1000": more,
        "granted": worker.granted / worker.asked,
        "round_trip_us": few[2],
    }


async def _compare(client: Redis, worker: Worker, chunks: int) -> tuple[float, float, float, float, float]:
    """Microseconds per call in Redis with one tenant, with four, and per round trip with one; medians of chunks.

    The last two: the best chunks with one tenant and with four.
    """
    alone, together, trips = [], [], []
    for _ in range(chunks):
        spent, trip = await _chunk(client, lambda: worker.call(["ann"]))
        alone.append(spent)
        trips.append(trip)
        spent, _ = await _chunk(client, lambda: worker.call(["ann", "bob", "cid", "dee"]))
        together.append(spent)
    middle = statistics.median
    return middle(alone), middle(together), middle(trips), min(alone), min(together)


async def _chunk(client: Redis, call: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    calls, spent_us = _spent(client, "evalsha")
    began_s = time.monotonic()
    for _ in range(CALLS):
        await call()
    took_s = time.monotonic() - began_s
    calls_after, spent_after_us = _spent(client, "evalsha")
    return (spent_after_us - spent_us) / (calls_after - calls), 1e6 * took_s / CALLS


def _spent(client: Redis, command: str) -> tuple[int, int]:
    stats: dict[str, Any] = client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0, "usec": 0})
    return stats["calls"], stats["usec"]


def _floors(client: Redis) -> dict[str, float]:
    blob = msgpack.packb([0.0] * 60)
    sha = client.script_load(ECHO)
    figures = {}
    for name, command, run in (
        ("ping", "ping", client.ping),
        ("incr", "incrby", lambda: client.incrby("bench:floor")),
        ("empty_script", "evalsha", lambda: client.evalsha(sha, 0, blob)),
    ):
        before = _spent(client, command)
        began_s = time.monotonic()
        for _ in range(CALLS * CHUNKS_PER_S):
            run()
        took_s = time.monotonic() - began_s
        after = _spent(client, command)
        figures[f"floor_{name}_us"] = (after[1] - before[1]) / (after[0] - before[0])
        figures[f"floor_{name}_round_trip_us"] = 1e6 * took_s / (CALLS * CHUNKS_PER_S)
    return figures
