"""The provider of a case, a process of its own: the product's simulator, or the fast one of overhead and memory.

Belongs here: its life, its statistics. Not here: how it answers (batch_llm/simulator, fast_provider.py).
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine.process import environment, free_port, started

__all__ = ["ProviderProcess", "fast_provider", "simulator"]

READY_S = 30.0
LOOK_EVERY_S = 0.05
ASK_S = 30.0


class ProviderProcess:
    """One provider on a port that stays the same, also when it is started again."""

    def __init__(self, command: list[str], folder: Path) -> None:
        """``command`` is given ``--port N``; ``folder`` takes what it prints."""
        self.port = free_port()
        self._command = [*command, "--port", str(self.port)]
        self._folder = folder
        self._stack = ExitStack()

    def start(self) -> None:
        """Return when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        process = self._stack.enter_context(started(self._command, environment(), self._folder, self._folder))
        until_s = time.monotonic() + READY_S
        while True:
            try:
                self._ask("/healthz")
                return
            except OSError:  # URLError is one
                if time.monotonic() > until_s or process.poll() is not None:
                    raise
                time.sleep(LOOK_EVERY_S)

    def kill(self) -> None:
        """kill -9; everything it counted is gone."""
        self._stack.close()

    def stats(self, *, detail: bool = False) -> dict[str, Any]:
        """What it saw so far."""
        return self._ask("/stats?detail=1" if detail else "/stats")

    def configure(self, **settings: Any) -> None:
        """Behave like this from the next request on (the simulator only)."""
        self._ask("/sim/config", settings)

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, ASK_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def simulator(folder: Path, **settings: Any) -> Iterator[ProviderProcess]:
    """`batch-llm simulator` with these settings."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    program = str(Path(sys.executable).with_name("batch-llm"))
    yield from _running(ProviderProcess([program, "simulator", *flags], folder))


@contextmanager
def fast_provider(folder: Path, latency_s: float = 0.0) -> Iterator[ProviderProcess]:
    """The provider that costs little beside its clients."""
    script = str(Path(__file__).with_name("fast_provider.py"))
    yield from _running(ProviderProcess([sys.executable, "-P", script, "--latency-s", str(latency_s)], folder))


def _running(provider: ProviderProcess) -> Iterator[ProviderProcess]:
    provider.start()
    try:
        yield provider
    finally:
        provider.kill()
