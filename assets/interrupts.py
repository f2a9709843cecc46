"""Cancel from the UI, for bodies that run an event loop.

Belongs here: running a coroutine so that Dagster's interrupt first asks it to stop, and becomes a `dg.Failure` that
nobody retries. Not here: what stopping means (the engine drains).

Dagster's own handler raises in the middle of whatever runs, which a task inside the loop would swallow; so while the
loop runs, the signals are the loop's. A body on another thread than the main one gets no signals and needs none.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg

__all__ = ["Interrupts", "run_interruptible"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DRAIN_S = 30.0  # calls in flight are paid for: wait this long for their answers

Result = TypeVar("Result")


class Interrupts:
    """What a coroutine under `run_interruptible` sees of an interrupt."""

    def __init__(self) -> None:
        """Not interrupted yet."""
        self.received = False
        self._stop: Callable[[], None] | None = None
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def stopping_with(self, stop: Callable[[], None]) -> Iterator[None]:
        """Inside the body, an interrupt calls ``stop`` and waits; outside, it cancels the coroutine at once."""
        self._stop = stop
        if self.received:
            stop()
        try:
            yield
        finally:
            self._stop = None

    def interrupt(self) -> None:
        """The signal came: ask to stop; the second one, or the end of patience, cancels."""
        again, self.received = self.received, True
        task = self._task
        if task is None:
            return
        if self._stop is None or again:
            task.cancel()
        else:
            self._stop()
            task.get_loop().call_later(DRAIN_S, task.cancel)

    async def watch(self, body: Coroutine[Any, Any, Result]) -> Result:
        """Run ``body`` as the coroutine that an interrupt stops."""
        self._task = asyncio.ensure_future(body)
        try:
            return await self._task
        finally:
            self._task = None


def run_interruptible(body: Callable[[Interrupts], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine from a sync body.

    Raises:
        dg.Failure: It was interrupted; retries are not allowed, so the run ends CANCELED when the UI asked for it.
    """
    interrupts = Interrupts()
    try:
        result = asyncio.run(_with_signals(interrupts, body))
    except (asyncio.CancelledError, dg.DagsterExecutionInterruptedError):
        raise _cancelled() from None  # where it was interrupted is nobody's fault: no stack of it
    if interrupts.received:
        raise _cancelled()
    return result


async def _with_signals(interrupts: Interrupts, body: Callable[[Interrupts], Coroutine[Any, Any, Result]]) -> Result:
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        return await interrupts.watch(body(interrupts))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, interrupts.interrupt)
    try:
        return await interrupts.watch(body(interrupts))
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _cancelled() -> dg.Failure:
    return dg.Failure(
        description="Cancelled. Every answer that was paid for is kept; rerun this partition (or start the job again) "
        "to ask only what is missing.",
        allow_retries=False,
    )
