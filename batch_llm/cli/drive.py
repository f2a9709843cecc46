"""Running the engine from a terminal: events to a watcher, signals to a stop, the end to the job's channels.

Belongs here: the bridge between a synchronous command and the asynchronous engine. Not here: what a command says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from batch_llm.cli.interrupts import Interrupts
from batch_llm.cli.watch import Watcher, watcher_for
from batch_llm.engine.events import RunSummary
from batch_llm.errors import Cancelled, WarehouseError
from batch_llm.watching.board import Board

if TYPE_CHECKING:
    from batch_llm.config.settings import Settings
    from batch_llm.engine.engine import Engine
    from batch_llm.job.load import DeclaredJob

__all__ = ["Action", "drive"]

Action = Callable[["Engine"], Awaitable[RunSummary]]


def drive(settings: Settings, declared: DeclaredJob, action: Action, *, json: bool) -> RunSummary:
    """Open the engine, do one thing with it, show it as it goes; blocking.

    Ctrl-C, SIGTERM or a closed terminal drains (the summary then says so); a second one raises `Cancelled`.
    """
    board = Board(declared.job.name, declared.job.budget_usd)
    try:
        with watcher_for(board, json=json) as watcher:
            return asyncio.run(_drive(settings, declared, action, watcher))
    except PermissionError as error:  # something may be paid: it is not told as an error of the start
        raise WarehouseError(f"{error.filename}: {error.strerror}; mend that, then the same command goes on") from error
    except asyncio.CancelledError:
        raise Cancelled(
            "stopped at once. Every answer that had come in is in the journal; the same command goes on from there"
        ) from None


async def _drive(settings: Settings, declared: DeclaredJob, action: Action, watcher: Watcher) -> RunSummary:
    from batch_llm import wiring

    with Interrupts() as interrupts:
        async with wiring.engine(settings, declared, listener=watcher) as engine:
            interrupts.engine = engine
            return await action(engine)
