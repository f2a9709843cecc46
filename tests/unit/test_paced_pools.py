"""Which pool a call of a user's own goes to: each is let go once, by the first that can, and nothing stays reserved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.errors import (
    AuthenticationFailed,
    ErrorClass,
    LimiterError,
    LimiterUnreachable,
    NeverFits,
    ProviderError,
    QuotaExhausted,
)
from batch_llm.limiter.base import Cost, Limits, PoolState, Reservation, Tenant
from batch_llm.paced_pools import CallPools

TENANT = Tenant("me", "notebook")


class Gate:
    """A limiter that lets one call go each so many seconds; ``error``: what it says instead."""

    def __init__(self, clock: ManualClock, every_s: float, error: Exception | None = None) -> None:
        self.clock, self.every_s, self.error = clock, every_s, error
        self.open: list[Reservation] = []
        self.paused_for_s = 0.0
        self.released = 0

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        if self.error is not None:
            raise self.error
        await self.clock.sleep(self.every_s)
        self.open.append(Reservation(tenant, costs[0], 0.0))
        return self.open[-1:]

    def release(self, reservation: Reservation) -> None:
        self.open.remove(reservation)
        self.released += 1

    def state(self) -> PoolState:
        return PoolState("p", None, None, 0, self.paused_for_s, None)


class Bench:
    """Two pools, `a` and `b`."""

    def __init__(self, a_s: float = 0.1, b_s: float = 0.1) -> None:
        self.clock = ManualClock()
        self.gates = {"a": Gate(self.clock, a_s), "b": Gate(self.clock, b_s)}
        made: Any = [SimpleNamespace(name=name, limits=Limits(name), limiter=gate) for name, gate in self.gates.items()]
        self.pools = CallPools(made, TENANT, self.clock)
        self.went: list[str] = []
        self.failing = ""  # the pool whose calls fail

    async def call(self) -> None:
        """One call: let go, answered at once."""
        pool, reservation = await self.pools.reserve(Cost(1, 1))
        self.went.append(pool.pool.name)
        self.gates[pool.pool.name].open.remove(reservation)
        if pool.pool.name == self.failing:
            pool.failed(ProviderError(ErrorClass.SERVER_ERROR, "500"))
        self.pools.ended(pool)

    async def calls(self, count: int) -> list[BaseException | None]:
        """So many at once: how each ended; afterwards no task and no reservation is left."""
        tasks = [asyncio.create_task(self.call()) for _ in range(count)]
        while not all(task.done() for task in tasks):
            await self.clock.advance(0.05)
        await self.pools.aclose()
        assert [gate.open for gate in self.gates.values()] == [[], []]
        return [task.exception() for task in tasks]


async def test_calls_go_to_both_as_their_limits_let_them() -> None:
    bench = Bench(0.1, 0.3)
    assert await bench.calls(80) == [None] * 80
    assert bench.went.count("a") == pytest.approx(60, abs=3)
    assert sum(gate.released for gate in bench.gates.values()) <= 1  # the last one was waited for twice


async def test_calls_that_come_later_are_served_as_well() -> None:
    """The tasks end when nothing waits, and begin again."""
    bench = Bench()
    for _ in range(5):
        asked = asyncio.create_task(bench.call())
        await bench.clock.advance(1)
        assert asked.done() and asked.exception() is None
    assert await bench.calls(3) == [None] * 3


async def test_a_call_too_large_for_one_goes_to_the_other_and_fails_where_none_takes_it() -> None:
    bench = Bench()
    bench.gates["a"].error = NeverFits("too large for a")
    assert await bench.calls(5) == [None] * 5 and set(bench.went) == {"b"}
    both = Bench()
    for gate in both.gates.values():
        gate.error = NeverFits("too large")
    assert [type(error) for error in await both.calls(3)] == [NeverFits] * 3


async def test_a_pool_that_is_closed_is_left_to_the_others_and_the_last_one_fails_all() -> None:
    bench = Bench()
    bench.gates["a"].error = QuotaExhausted("its day is over")
    assert await bench.calls(5) == [None] * 5 and set(bench.went) == {"b"}
    both = Bench()
    for gate in both.gates.values():
        gate.error = QuotaExhausted("its day is over")
    assert [type(error) for error in await both.calls(3)] == [QuotaExhausted] * 3
    assert [type(error) for error in await both.calls(1)] == [QuotaExhausted]  # and whoever comes later


async def test_a_closed_pool_is_asked_again_when_its_quota_is_there() -> None:
    bench = Bench(b_s=1.0)
    bench.gates["a"].error = QuotaExhausted("its day is over", until=bench.clock.now() + timedelta(seconds=5))
    asked = [asyncio.create_task(bench.call()) for _ in range(20)]
    await bench.clock.advance(1)
    bench.gates["a"].error = None
    await bench.clock.advance(3)
    assert "a" not in bench.went
    await bench.clock.advance(5)
    assert all(task.done() for task in asked) and "a" in bench.went


async def test_a_limiter_that_cannot_be_asked_is_told_to_the_caller() -> None:
    bench = Bench()
    for gate in bench.gates.values():
        gate.error = LimiterUnreachable("nobody answers")
    ended = await bench.calls(2)
    assert all(isinstance(error, LimiterError) for error in ended)


async def test_a_defect_is_told_to_those_who_wait_and_leaves_none_waiting() -> None:
    bench = Bench()
    bench.gates["a"].error = bench.gates["b"].error = ValueError("a defect")
    assert [type(error) for error in await bench.calls(3)] == [ValueError] * 3


async def test_a_refused_key_and_an_unreached_pool_hand_the_call_over() -> None:
    bench = Bench()
    pool, reservation = await _let_go(bench)
    other = "b" if pool.pool.name == "a" else "a"
    unreached = ProviderError(ErrorClass.CONNECTION, "refused")
    assert bench.pools.can_go_elsewhere(pool, unreached)
    assert not bench.pools.can_go_elsewhere(pool, ProviderError(ErrorClass.CONNECTION, "reset", maybe_paid=True))
    assert not bench.pools.can_go_elsewhere(pool, ProviderError(ErrorClass.SERVER_ERROR, "500"))
    bench.gates[other].paused_for_s = 9.0
    assert not bench.pools.can_go_elsewhere(pool, unreached)
    assert bench.pools.can_go_elsewhere(pool, AuthenticationFailed("the key"))  # it waits there
    pool.pool.limiter.release(reservation)
    bench.pools.ended(pool)
    assert await bench.calls(3) == [None] * 3 and set(bench.went) == {other}


async def test_a_call_goes_back_where_it_failed_only_while_no_other_pool_takes_it() -> None:
    bench = Bench(0.1, 5.0)
    pool, reservation = await _let_go(bench)
    assert pool.pool.name == "a"
    pool.pool.limiter.release(reservation)
    bench.pools.ended(pool)
    for paused_s, goes_to in ((0.0, "b"), (9.0, "a")):
        bench.gates["b"].paused_for_s = paused_s
        asked = asyncio.create_task(bench.pools.reserve(Cost(1, 1), pool))
        await bench.clock.advance(6)
        other, reservation = asked.result()
        assert other.pool.name == goes_to
        other.pool.limiter.release(reservation)
        bench.pools.ended(other)
    await bench.pools.aclose()


async def test_a_pool_that_is_away_is_probed_by_one_call_at_a_time() -> None:
    bench = Bench()
    pool, reservation = await _let_go(bench)
    pool.pool.limiter.release(reservation)
    bench.pools.ended(pool)
    await bench.clock.advance(2)
    for _ in range(8):
        pool.failed(ProviderError(ErrorClass.SERVER_ERROR, "500"))
    assert pool.window.outage is not None and pool.is_held_up
    assert bench.pools.can_go_elsewhere(pool, ProviderError(ErrorClass.SERVER_ERROR, "500"))
    assert not bench.pools.can_go_elsewhere(pool, ProviderError(ErrorClass.TIMEOUT, "hung", maybe_paid=True))
    bench.failing = pool.pool.name
    assert await bench.calls(40) == [None] * 40
    assert 2 <= bench.went.count(bench.failing) <= 4  # in 4 s: after 0.5 s, 1 s, 2 s


async def test_who_does_not_wait_any_more_leaves_nothing_reserved() -> None:
    bench = Bench(0.5, 0.5)
    tasks = [asyncio.create_task(bench.call()) for _ in range(6)]
    await bench.clock.advance(0.6)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await bench.calls(2) == [None] * 2


async def _let_go(bench: Bench) -> Any:
    asked = asyncio.create_task(bench.pools.reserve(Cost(1, 1)))
    while not asked.done():
        await bench.clock.advance(0.05)
    return asked.result()
