"""The link to a Redis that goes, hangs and comes back: its time-outs pass in real seconds.

Belongs here: outages of one link. Not here: what else it may be told (tests/unit/limiter/test_redis_link.py).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch_llm.errors import LimiterUnreachable
from batch_llm.limiter.redis_link import RedisLink, Script
from tests.odd_redis import Answer, hang, hang_up, odd_redis, reset
from tests.redis_server import redis_server

ECHO = Script("echo", "return cmsgpack.pack({#KEYS, cmsgpack.unpack(ARGV[1])})")
COUNT = Script("count", "return cmsgpack.pack(redis.call('INCR', KEYS[1]))")


async def test_a_restarted_redis_is_connected_to_anew(tmp_path: Path) -> None:
    """The call after the restart succeeds: the closed connection is noticed before anything is sent."""
    with redis_server(tmp_path) as server:
        async with RedisLink(server.url) as link:
            assert await link.run(COUNT, ["{p}count"], None) == 1
            await asyncio.to_thread(server.stop)
            with pytest.raises(LimiterUnreachable) as caught:
                await link.run(COUNT, ["{p}count"], None)
            assert caught.value.refused
            await asyncio.to_thread(server.start)
            assert await link.run(COUNT, ["{p}count"], None) == 2
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            assert await link.run(COUNT, ["{p}count"], None) == 3


async def test_a_paused_redis_is_unreachable_to_everybody_who_waits(tmp_path: Path) -> None:
    """None of the calls in line waits for its own time-out after the one before it; after the pause all is well."""
    with redis_server(tmp_path) as server:
        async with RedisLink(server.url) as link, RedisLink(server.url) as late:
            await link.connect()
            server.pause()
            calls = [link.run(ECHO, [], number) for number in range(20)]
            async with asyncio.timeout(10):  # one after the other they would take 20 s
                failures = await asyncio.gather(*calls, late.connect(), return_exceptions=True)
            assert [type(each) for each in failures] == [LimiterUnreachable] * 21
            assert not any(each.refused for each in failures if isinstance(each, LimiterUnreachable))
            server.resume()
            assert await link.run(ECHO, [], 1) == await late.run(ECHO, [], 1) == [0, 1]


@pytest.mark.parametrize("answer", [hang, hang_up, reset])
async def test_a_server_that_hangs_or_hangs_up_is_unreachable(answer: Answer) -> None:
    with odd_redis(answer) as url:
        async with RedisLink(url) as link:
            for _ in range(2):
                with pytest.raises(LimiterUnreachable) as caught:
                    await link.run(ECHO, [], 1)
                assert not caught.value.refused
