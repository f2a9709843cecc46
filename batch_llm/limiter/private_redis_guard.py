"""The guardian of a home's private Redis: a small process of its own, parent of the redis-server.

Belongs here: starting the server, starting it again when it dies, stopping it when nobody uses it; the names of the
files in ``<home>/redis`` and how they are read. Not here: who may start a guardian (private_redis.py).
Runs as a program with the standard library only (``python -I -S private_redis_guard.py GUARD_FD SOCKET EXECUTABLE``
in ``<home>/redis``): nothing of batch_llm is imported.

Locks (flock), all in ``<home>/redis``:
    start.lock    exclusive while somebody finds or starts a server (private_redis.py)
    users.lock    shared, by each process that uses the server; exclusive, by the first one until it has joined: so it
                  knows that it is alone; the guardian stops only while it has it exclusively
    guard.lock    exclusive, by the guardian; inherited from the process that starts it, so there are never two
    server.lock   exclusive, by guardian and redis-server together: while a server lives, even one whose guardian was
                  killed, no second one is started on its file
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "GUARD_LOCK",
    "LOG",
    "ORPHAN",
    "RUNNING",
    "START_LOCK",
    "USERS_LOCK",
    "Guard",
    "ServerFailed",
    "answers",
    "main",
    "read_record",
    "try_lock",
]

START_LOCK, USERS_LOCK, GUARD_LOCK, SERVER_LOCK = "start.lock", "users.lock", "guard.lock", "server.lock"
RUNNING = "running.json"  # there while the server answers: host, socket, server_pid, guardian_pid
ORPHAN = "last.json"  # what `RUNNING` was before the present guardian
LOG = "redis.log"

WATCH_S = 0.25  # how often the guardian looks whether anybody uses the server
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
ORPHAN_TIMEOUT_S = 5.0
PING_TIMEOUT_S = 0.5
RETRY_S = 1.0  # after a restart that failed
LOG_BYTES = 1 << 20
TAIL_LINES = 4
PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


class ServerFailed(Exception):
    """The server cannot be started; the text says why."""


def try_lock(file: int, how: int) -> bool:
    """Take a lock if that is possible now: ``how`` is LOCK_EX or LOCK_SH."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def answers(path: str) -> bool:
    """Whether a Redis on this socket answers now: not while it loads its data, but also when its disk is full."""
    said = _ask(path, b"PING")
    return said.startswith((b"+", b"-")) and not said.startswith(b"-LOADING")


def read_record(path: Path) -> dict[str, Any]:
    """`RUNNING` or `ORPHAN`; empty when it is not there or was cut."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


class Guard:
    """Keeps one redis-server running in the working directory while `users.lock` is shared."""

    def __init__(self, socket_path: str, executable: str) -> None:
        """``socket_path``: in a folder of its own, which is made."""
        self.socket_path = socket_path
        self.executable = executable
        self.told_to_stop = False
        self._users = os.open(USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._server_lock = os.open(SERVER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerFailed: It cannot be; nothing is left running.
        """
        try:
            _make_own(os.path.dirname(self.socket_path))
            self._take_server_lock()
            self._server = self._spawn()
            self._wait_until_it_answers(self._server)
            self._write_record(self._server.pid)
        except OSError as error:
            self.stop()
            raise ServerFailed(f"{error}") from error
        except ServerFailed:
            self.stop()
            raise

    def watch(self) -> None:
        """Return when nobody uses the server any more, or when told to stop; until then keep it running."""
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # its only use: it ends the wait below
        try_again_at = 0.0
        while not self.told_to_stop and not try_lock(self._users, fcntl.LOCK_EX):
            if self._is_gone() and time.monotonic() >= try_again_at:
                try_again_at = time.monotonic() + (0.0 if self._restart() else RETRY_S)
            if select.select([wake], [], [], WATCH_S)[0]:
                os.read(wake, 4096)

    def stop(self) -> None:
        """Stop the server, if it runs; everything it acknowledged is in its file."""
        server, self._server = self._server, None
        _remove(RUNNING)
        if server is None:
            return
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _log(f"redis-server {server.pid} did not stop within {STOP_TIMEOUT_S:g} s and was killed")
            server.kill()
            server.wait()
        _remove(self.socket_path)

    def _is_gone(self) -> bool:
        """Nobody can connect: the server ended, or somebody who tidies temporary folders removed its socket."""
        return self._server is None or self._server.poll() is not None or not os.path.exists(self.socket_path)

    def _restart(self) -> bool:
        if self._server is not None:
            ended = "lost its socket" if self._server.poll() is None else f"ended by itself ({self._server.returncode})"
            _log(f"redis-server {self._server.pid} {ended} while in use; starting it again")
            self.stop()
        try:
            self.start()
        except ServerFailed as error:
            _log(f"redis-server could not be started again: {error}")
            return False
        return True

    def _take_server_lock(self) -> None:
        """Be sure that no other server uses the file: stop one whose guardian was killed."""
        if try_lock(self._server_lock, fcntl.LOCK_EX):
            return
        orphan = read_record(Path(ORPHAN))
        _log(f"a redis-server without its guardian still runs here ({orphan.get('server_pid')}); stopping it")
        if orphan.get("socket"):
            _ask(orphan["socket"], b"SHUTDOWN")
        if self._lock_within(ORPHAN_TIMEOUT_S):
            return
        pid = orphan.get("server_pid")
        if isinstance(pid, int) and _works_here(pid):
            os.kill(pid, signal.SIGKILL)
            if self._lock_within(ORPHAN_TIMEOUT_S):
                return
        raise ServerFailed(f"another redis-server (process {pid}) still uses this folder; stop it")

    def _lock_within(self, wait_s: float) -> bool:
        end = time.monotonic() + wait_s
        while not try_lock(self._server_lock, fcntl.LOCK_EX):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = {
            "port": "0", "unixsocket": self.socket_path, "unixsocketperm": "700", "dir": ".", "databases": "1",
            "appendonly": "yes", "appendfsync": "everysec", "aof-load-truncated": "yes", "save": "",
            "auto-aof-rewrite-min-size": "16mb", "maxmemory": "0", "daemonize": "no", "logfile": "",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return subprocess.Popen(
            [self.executable, *arguments],
            stdin=subprocess.DEVNULL,  # stdout and stderr are the log
            pass_fds=(self._server_lock,),
            preexec_fn=_dying_with_its_parent(),  # noqa: PLW1509  this process has one thread
        )

    def _wait_until_it_answers(self, server: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not answers(self.socket_path):
            if server.poll() is not None:
                raise ServerFailed(f"redis-server ended at once ({server.returncode}): {_tail()}")
            if time.monotonic() > end:
                raise ServerFailed(f"redis-server does not answer within {START_TIMEOUT_S:g} s: {_tail()}")
            time.sleep(0.01)

    def _write_record(self, server_pid: int) -> None:
        record = {
            "host": socket.gethostname(),
            "socket": self.socket_path,
            "server_pid": server_pid,
            "guardian_pid": os.getpid(),
        }
        Path(f"{RUNNING}.new").write_text(json.dumps(record), encoding="utf-8")
        os.replace(f"{RUNNING}.new", RUNNING)


def main(arguments: list[str]) -> int:
    """Fork; the child becomes the guardian, the parent returns 0 when the server answers, else 1 and says why."""
    guard_lock, socket_path, executable = int(arguments[0]), arguments[1], arguments[2]
    os.umask(0o077)
    news, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os.close(guard_lock)
        with os.fdopen(news, "rb") as pipe:
            said = pipe.read().decode(errors="replace")
        if said != "ok":
            sys.stderr.write(said or "the guardian ended while it started the server")
        return 0 if said == "ok" else 1
    os.close(news)
    _guard(guard_lock, tell, socket_path, executable)
    return 0


def _guard(guard_lock: int, tell: int, socket_path: str, executable: str) -> None:
    """All of a guardian's life; ``tell``: where its starter waits for the news."""
    try:
        _write_to_the_log()
        guard = Guard(socket_path, executable)

        def told(*_: object) -> None:
            guard.told_to_stop = True

        signal.signal(signal.SIGTERM, told)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        guard.start()
    except (OSError, ServerFailed) as error:
        _remove_folder_of(socket_path)
        os.write(tell, str(error).encode())
        return
    os.write(tell, b"ok")
    os.close(tell)
    try:
        guard.watch()
    finally:
        guard.stop()
        _remove_folder_of(socket_path)
        os.close(guard_lock)  # before users.lock, which goes with the process: who gets that sees that nobody guards


def _write_to_the_log() -> None:
    """Let go of the starter's pipes: whoever reads them would wait for our end."""
    if os.path.exists(LOG) and os.path.getsize(LOG) > LOG_BYTES:
        os.replace(LOG, f"{LOG}.1")
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _dying_with_its_parent() -> Callable[[], None] | None:
    """Linux: a server whose guardian was killed is told to stop."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, guardian = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != guardian:  # killed before it could be asked for
            os._exit(1)

    return ask


def _ask(path: str, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PING_TIMEOUT_S)
        try:
            link.connect(path)
            link.sendall(command + b"\r\n")
            return link.recv(64)
        except OSError:
            return b""


def _make_own(folder: str) -> None:
    """Make a folder that only this user can open, or be sure that it is one: anybody can write in /tmp."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ServerFailed(f"{folder}, for its socket, is not a folder that only this user can open: remove it")


def _works_here(pid: int) -> bool:
    """Whether a process works in this folder, as our servers do; not known (False) where there is no /proc."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", ".")
    except OSError:
        return False


def _tail() -> str:
    try:
        lines = Path(LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    return " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip())


def _log(text: str) -> None:
    try:
        sys.stderr.write(f"{os.getpid()}:G {time.strftime('%d %b %Y %H:%M:%S')} {text}\n")
        sys.stderr.flush()
    except OSError:
        pass  # a full disk must not end the guardian


def _remove_folder_of(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
