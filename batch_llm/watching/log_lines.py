"""A run's progress as plain log lines, for where there is no terminal and no notebook.

Belongs here: when a line is due. Not here: its words (board.py), where it goes (each door).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from batch_llm.engine.events import Event, Progress
from batch_llm.watching.board import Board, remark

__all__ = ["LINE_EVERY_S", "LogLines"]

LINE_EVERY_S = 30.0


class LogLines:
    """One line per 30 s while rows move, and a line at once for what is worth saying."""

    def __init__(
        self, board: Board, tell: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``tell``: takes a line. The first progress line is due 30 s after this."""
        self._board = board
        self._tell = tell
        self._monotonic = monotonic
        self._next_s = monotonic() + LINE_EVERY_S

    def __call__(self, event: Event) -> None:
        """Take an event; print when something is due."""
        self._board.take(event)
        if (text := remark(event)) is not None:
            self._tell(text)
        if isinstance(event, Progress) and self._monotonic() >= self._next_s:
            self._next_s = self._monotonic() + LINE_EVERY_S
            self._tell(self._board.line())

    def __enter__(self) -> LogLines:
        """Nothing to open."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to close."""
