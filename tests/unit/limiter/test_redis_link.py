"""The link to a Redis: scripts run, every failure is told as one of two errors, no password is shown.

Not here: servers that go, hang and come back, which takes real seconds (tests/integration/test_redis_link_outage.py).
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from batch_llm.errors import ConfigurationError, LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter import redis_link
from batch_llm.limiter.redis_errors import MEANINGS, UNREACHABLE, limiter_error
from batch_llm.limiter.redis_link import RedisLink, Script, load_script
from tests.odd_redis import bulk, info, odd_redis
from tests.redis_server import RedisServer, redis_executables, redis_server

PASSWORD = "planted-redis-pw"
ECHO = Script("echo", "return cmsgpack.pack({#KEYS, cmsgpack.unpack(ARGV[1])})")
WRITE = Script("write", "redis.call('SET', KEYS[1], ARGV[1]); return cmsgpack.pack('written')")
COUNT = Script("count", "return cmsgpack.pack(redis.call('INCR', KEYS[1]))")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no failure: no time-out is tested here."""
    monkeypatch.setattr(redis_link, "CONNECT_TIMEOUT_S", 60.0)
    monkeypatch.setattr(redis_link, "ANSWER_TIMEOUT_S", 60.0)


@pytest.fixture(scope="module", params=redis_executables())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    options = ("--requirepass", PASSWORD)
    with redis_server(tmp_path_factory.mktemp("redis"), request.param, options) as running:
        yield running


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    async with RedisLink(server.url) as opened:
        yield opened


def config(server: RedisServer, **values: str) -> None:
    with server.client() as client:
        for name, value in values.items():
            client.config_set(name.replace("_", "-"), value)


# ---- scripts


@pytest.mark.parametrize("argument", [0.1 + 0.2, 1e300, 2**53, "grüße", "", [], [1.5, True, {"a": [2]}]])
async def test_an_argument_and_a_reply_cross_exactly(link: RedisLink, argument: Any) -> None:
    assert await link.run(ECHO, ["a", b"b"], argument) == [2, argument]


async def test_a_script_that_redis_forgot_is_loaded_again(link: RedisLink, server: RedisServer) -> None:
    await link.run(ECHO, [], 1)
    with server.client() as client:
        client.script_flush()
    assert await link.run(ECHO, [], 2) == [0, 2]
    with server.client() as client:
        assert client.script_exists(ECHO.sha1) == [True]


async def test_calls_at_the_same_time_get_their_own_replies(link: RedisLink) -> None:
    replies = await asyncio.gather(*(link.run(ECHO, [], number) for number in range(50)))
    assert replies == [[0, number] for number in range(50)]


async def test_a_cancelled_call_leaves_no_reply_to_the_next(link: RedisLink, server: RedisServer) -> None:
    await link.run(ECHO, [], 0)
    server.pause()
    call = asyncio.create_task(link.run(ECHO, [], "cancelled"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.resume()
    assert await link.run(ECHO, [], "next") == [0, "next"]


def test_the_name_of_a_script_is_the_sha1_redis_computes(server: RedisServer) -> None:
    with server.client() as client:
        assert client.script_load(ECHO.text) == ECHO.sha1


# ---- nobody there


async def test_nobody_listening_is_told_as_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    urls = [
        f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
        f"redis://:{PASSWORD}@localhost:{port}/0",
        f"unix://:{PASSWORD}@{tmp_path}/absent.sock",
    ]
    for url in urls:
        async with RedisLink(url) as link:
            with pytest.raises(LimiterUnreachable, match="nobody listens") as caught:
                await link.connect()
            assert caught.value.refused
            assert link.place in str(caught.value)


# ---- answers with an error


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x01\x02", b"+OK\r\n", bulk("hello")])
async def test_something_else_than_redis_is_a_store_error(reply: bytes) -> None:
    with odd_redis(lambda sent, _: b"+OK\r\n" if b"AUTH" in sent else reply) as url:
        async with RedisLink(url) as link:
            with pytest.raises(LimiterStoreError, match="BATCH_LLM_REDIS_URL"):
                await link.connect()


@pytest.mark.parametrize(("version", "good"), [("6.0.16", False), ("5.0.14", False), ("6.2.0", True), ("7.2.4", True)])
async def test_the_version_must_be_new_enough(version: str, good: bool) -> None:
    with odd_redis(lambda sent, _: info(version) if b"INFO" in sent else b"+OK\r\n") as url:
        async with RedisLink(url) as link:
            if good:
                await link.connect()
                assert link.version == version
            else:
                with pytest.raises(LimiterStoreError, match=rf"version {version}.*6\.2 or later"):
                    await link.connect()


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (b"-MOVED 1234 10.0.0.1:6379\r\n", LimiterStoreError, "Cluster is not supported"),
        (b"-MISCONF Errors writing to the AOF file: No space left on device\r\n", LimiterStoreError, "make room"),
        (b"-OOM command not allowed. script: abc, on @user_script:1.\r\n", LimiterStoreError, "maxmemory"),
        (b"-NOPERM this user has no permissions to run the 'eval' command\r\n", LimiterStoreError, "user needs"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", LimiterUnreachable, "loading"),
        (b"-BUSY Redis is busy running a script.\r\n", LimiterUnreachable, "busy"),
        (b"-ERR max number of clients reached\r\n", LimiterUnreachable, "max number of clients"),
        (bulk("\xff no msgpack"), LimiterStoreError, "cannot be read"),
        (b"$-1\r\n", LimiterStoreError, "cannot be read"),
    ],
)
async def test_what_a_server_may_answer_to_a_script(reply: bytes, error: type[LimiterError], says: str) -> None:
    answers = {b"AUTH": b"+OK\r\n", b"INFO": info("7.0.0")}
    with odd_redis(lambda sent, _: next((out for name, out in answers.items() if name in sent), reply)) as url:
        async with RedisLink(url) as link:
            with pytest.raises(error, match=says) as caught:
                await link.run(ECHO, [], 1)
            assert type(caught.value) is error


async def test_a_wrong_password_is_told_without_it(server: RedisServer, tmp_path: Path) -> None:
    for login in (f":{PASSWORD}-wrong@", ""):
        async with RedisLink(f"redis://{login}127.0.0.1:{server.port}/0") as link:
            with pytest.raises(LimiterStoreError, match="user and password") as caught:
                await link.connect()
            assert PASSWORD not in repr(caught.value) + repr(caught.value.__cause__) + repr(link)


async def test_a_wrong_password_on_a_socket_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a b.sock"
    with redis_server(tmp_path, options=("--unixsocket", str(path), "--requirepass", PASSWORD)):
        async with RedisLink(f"unix://:{PASSWORD}@{str(path).replace(' ', '%20')}") as link:
            await link.connect()
            assert link.place == str(path)
        async with RedisLink(f"unix://:wrong@{path}") as link:
            with pytest.raises(LimiterStoreError, match="user and password"):
                await link.connect()


async def test_errors_inside_a_script_are_told_with_what_to_do(link: RedisLink, server: RedisServer) -> None:
    """Redis 6.2 hides the code of the error in the middle of its sentence, 7 does not."""
    await link.run(Script("list", "redis.call('RPUSH', KEYS[1], 1); return cmsgpack.pack(1)"), ["{p}list"], 1)
    with pytest.raises(LimiterStoreError, match="database of its own"):
        await link.run(COUNT, ["{p}list"], 1)
    with pytest.raises(LimiterStoreError, match="defect of batch_llm"):
        await link.run(Script("bad", "return nil + 1"), [], 1)
    with pytest.raises(LimiterStoreError, match="defect of batch_llm"):
        await link.run(Script("worse", "this is no Lua"), [], 1)
    config(server, maxmemory="1")
    try:
        with pytest.raises(LimiterStoreError, match="maxmemory"):
            await link.run(WRITE, ["{p}x"], 1)
    finally:
        config(server, maxmemory="0")
    assert await link.run(WRITE, ["{p}x"], 1) == "written"


async def test_a_replica_is_told_as_such(link: RedisLink, server: RedisServer) -> None:
    await link.connect()
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(LimiterStoreError, match="replica"):
                await link.run(WRITE, ["{p}x"], 1)
        finally:
            client.replicaof("NO", "ONE")
    assert await link.run(WRITE, ["{p}x"], 1) == "written"


async def test_a_server_that_may_drop_our_keys_is_worth_a_warning(server: RedisServer) -> None:
    config(server, maxmemory="1gb", maxmemory_policy="allkeys-lru")
    try:
        async with RedisLink(server.url) as link:
            await link.connect()
            (warning,) = link.warnings
            assert "allkeys-lru" in warning
        config(server, maxmemory="0")
        async with RedisLink(server.url) as link:
            await link.connect()
            assert link.warnings == ()
    finally:
        config(server, maxmemory="0", maxmemory_policy="noeviction")


# ---- the table of errors


def test_every_error_of_redis_has_a_meaning() -> None:
    known = {each for _, each in inspect.getmembers(exceptions, inspect.isclass) if issubclass(each, Exception)}
    assert known - set(MEANINGS) == set()


@pytest.mark.parametrize("kind", MEANINGS, ids=lambda kind: kind.__name__)
def test_a_meaning_says_waiting_helps_or_what_to_do(kind: type[Exception]) -> None:
    error = limiter_error(kind("12 host:6379"), "redis://host:6379/0")
    assert type(error) is (LimiterUnreachable if MEANINGS[kind] == UNREACHABLE else LimiterStoreError)
    assert "redis://host:6379/0" in str(error)
    assert MEANINGS[kind] == UNREACHABLE or MEANINGS[kind] in str(error)


# ---- URLs


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://me:planted-redis-pw@host/2", "redis://host:6379/2"),
        ("rediss://:planted-redis-pw@host:6380?db=3", "rediss://host:6380/3"),
        ("redis://[::1]:7000", "redis://[::1]:7000/0"),
        ("unix:///tmp/a%20b.sock", "/tmp/a b.sock"),
    ],
)
def test_messages_name_the_place_only(url: str, place: str) -> None:
    link = RedisLink(url)
    assert link.place == place
    assert repr(link) == f"RedisLink({place})"


@pytest.mark.parametrize(
    "url",
    [
        "http://:planted-redis-pw@host",
        "host:6379",
        "redis://:planted-redis-pw@host:port/0",
        "redis://host:planted-redis-pw",
        "redis://host/planted-redis-pw",
        "redis://host:1/0?planted-redis-pw=1",
        "redis://host:1/0?max_connections=3",
        "redis://[half:planted-redis-pw",
        "unix://planted-redis-pw/x",
        "unix://",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="URL of Redis") as caught:
        RedisLink(url)
    assert "planted" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


# ---- loading


def test_a_script_is_its_parts_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lua").mkdir()
    (tmp_path / "lua" / "first.lua").write_text("local a = 'ü'")
    (tmp_path / "lua" / "second.lua").write_text("return a")
    monkeypatch.setattr(redis_link, "files", lambda package: tmp_path)
    script = load_script("both", parts=["first", "second"])
    assert (script.name, script.text) == ("both", "local a = 'ü'\nreturn a")
    assert "local" not in repr(script)
