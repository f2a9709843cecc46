"""Ctrl-C while a run goes: the first one drains it, the second one ends it at once.

Belongs here: SIGINT of this process, cancellation of who awaits. Not here: draining (engine). A process has one handler
of a signal and may have several runs, so the runs that listen are kept in one list; the earlier handler comes back with
the last of them. Only the main thread hears signals: elsewhere nothing is installed.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from batch_llm.engine.engine import Engine
from batch_llm.errors import Cancelled

__all__ = ["AT_ONCE", "Interrupts"]

AT_ONCE = "stopped at once. Every answer that had come in is kept; the same call goes on from there"
DRAINED = "stopped. What was in flight came in and is kept; the same call goes on from there"
TOO_EARLY = "stopped before anything was asked; nothing was spent"

Result = TypeVar("Result")

_earlier: list[Any] = []  # the handler before ours, while anybody listens


class Interrupts:
    """What may end one run early; a context manager around it, in the thread that waits for it."""

    def __init__(self) -> None:
        """Nothing is heard before ``with``."""
        self._asked = False
        self._engine: Engine | None = None
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def __enter__(self) -> Interrupts:
        """Listen to Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            if not _listening:
                _earlier[:] = [signal.signal(signal.SIGINT, _interrupt_all)]
            _listening.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop listening."""
        if self in _listening:
            _listening.remove(self)
            if not _listening and signal.getsignal(signal.SIGINT) is _interrupt_all:
                signal.signal(signal.SIGINT, _earlier[0] if _earlier[0] is not None else signal.SIG_DFL)

    def interrupt(self) -> None:
        """Drain; at once when it was asked to drain before. From the main thread."""
        if not self._asked:
            self._drain()
        elif self._running is not None:
            loop, task = self._running
            loop.call_soon_threadsafe(task.cancel)

    def opened(self, engine: Engine) -> None:
        """There is something to drain now. Raises `Cancelled` when Ctrl-C came before."""
        self._engine = engine
        if self._asked:
            raise Cancelled(TOO_EARLY)

    async def guard(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run to the end; who is cancelled meanwhile drains first, and is cancelled then.

        Raises `asyncio.CancelledError` that says how to go on.
        """
        task = asyncio.create_task(work)
        self._running = (asyncio.get_running_loop(), task)
        cancelled = False
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                if cancelled:
                    task.cancel()
                cancelled = True
                self._drain()
        if task.cancelled():
            raise asyncio.CancelledError(AT_ONCE)
        if cancelled:
            raise asyncio.CancelledError(DRAINED) from task.exception()
        return task.result()

    def _drain(self) -> None:
        self._asked = True
        if self._engine is not None:
            self._engine.stop()


def _interrupt_all(number: int, frame: object) -> None:
    for listening in _listening:
        listening.interrupt()


_listening: list[Interrupts] = []  # one list for the process, as there is one handler
