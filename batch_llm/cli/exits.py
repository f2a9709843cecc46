"""Exit codes: what a script may trust.

Belongs here: the five codes, and which error or end of a run means which. Not here: printing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from batch_llm.errors import (
    BatchLLMError,
    ConfigurationError,
    JournalBusy,
    JournalFull,
    JournalRefused,
    JournalUnreachable,
    LimiterStoreError,
    LimiterUnreachable,
    SliceBusy,
    StopRun,
    WarehouseError,
    WarehouseRefused,
)

if TYPE_CHECKING:
    from batch_llm.engine.events import RunSummary

__all__ = ["SAMPLE", "Exit", "exit_for_error", "exit_for_summary"]

SAMPLE = "sample"  # RunSummary.stopped of a run that stopped where --limit told it to

# The run keeps what is paid and the same command goes on: busy, full and silent places, a warehouse that failed
RESUMABLE = (StopRun, SliceBusy, JournalBusy, JournalFull, JournalUnreachable, WarehouseError)
# The store of the limits: the engine raises this only while nothing was sent; later the run stops, with its summary
# A warehouse that refuses: the engine raises this only while nothing is paid, later a plain WarehouseError
UNUSABLE = (ConfigurationError, JournalRefused, LimiterStoreError, LimiterUnreachable, WarehouseRefused)


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0  # every row asked is ok
    FAILED_ROWS = 1  # finished, some rows failed
    USAGE = 2  # usage or configuration: nothing was spent
    STOPPED = 3  # stopped early and resumable
    INTERNAL = 4  # a fault of batch_llm


def exit_for_error(error: BatchLLMError) -> Exit:
    """The code for an error that ended a command."""
    if isinstance(error, UNUSABLE):
        return Exit.USAGE
    if isinstance(error, RESUMABLE):
        return Exit.STOPPED
    return Exit.INTERNAL


def exit_for_summary(summary: RunSummary) -> Exit:
    """The code for a run that came to an end.

    A sample (``run --limit``) is judged by the rows it asked: the rest stays pending and that is no fault. A run that
    was finished before, with nothing changed since, is no failure of this command, whatever its rows.
    """
    if summary.nothing_to_do:
        return Exit.OK
    if summary.stopped is not None and summary.stopped != SAMPLE:
        return Exit.STOPPED
    if summary.failed:
        return Exit.FAILED_ROWS
    if summary.pending and summary.stopped != SAMPLE:
        return Exit.STOPPED
    return Exit.OK
