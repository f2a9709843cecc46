"""What a call costs Redis: processor time inside the script, as Redis itself counts it (INFO commandstats).

Belongs here: calls each of which settles what the last one granted and is granted its rows; pipelined, as where many
workers keep Redis at work, and one after the other, where it falls asleep between them.
Not here: what a worker pays (client_cost.py). Floors of the same run: PING, INCR, and a script that returns its
argument.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
from redis import Redis

from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.redis_link import RedisLink
from batch_llm.limiter.redis_schedule import REDIS_TIME, SCRIPT, RedisSchedule, _doubles, _numbers_of, _reply_of
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
        self._take(users, Reply.from_wire(await self._schedule.call(self._call(users).to_wire())))

    def call_in_a_row(self, users: list[str], client: Redis, times: int) -> None:
        """The same call so many times, without waiting for replies in between; all are granted the same."""
        request = self._call(users).to_wire()
        records, numbers = _numbers_of(request, REDIS_TIME)
        keys = self._schedule._keys
        sent = client.pipeline(transaction=False)
        for _ in range(times):
            sent.evalsha(SCRIPT.sha1, len(keys), *keys, "call", _doubles(numbers), *records)
        for packed in sent.execute():
            self._take(users, Reply.from_wire(_reply_of(packed, rules=len(self._rules), items=len(users))))

    def _call(self, users: list[str]) -> Call:
        last = self._last
        return Call(
            self._name, last.epoch if last else 0, last.seq if last else 0, 0.0, self._rules,
            [self._item(user) for user in users], memory=last.memory if last else [],
        )  # fmt: skip

    def _take(self, users: list[str], reply: Reply) -> None:
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


@dataclass
class Chunks:
    """Microseconds per call in Redis, chunk by chunk; on a shared machine the best one is the least disturbed."""

    alone_us: list[float] = field(default_factory=list)  # one tenant, pipelined
    together_us: list[float] = field(default_factory=list)  # four tenants, pipelined
    apart_us: list[float] = field(default_factory=list)  # one tenant, one by one
    trips_us: list[float] = field(default_factory=list)  # the round trips of these

    def more_alone(self, before: Chunks) -> float:
        """How much more one tenant costs, as a part."""
        return min(self.alone_us) / min(before.alone_us) - 1

    def more_together(self, before: Chunks) -> float:
        """How much more four tenants cost, as a part."""
        return min(self.together_us) / min(before.together_us) - 1


def run_redis_cost(case: Case, seconds: float) -> tuple[dict[str, float], Machine]:
    """Figures: us_1_tenant, us_4_tenants (best chunks), .._median, .._at_1000, .._one_by_one; floors; share granted."""
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
            few = await _chunks(client, worker, chunks)
            crowd = Worker(case, schedule, "crowd")
            for number in range(0, KNOWN, 4):
                await crowd.call([f"known{each:04}" for each in range(number, number + 4)])
            many = await _chunks(client, worker, chunks)
    return figures | {
        "us_1_tenant": min(few.alone_us),
        "us_4_tenants": min(few.together_us),
        "us_1_tenant_median": statistics.median(few.alone_us),
        "us_4_tenants_median": statistics.median(few.together_us),
        "us_1_tenant_one_by_one": statistics.median(few.apart_us),
        "us_1_tenant_at_1000": min(many.alone_us),
        "us_4_tenants_at_1000": min(many.together_us),
        "more_at_1000": max(many.more_alone(few), many.more_together(few)),
        "granted": worker.granted / worker.asked,
        "round_trip_us": statistics.median(few.trips_us),
    }


async def _chunks(client: Redis, worker: Worker, chunks: int) -> Chunks:
    four = ["ann", "bob", "cid", "dee"]
    costs = Chunks()
    for _ in range(chunks):
        with _counted(client, costs.apart_us):
            began_s = time.monotonic()
            for _ in range(CALLS):
                await worker.call(["ann"])
            costs.trips_us.append(1e6 * (time.monotonic() - began_s) / CALLS)
        with _counted(client, costs.alone_us):
            worker.call_in_a_row(["ann"], client, CALLS)
        await worker.call(four)
        with _counted(client, costs.together_us):
            worker.call_in_a_row(four, client, CALLS)
    return costs


@contextmanager
def _counted(client: Redis, costs: list[float]) -> Iterator[None]:
    """Adds the microseconds that one call took in Redis."""
    calls, spent_us = _spent(client, "evalsha")
    yield
    calls_after, spent_after_us = _spent(client, "evalsha")
    costs.append((spent_after_us - spent_us) / (calls_after - calls))


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
