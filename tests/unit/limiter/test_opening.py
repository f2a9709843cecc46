"""Which store keeps the limits: the settings decide, and it is there before anything is sent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from batch_llm.cli.doctor_services import Verdict, check_redis
from batch_llm.clock import ManualClock, ScaledClock, SystemClock
from batch_llm.config.settings import IN_PROCESS, Settings
from batch_llm.errors import ConfigurationError, LimiterUnreachable
from batch_llm.limiter import opening
from batch_llm.limiter.base import Limits, PoolChange
from batch_llm.limiter.ledger import DAY_CAP, LedgerCall
from batch_llm.limiter.opening import LimiterStore, limiter_store, running_store
from tests.odd_redis import info, odd_redis
from tests.redis_server import RedisServer, redis_server

LIMITS = Limits("openai:main", requests_per_minute=600)
PASSWORD = "planted-redis-pw"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), None, ("--requirepass", PASSWORD)) as running:
        yield running


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def halve(store: LimiterStore) -> None:
    await store.schedule(LIMITS).change(LIMITS, PoolChange(limits={"requests_per_minute": 300}))


async def in_force(store: LimiterStore) -> float:
    (dimension,) = (await store.schedule(LIMITS).view(LIMITS)).dimensions
    return dimension.in_force


# ---- in this process, when asked for


async def test_what_runs_in_one_process_shares_its_limits_even_one_after_the_other(tmp_path: Path) -> None:
    """A second engine must not begin with a limit of its own; another home does."""
    async with limiter_store(IN_PROCESS, tmp_path) as first:
        await halve(first)
    async with (
        limiter_store(IN_PROCESS, tmp_path, SystemClock()) as second,
        running_store(IN_PROCESS, tmp_path) as seen,
    ):
        assert await in_force(second) == 300
        assert second.ledger() is first.ledger()
        assert seen is not None and await in_force(seen) == 300
    async with limiter_store(IN_PROCESS, tmp_path / "other") as other:
        assert await in_force(other) == 600
        assert "this process only" in other.where
    assert is_empty(tmp_path)


@pytest.mark.parametrize("clock", [ManualClock(), ScaledClock(60)])
async def test_a_clock_of_its_own_keeps_its_limits_in_process(
    tmp_path: Path, server: RedisServer, clock: ManualClock | ScaledClock
) -> None:
    """Redis' time is real; so is that of the private one, which is not even started."""
    for url in (None, server.url):
        async with limiter_store(url, tmp_path, clock) as store:
            assert "this process only" in store.where
    assert is_empty(tmp_path)


# ---- a Redis that was given


async def test_all_who_use_a_redis_share_its_pools_and_its_ledger(tmp_path: Path, server: RedisServer) -> None:
    async with limiter_store(server.url, tmp_path / "a") as first, limiter_store(server.url, tmp_path / "b") as second:
        await halve(first)
        await first.ledger().set_caps({DAY_CAP: Decimal(50)})
        assert await in_force(second) == 300
        assert [view.cap_usd for view in await second.ledger().view()] == [Decimal(50)]
        assert first.where == f"redis://127.0.0.1:{server.port}/0"
    assert is_empty(tmp_path)


async def test_a_redis_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart of a few seconds stops no run that begins meanwhile."""
    with redis_server(tmp_path) as server:
        server.stop()
        opened = limiter_store(server.url, tmp_path)
        tries = 0

        async def start_it(delay_s: float) -> None:
            nonlocal tries
            tries += 1
            if tries == 3:
                server.start()

        monkeypatch.setattr(opening.asyncio, "sleep", start_it)
        async with opened as store:
            assert await in_force(store) == 600
        assert tries == 3


async def test_a_redis_that_does_not_come_back_is_an_error_before_anything_is_sent(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PATIENCE_S", 0.0)
    url = server.url.replace(str(server.port), "1")
    with pytest.raises(ConfigurationError, match=r"nobody listens there.*Nothing was spent") as caught:
        async with limiter_store(url, tmp_path):
            pass
    assert PASSWORD not in str(caught.value)


async def test_a_redis_that_is_too_old_or_refuses_us_is_an_error_at_once(tmp_path: Path, server: RedisServer) -> None:
    old = odd_redis(lambda sent, connection: info("5.0.14") if b"INFO" in sent else b"+OK\r\n")
    with old as url, pytest.raises(ConfigurationError, match=r"5\.0\.14.*6\.2"):
        async with limiter_store(url, tmp_path):
            pass
    with pytest.raises(ConfigurationError, match="password") as caught:
        async with limiter_store(server.url.replace(PASSWORD, "wrong-redis-pw"), tmp_path):
            pass
    assert "wrong-redis-pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--maxmemory", "1"), "raise its maxmemory"), (("--replicaof", "127.0.0.1", "1"), "this is a replica")],
)
async def test_a_redis_that_cannot_be_written_is_an_error_at_once(
    options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with redis_server(tmp_path, None, options) as server:
        with pytest.raises(ConfigurationError, match=rf"{said}.*Nothing was spent"):
            async with limiter_store(server.url, tmp_path):
                pass
        check = await asyncio.to_thread(check_redis, Settings(home=tmp_path, redis_url=server.url))
        assert check.verdict is Verdict.FAILED and said in check.found


# ---- the home's private Redis


async def promised(store: LimiterStore, writer: str, epoch: int = 0) -> tuple[bool, int]:
    """Whether a new writer is promised money at once, and the ledger's epoch."""
    call = LedgerCall(writer, 1, epoch, writer, "alice", cap_nano=None)
    epoch = (await store.ledger().call(call)).epoch
    reply = await store.ledger().call(replace(call, sequence=2, epoch=epoch, least_nano=1))
    return reply.denial is None, epoch


async def test_who_is_alone_with_the_private_redis_is_promised_money_at_once(tmp_path: Path) -> None:
    """What a dead process had in flight stays booked. With another at work, a server that died settles first."""
    async with limiter_store(None, tmp_path) as store:
        await store.ledger().set_caps({DAY_CAP: Decimal(50)})
        assert (await promised(store, "killed"))[0]  # it never closes
    async with limiter_store(None, tmp_path) as store:
        assert (await promised(store, "first"))[0]
        assert {view.reserved_usd for view in await store.ledger().view() if view.scope.startswith("day:")} == {
            Decimal("2E-9")
        }
        record = json.loads((tmp_path / "redis" / "running.json").read_text())
        async with limiter_store(None, tmp_path) as other:
            assert (await promised(other, "second"))[0]
            os.kill(record["server_pid"], signal.SIGKILL)
            while True:
                try:
                    assert (await promised(store, "third"))[0] is False
                except LimiterUnreachable:
                    continue
                break


async def test_the_private_redis_keeps_what_was_changed_when_its_last_user_is_gone(tmp_path: Path) -> None:
    """Looking starts none, and sees the one that runs."""
    async with running_store(None, tmp_path) as nothing:
        assert nothing is None
    assert is_empty(tmp_path)
    async with limiter_store(None, tmp_path) as store, running_store(None, tmp_path) as seen:
        await halve(store)
        await store.ledger().set_caps({DAY_CAP: Decimal(50)})
        assert seen is not None and await in_force(seen) == 300
        assert store.where == seen.where == "the home's private Redis"
    async with limiter_store(None, tmp_path) as again:
        assert await in_force(again) == 300
        assert [view.cap_usd for view in await again.ledger().view()] == [Decimal(50)]
