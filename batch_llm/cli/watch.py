"""Which watcher suits where the output goes: a live panel in a terminal, log lines elsewhere.

Belongs here: the choice. Not here: the watchers (panel.py, watching/log_lines.py).
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Protocol, Self

from batch_llm.cli.speech import tell
from batch_llm.engine.events import Event
from batch_llm.watching.board import Board
from batch_llm.watching.log_lines import LogLines

__all__ = ["Watcher", "watcher_for"]

DUMB = ("dumb", "unknown")  # terminals that cannot move the cursor


class Watcher(Protocol):
    """Listens to a run and shows it; a context manager around the run."""

    def __call__(self, event: Event) -> None:
        """Take an event."""
        ...

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Stop showing."""
        ...


def watcher_for(board: Board, *, json: bool) -> Watcher:
    """A panel when stderr (or, unless ``json``, stdout) is a terminal that can redraw; log lines otherwise."""
    for file in (sys.stderr,) if json else (sys.stderr, sys.stdout):
        if file.isatty() and os.environ.get("TERM", "dumb") not in DUMB:
            from batch_llm.cli.panel import LivePanel

            return LivePanel(board, file)
    return LogLines(board, tell)
