"""Processes that use a home's private Redis, and what can be seen of it from outside.

Belongs here: what the tests of the private Redis share. Not here: assertions about it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["User", "UserMaker", "gone", "record", "servers_in", "until", "user_maker"]

# what a user of the home's Redis does: says where it is, then counts for each line it is sent, ends with its input
USER = """
import asyncio, sys
from pathlib import Path
from redis import Redis, RedisError
from batch_llm.limiter.private_redis import private_redis

def counted(url):
    for _ in range(500):  # a killed server comes back within a second or two
        try:
            with Redis.from_url(url) as client:
                return client.incr("count")
        except RedisError:
            import time; time.sleep(0.02)

async def main():
    async with private_redis(Path(sys.argv[1])) as url:
        print(url, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(await asyncio.to_thread(counted, url), flush=True)

asyncio.run(main())
"""


class User:
    """Another process that uses the home's Redis."""

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, "OPENAI_API_KEY": "planted-key"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def url(self) -> str:
        """Waits until it is inside."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def count(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def leave(self) -> str:
        """What it printed after the last answer; comes back when its output is closed."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return str(out)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


UserMaker = Callable[[Path], User]


@contextmanager
def user_maker() -> Iterator[UserMaker]:
    """Makes users; those left at the end are killed, and with them goes the server."""
    made: list[User] = []

    def make(home: Path) -> User:
        made.append(User(home))
        return made[-1]

    yield make
    for user in made:
        user.kill()


def record(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "redis" / "running.json").read_text())
    return found


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Ended; a zombie counts (in a container nobody may reap it)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def servers_in(folder: Path) -> list[int]:
    """The living redis-servers that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if "redis-server" in (process / "comm").read_text() and (process / "cwd").samefile(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found
