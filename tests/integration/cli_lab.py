"""A lab whose user types commands: `batch-llm` as a process of its own, with pipes or with a terminal.

Belongs here: starting commands and reading what they say. Not here: assertions, the lab itself (lab.py).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_llm.job.load import dump_job
from tests.integration.lab import Lab

__all__ = ["CommandLine", "Said", "TerminalSession"]

ROOT = Path(__file__).parents[2]
BATCH_LLM = (sys.executable, "-m", "batch_llm.cli")
WIDE = (40, 160)  # rows, columns of the terminal


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout, which must be all of it."""
        (line,) = self.out.splitlines()
        return json.loads(line)


class CommandLine:
    """Types commands in the lab's folder."""

    def __init__(self, lab: Lab, extra: Mapping[str, str] | None = None) -> None:
        """``extra``: environment variables."""
        self.lab = lab
        self.environment = {
            **os.environ,
            "BATCH_LLM_HOME": str(lab.settings.home),
            "BATCH_LLM_PROVIDERS": str(lab.settings.providers_path),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
            **(extra or {}),
        }

    def job_file(self, **changes: Any) -> str:
        """Write the lab's job into ``lab.yaml``."""
        (self.lab.folder / "lab.yaml").write_text(dump_job(self.lab.job(**changes).job))
        return "lab.yaml"

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command with pipes."""
        return await asyncio.create_subprocess_exec(
            *BATCH_LLM, *arguments, cwd=self.lab.folder, env=self.environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str) -> Said:
        """Run a command to its end."""
        return await ended(await self.start(*arguments))

    async def in_terminal(self, *arguments: str) -> TerminalSession:
        """Start a command whose stdin and stderr are a terminal, and whose stdout is a pipe."""
        outer, inner = pty.openpty()
        termios.tcsetwinsize(inner, WIDE)
        process = await asyncio.create_subprocess_exec(
            *BATCH_LLM, *arguments, cwd=self.lab.folder, env=self.environment, stdin=inner,
            stdout=asyncio.subprocess.PIPE, stderr=inner, preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(inner)
        return TerminalSession(process, outer)


def _own_terminal() -> None:
    """A session whose terminal is the one on stdin, as a window has it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def ended(process: asyncio.subprocess.Process) -> Said:
    """Wait for a command's end."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode() if err else "")


class TerminalSession:
    """A command in a terminal: what it shows, what the user types."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        """``terminal``: the outer end, closed by `ended`."""
        self.process = process
        self._terminal = terminal
        self._shown = bytearray()
        self._reader = asyncio.create_task(asyncio.to_thread(self._read))

    @property
    def shown(self) -> str:
        """Everything shown so far, escape sequences included."""
        return self._shown.decode(errors="replace")

    async def until(self, text: str) -> None:
        """Wait until ``text`` was shown."""
        while text not in self.shown:
            assert not self._reader.done(), f"{text!r} was never shown: {self.shown}"
            await asyncio.sleep(0.01)

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._terminal, text.encode())

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._terminal)
        self._terminal = -1

    async def ended(self) -> Said:
        """Wait for the end."""
        out, _ = await self.process.communicate()
        await self._reader
        if self._terminal >= 0:
            os.close(self._terminal)
        assert self.process.returncode is not None
        return Said(self.process.returncode, out.decode(), self.shown)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 65_536)
            except OSError:  # the other end is closed: the command has ended
                return
            if not data:
                return
            self._shown += data
