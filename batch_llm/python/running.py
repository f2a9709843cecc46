"""Running a job from Python: the awaitable form, and the sync one around it.

Belongs here: the order of things. Not here: what was given (jobs.py), Ctrl-C (interrupts.py), what is shown meanwhile
(progress.py), what comes back (result.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from batch_llm import wiring
from batch_llm.config.settings import Settings
from batch_llm.engine.events import Event, Listener, RunSummary
from batch_llm.engine.listening import Guard
from batch_llm.errors import ConfigurationError, InputError
from batch_llm.job.load import DeclaredJob
from batch_llm.python.edge import run_to_end
from batch_llm.python.interrupts import AT_ONCE, Interrupts
from batch_llm.python.jobs import AnyJob, AnyTable, declared_over
from batch_llm.python.progress import watching
from batch_llm.python.result import RunResult

__all__ = ["arun", "run"]


def run(
    job: AnyJob,
    table: AnyTable = None,
    *,
    limit: int | None = None,
    listener: Listener | None = None,
    progress: bool = True,
) -> RunResult:
    """Run a job over a table as `batch-llm run` does, without asking before it spends; give it a `budget_usd`.

    Works anywhere, in a notebook's cell as well: where a loop is running, the run gets a thread of its own. Ctrl-C (the
    notebook's stop button) drains: what is in flight comes in, the rest stays pending, and the result says ``stopped``;
    the same call goes on. A second Ctrl-C stops at once.

    Args:
        job: A job file's path, a declared job, a `Job`, or a dict with the keys of the job file (its relative paths are
            then relative to the working directory).
        table: A frame (pandas, Arrow, polars), a file or glob (relative to the working directory), or a table of the
            warehouse; in the place of the job's own `input.table`. None: the job's own.
        limit: Ask only so many rows (1 or more); the others stay pending.
        listener: Hears the events of `batch_llm.engine.events`, in the thread of the run. One that raises is logged
            once and hears no more; the run goes on.
        progress: Show how far it is: in a notebook one display, elsewhere a line per 30 s on stderr.

    Raises:
        ConfigurationError: The job, its tables or the providers file are wrong; nothing was spent.
        KeyboardInterrupt: Ctrl-C came twice. Every answer that had come in is kept.
    """
    with Interrupts() as interrupts:
        try:
            return run_to_end(_run(_Call(job, table, limit, listener, progress), interrupts))
        except asyncio.CancelledError:
            raise KeyboardInterrupt(AT_ONCE) from None


async def arun(
    job: AnyJob,
    table: AnyTable = None,
    *,
    limit: int | None = None,
    listener: Listener | None = None,
    progress: bool = True,
) -> RunResult:
    """`run` to be awaited, in the caller's loop.

    Cancelling it drains as Ctrl-C does and is then raised (`asyncio.CancelledError`); cancelling it twice stops at
    once. Either way what came in is kept and the same call goes on.
    """
    with Interrupts() as interrupts:
        return await _run(_Call(job, table, limit, listener, progress), interrupts)


@dataclass(frozen=True)
class _Call:
    """How it was called."""

    job: AnyJob
    table: AnyTable
    limit: int | None
    listener: Listener | None
    progress: bool

    def __post_init__(self) -> None:
        """Every row would be asked where the limit is no number of rows."""
        limit: object = self.limit
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 1):
            raise ConfigurationError(
                f"limit is {self.limit!r}; it is a whole number of rows, 1 or more, or None for all"
            )


async def _run(call: _Call, interrupts: Interrupts) -> RunResult:
    settings = Settings.from_environment()
    summary = await interrupts.guard(_summary(settings, call, interrupts))
    return RunResult(summary, wiring.open_store(settings))


async def _summary(settings: Settings, call: _Call, interrupts: Interrupts) -> RunSummary:
    declared = await asyncio.to_thread(declared_over, settings, call.job, call.table)
    with _your_table(settings, declared), watching(declared.job, show=call.progress) as watch:
        listener = watch if call.listener is None else _both(Guard(watch), Guard(call.listener, is_guest=True))
        async with wiring.engine(settings, declared, listener=listener, is_guest=True) as engine:
            interrupts.opened(engine)
            return await engine.run(limit=call.limit)


@contextmanager
def _your_table(settings: Settings, declared: DeclaredJob) -> Iterator[None]:
    """Who handed a frame over does not know the file that it lies in now."""
    try:
        yield
    except InputError as error:
        source = declared.resolve(str(declared.job.input.table))
        if Path(source).parent != settings.uploads_dir:
            raise
        raise InputError(str(error).replace(repr(source), "(your table)")) from error


def _both(first: Listener, second: Listener) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell
