"""A real S3 over the wire, of a test's own: moto's server on a free port of 127.0.0.1, in a process of its own.

Belongs here: the server, a bucket, an environment that leads to it. Not here: assertions.

    from tests.s3_server import s3_environment, s3_server
    with s3_server(tmp_path) as s3, s3_environment(s3): ... s3.url ...
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tests.ports import own_port

__all__ = ["S3Server", "s3_environment", "s3_server"]

BUCKET = "journals"
READY_TRIES = 600  # times 50 ms


class S3Server:
    """One server; what it holds ends with it."""

    def __init__(self, folder: Path) -> None:
        """``folder``: for its log."""
        self._folder = folder
        self._port = own_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """A folder in its bucket, for BATCH_LLM_JOURNAL."""
        return f"s3://{BUCKET}/runs"

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client to it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start it and make the bucket."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        with (self._folder / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        bucket = urllib.request.Request(f"http://127.0.0.1:{self._port}/{BUCKET}", method="PUT")
        for _ in range(READY_TRIES):
            try:
                urllib.request.urlopen(bucket, timeout=5).close()
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None, (self._folder / "s3.log").read_text()
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("moto's server does not answer")

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)

    def pause(self) -> None:
        """It accepts connections (the kernel does) and answers nothing, until `resume`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End of `pause`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A running server with an empty bucket; killed at the end."""
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def s3_environment(server: S3Server) -> Iterator[None]:
    """The environment of this process leads to ``server``, and so does every client made meanwhile.

    fsspec keeps a client for the whole process, whatever the environment has become: without a new one, tests that run
    after those of another server would talk to that other server.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        try:
            yield
        finally:
            S3FileSystem.clear_instance_cache()
