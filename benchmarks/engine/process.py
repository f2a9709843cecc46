"""Processes of a case: started, waited for, measured, always ended.

Belongs here: starting and ending any program. Not here: which programs (lab.py, provider_process.py, overhead.py).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "environment", "free_port", "measured", "started"]

LAUNCHER = Path(__file__).with_name("launch.py")
SECRET_NAMES = ("OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_", "BATCH_LLM_")
END_S = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program used, as the kernel counts it."""

    returncode: int  # negative: the signal
    wall_s: float
    cpu_s: float  # user and system, with the children it waited for
    max_rss_bytes: int
    left_behind_cpu_s: float  # of servers it left behind
    stdout: str
    stderr: str


def environment(**more: str) -> dict[str, str]:
    """This environment without providers' keys and without anybody's settings of batch_llm."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SECRET_NAMES) and not name.endswith("_API_KEY")
    }
    return kept | more


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def measured(command: Sequence[str], env: Mapping[str, str], cwd: Path, *, timeout_s: float = 7_200.0) -> Ended:
    """Run to the end and tell what it used; the whole group is killed when something interrupts."""
    with tempfile.TemporaryDirectory(prefix="measured-") as folder:
        result = Path(folder) / "result.json"
        launched = [sys.executable, "-I", "-S", str(LAUNCHER), str(result), *command]
        with started(launched, env, cwd, Path(folder)) as process:
            process.wait(timeout_s)
            used = json.loads(result.read_bytes())
        return Ended(**used, stdout=_text(folder, "stdout"), stderr=_text(folder, "stderr"))


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running program in a group of its own, whose output goes to files in ``log``; killed at the end."""
    with open(log / "stdout", "ab") as out, open(log / "stderr", "ab") as errors:
        process = subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(END_S)


def _text(folder: str, name: str) -> str:
    return (Path(folder) / name).read_text(encoding="utf-8", errors="replace")
