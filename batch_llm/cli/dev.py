"""``batch-llm dev``: the Dagster UI and daemon over this checkout, on this machine.

Belongs here: finding the checkout, starting, waiting for and stopping the process. Not here: anything of Dagster
itself, which is never imported: it runs as a child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from batch_llm.cli.exits import Exit
from batch_llm.cli.speech import say, tell
from batch_llm.errors import BatchLLMError, ConfigurationError

__all__ = ["DEFAULT_PORT", "DevServer", "dagster_environment", "dev", "find_checkout", "free_port"]

HOST = "127.0.0.1"
DEFAULT_PORT = 3000
PORTS_TRIED = 100
POLL_S = 0.3
QUESTION_S = 2.0  # for one look at whether the server is up
START_S = 180.0  # a cold start takes 12 s, on a busy machine a minute
STOP_S = 20.0  # Dagster stops within 2 s of a SIGINT; then it is told harder
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def dev(port: int, *, open_browser: bool) -> Exit:
    """Start everything, say where the UI is, stay until Ctrl-C, stop everything."""
    root = find_checkout(Path.cwd())
    if find_spec("dagster_webserver") is None:
        raise ConfigurationError("the package dagster-webserver is missing in this environment; run `make setup`")
    chosen = free_port(port)
    if chosen != port:
        tell(f"port {port} is busy; using {chosen}")
    server = DevServer(root, chosen, dagster_environment(root, os.environ))
    with server:
        server.wait_until_up()
        say(f"batch_llm UI: {server.url}")
        sys.stdout.flush()
        tell("Ctrl-C stops everything.")
        if open_browser and _has_desktop():
            webbrowser.open(server.url)
        return server.stay()


def find_checkout(start: Path) -> Path:
    """The nearest folder at or above ``start`` that has a workspace.yaml. Raises `ConfigurationError`."""
    for folder in (start, *start.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    raise ConfigurationError(
        f"`batch-llm dev` needs a checkout of batch_llm (or its image): no workspace.yaml in {start} or above it. "
        "Clone the repository, run `make setup`, and start it there. Jobs run without it: batch-llm run JOB"
    )


def free_port(wanted: int) -> int:
    """``wanted`` if nobody listens there, else the next free one."""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise ConfigurationError(f"no free port from {wanted} on; give another one: --port N")


def dagster_environment(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: DAGSTER_HOME is the root unless set, this environment's programs first, no telemetry."""
    programs = str(Path(sys.executable).parent)
    path = environ.get("PATH", os.defpath)
    return {
        **environ,
        "PATH": path if path.split(os.pathsep)[0] == programs else f"{programs}{os.pathsep}{path}",
        "DAGSTER_HOME": environ.get("DAGSTER_HOME") or str(root),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }


def _has_desktop() -> bool:
    """A browser on a server would be a text browser that takes the terminal."""
    shown = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return shown and sys.stdout.isatty()


@dataclass
class _Interrupted:
    """Whether somebody asked to stop."""

    asked: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.asked = True


class DevServer:
    """Dagster's UI and daemon as a child in a process group of its own; closing it leaves nothing behind."""

    def __init__(self, root: Path, port: int, environment: Mapping[str, str]) -> None:
        """Nothing is started yet."""
        self.url = f"http://{HOST}:{port}"
        self._root = root
        self._port = port
        self._environment = environment
        self._interrupted = _Interrupted()
        self._earlier: dict[int, object] = {}
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DevServer:
        """Start the child.

        The handlers are set first: a signal that is caught here has its default effect in the child, one that the
        shell told us to ignore would be ignored there as well and nothing could stop it.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            self._earlier[number] = signal.signal(number, self._interrupted.note)
        arguments = ["dev", "-w", "workspace.yaml", "-h", HOST, "-p", str(self._port), "--log-level", "warning"]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "dagster", *arguments],
            cwd=self._root,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # our stdout holds the address only
            start_new_session=True,
        )
        return self

    def wait_until_up(self) -> None:
        """Return when the UI answers. Raises `BatchLLMError` when the child ends or nothing answers in time."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and not self._interrupted.asked:
            code = self._running.poll()
            if code is not None:
                raise BatchLLMError(f"Dagster ended with code {code} before its UI was up; its own words are above")
            if self._answers():
                return
            time.sleep(POLL_S)
        if not self._interrupted.asked:
            raise BatchLLMError(f"Dagster's UI did not answer within {START_S:.0f} s at {self.url}")

    def stay(self) -> Exit:
        """Return when somebody asks to stop, or the child ends."""
        while not self._interrupted.asked:
            code = self._running.poll()
            if code is not None:
                raise BatchLLMError(f"Dagster ended with code {code}; its own words are above")
            time.sleep(POLL_S)
        return Exit.OK

    def __exit__(self, *exc: object) -> None:
        """Stop the child and its children, each signal only when the one before did not do."""
        for number in STOPPING:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._running.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.wait(STOP_S)
                break
        with contextlib.suppress(ProcessLookupError):  # a grandchild that outlived its parent
            os.killpg(self._running.pid, signal.SIGKILL)
        for caught, handler in self._earlier.items():
            signal.signal(caught, handler)  # type: ignore[arg-type]  # as signal.signal gave it

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError("the server was not started")
        return self._child

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/server_info", timeout=QUESTION_S) as answer:  # noqa: S310  our own
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
