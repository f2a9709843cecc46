"""The ledger of money: in this process and in Redis, the same calls get the same replies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.errors import ConfigurationError
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.ledger import (
    BEYOND_ANY_CAP,
    DAY_CAP,
    MOST_NANO,
    SETTLING_S,
    LedgerCall,
    SliceReport,
    nano_up,
    usd_of,
    user_cap,
    user_day_cap,
)
from batch_llm.limiter.redis_ledger import RedisLedger
from batch_llm.limiter.redis_link import RedisLink
from tests.redis_server import RedisServer, redis_executables, redis_server
from tests.search import examples

MONEY = st.integers(0, 40)
CAPS = st.one_of(st.none(), st.integers(0, 60), st.just(MOST_NANO))
USERS = ("alice", "bob: 2026-01-01", "zoë")
PAUSES_S = (0.0, 0.4, 1.0, 3.1, 31.0, 3_601.0, 86_400.0, 9 * 86_400.0)

CALLS = st.builds(
    LedgerCall,
    writer=st.sampled_from(["w0", "w1", "w2", "w3"]),
    sequence=st.just(0),
    epoch=st.just(0),
    run=st.sampled_from(["r0", "r1"]),
    user=st.sampled_from(USERS),
    cap_nano=CAPS,
    held_nano=MONEY,
    kept_nano=MONEY,
    least_nano=st.one_of(MONEY, st.just(BEYOND_ANY_CAP)),
    want_nano=MONEY,
    reports=st.lists(st.builds(SliceReport, st.integers(0, 2), MONEY, MONEY), max_size=3).map(tuple),
    seed=st.lists(st.tuples(st.integers(0, 3), MONEY), max_size=3).map(tuple),
    closing=st.sampled_from([False] * 5 + [True]),
)
CAP_NAMES = st.sampled_from([DAY_CAP, *(name(user) for user in USERS for name in (user_cap, user_day_cap))])
TIMES = st.sampled_from(["none", "now", "earlier"])
STEPS = st.one_of(
    st.tuples(st.just("call"), CALLS, TIMES, TIMES, st.integers(0, 9)),
    st.tuples(st.just("caps"), st.dictionaries(CAP_NAMES, CAPS, max_size=3)),
    st.tuples(st.just("pause"), st.sampled_from(PAUSES_S)),
    st.just(("empty",)),
    st.just(("alone",)),
)


@pytest.fixture(scope="module", params=redis_executables(), ids=lambda path: Path(path).parent.name)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("ledger"), request.param) as started:
        yield started


class Pair:
    """Both ledgers on one clock, driven by one caller."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.clock = ManualClock()
        self.link = RedisLink(server.url)
        self.in_redis = RedisLedger(self.link, now_us=lambda: round(self.clock.now().timestamp() * 1_000_000))
        self.in_process = InProcessLedger(self.clock, settling_s=SETTLING_S)
        self.sequences: dict[str, int] = {}
        self.epoch = self.heard_us = 0

    async def step(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("pause", pause_s):
                self.clock._now += pause_s
            case ("empty",):
                self.empty()
            case ("alone",):
                for ledger in (self.in_redis, self.in_process):
                    await ledger.settle_now()
            case ("caps", caps):
                usd = {name: None if cap is None else usd_of(cap) for name, cap in caps.items()}
                for ledger in (self.in_redis, self.in_process):
                    await ledger.set_caps(usd)
            case ("call", call, as_of, alone, ahead):
                await self.call(call, as_of, alone, ahead)
        assert set(await self.in_redis.view()) == set(await self.in_process.view())

    def empty(self) -> None:
        self.clock._now += 0.001
        with self.server.client() as client:
            client.flushall()
        self.in_process = InProcessLedger(self.clock, settling_s=SETTLING_S)

    async def call(self, call: LedgerCall, as_of: str, alone: str, ahead: int) -> None:
        """``ahead`` 0: a call of this writer that arrives too late; 1: it knows of no epoch."""
        if ahead:
            self.sequences[call.writer] = self.sequences.get(call.writer, 0) + 1
        now_us = round(self.clock.now().timestamp() * 1_000_000)
        times = {"none": 0, "now": now_us, "earlier": self.heard_us}
        call = replace(
            call,
            sequence=self.sequences.get(call.writer, 0),
            epoch=0 if ahead == 1 else self.epoch,
            as_of_us=times[as_of],
            alone_us=times[alone],
        )
        replies = [await ledger.call(call) for ledger in (self.in_redis, self.in_process)]
        assert replies[0] == replies[1]
        self.epoch, self.heard_us = replies[0].epoch, replies[0].now_us


PLAIN = LedgerCall("w0", 0, 0, "r0", "alice", cap_nano=None)
FORGOTTEN_WITHOUT_MONEY = [
    ("call", replace(PLAIN, run="r1"), "none", "none", 1),
    ("pause", 3_601.0),
    ("call", replace(PLAIN, writer="w1"), "none", "none", 2),  # w0 is forgotten
    ("call", replace(PLAIN, writer="w1", run="r1"), "now", "none", 2),  # the journals of its run are read
    ("call", replace(PLAIN, writer="w1", run="r1"), "none", "none", 2),
]


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=40))
@example(steps=FORGOTTEN_WITHOUT_MONEY)
def test_both_ledgers_answer_the_same(server: RedisServer, steps: list[tuple[Any, ...]]) -> None:
    async def drive() -> None:
        pair = Pair(server)
        pair.empty()
        async with pair.link:
            for step in steps:
                await pair.step(step)

    asyncio.run(drive())


async def test_a_redis_that_was_restarted_settles_anew(server: RedisServer) -> None:
    """It may be back with an older state than its writers know of: nothing is promised before they spoke."""
    call = LedgerCall("w", 1, 0, "r", "u", cap_nano=None)
    async with RedisLink(server.url) as link:
        await RedisLedger(link).set_caps({user_cap("u"): Decimal(1)})
        before = await RedisLedger(link).call(call)
    server.stop()
    server.start()
    async with RedisLink(server.url) as link:
        ledger = RedisLedger(link)
        after = await ledger.call(replace(call, sequence=2, epoch=before.epoch, least_nano=1))
        assert after.epoch > before.epoch and not after.known
        again = await ledger.call(replace(call, sequence=3, epoch=after.epoch, least_nano=1))
        assert again.denial is not None and again.denial.kind == "" and again.denial.may_come


async def test_a_server_that_nobody_else_uses_need_not_settle(tmp_path: Path) -> None:
    """Only as long as it runs: when it is back after a restart, others may have come meanwhile."""
    call = LedgerCall("w", 1, 0, "r", "u", cap_nano=None)
    with redis_server(tmp_path) as server:
        async with RedisLink(server.url) as link:
            ledger = RedisLedger(link)
            await ledger.settle_now()
            await ledger.set_caps({DAY_CAP: Decimal(1)})
            epoch = (await ledger.call(call)).epoch
            reply = await ledger.call(replace(call, sequence=2, epoch=epoch, least_nano=nano_up(Decimal(1))))
            assert reply.denial is None and reply.reserve_nano == nano_up(Decimal(1))
        server.stop()
        server.start()
        async with RedisLink(server.url) as link:
            ledger = RedisLedger(link)
            epoch = (await ledger.call(replace(call, sequence=3, epoch=epoch))).epoch
            again = await ledger.call(replace(call, sequence=4, epoch=epoch, least_nano=1))
            assert again.denial is not None and again.denial.kind == ""


@pytest.mark.parametrize("caps", [{"day:": Decimal(1)}, {"user:": Decimal(1)}, {DAY_CAP: Decimal("NaN")}])
async def test_caps_that_are_none_are_refused(caps: dict[str, Decimal | None]) -> None:
    with pytest.raises(ConfigurationError):
        await InProcessLedger(ManualClock()).set_caps(caps)


async def test_a_small_nano_amount_survives_the_way_through_redis(server: RedisServer) -> None:
    async with RedisLink(server.url) as link:
        await RedisLedger(link).set_caps({user_cap("exact"): usd_of(MOST_NANO)})
        views = {view.scope: view.cap_usd for view in await RedisLedger(link).view()}
        assert views["user:exact"] == usd_of(MOST_NANO)
