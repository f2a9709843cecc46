"""Ctrl-C, SIGTERM and a terminal that closes while a run is going.

Belongs here: turning signals into 'drain', then 'stop at once'. Not here: draining (engine).
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Protocol

__all__ = ["Interrupts", "Stoppable"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOWN_ON = (1, 2)  # stdout and stderr


class Stoppable(Protocol):
    """What can drain: the engine."""

    def stop(self) -> None:
        """Send nothing new and let what is in flight come in."""
        ...


class Interrupts:
    """The first signal drains, the second cancels; before there is anything to drain the first one cancels.

    A terminal that closes (SIGHUP) is told several times over: it drains, and nothing more is shown on it. Whoever
    ignores that signal, as after nohup, goes on ignoring it.

    A context manager inside the event loop; gives back the earlier handlers.
    """

    def __init__(self) -> None:
        """The running task is what a second signal cancels."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only inside a task")
        self._task = task
        self._loop = task.get_loop()
        self._earlier: dict[int, Any] = {}
        self._asked = False
        self._hung = False
        self._terminals = [number for number in SHOWN_ON if os.isatty(number)]
        self.engine: Stoppable | None = None  # set as soon as there is one

    def __enter__(self) -> Interrupts:
        """Listen."""
        for number in SIGNALS:
            self._earlier[number] = signal.getsignal(number)
            self._loop.add_signal_handler(number, self.interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._earlier[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
            self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop listening."""
        for number, handler in self._earlier.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def interrupt(self) -> None:
        """One signal came."""
        if self.engine is None or self._asked:
            self._task.cancel()
            return
        self._asked = True
        self.engine.stop()

    def _hung_up(self) -> None:
        """The terminal is gone: writing to it would be an error."""
        gone, self._terminals = self._terminals, []
        if gone:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for number in gone:
                os.dup2(nowhere, number)
            os.close(nowhere)
        if not (self._asked or self._hung):
            self.interrupt()
        self._hung = True
