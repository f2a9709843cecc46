"""A run's progress in a notebook: one display that is updated in place.

Belongs here: finding a notebook, drawing as HTML and as plain text. Not here: the words (watching/board.py). IPython is
no dependency: where it runs it is loaded, and it is taken from there.
"""

from __future__ import annotations

import html
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batch_llm.engine.events import Event
from batch_llm.watching.board import Board, remark
from batch_llm.watching.words import printable, scrubbed

__all__ = ["NotebookPanel", "Picture", "running_notebook"]

UPDATE_EVERY_S = 0.5  # slices may be published many times a second
KEPT_REMARKS = 8
BAR = "<progress max='{rows}' value='{done}' style='width:24em'></progress> {done:,}/{rows:,}"

Display = Callable[..., Any]  # IPython.display.display


def running_notebook() -> Display | None:
    """How to display in the notebook that this process is the kernel of; None when it is none (also in a terminal)."""
    ipython, display = sys.modules.get("IPython"), sys.modules.get("IPython.display")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or display is None or getattr(shell, "kernel", None) is None:
        return None
    show: Display = display.display
    return show


@dataclass(frozen=True, slots=True)
class Picture:
    """What a display shows at one moment."""

    page: str  # HTML
    text: str  # where HTML cannot be shown

    def _repr_html_(self) -> str:
        return self.page

    def __repr__(self) -> str:
        return self.text


class NotebookPanel:
    """Redraws the board in one display; a listener, and a context manager around the run."""

    def __init__(self, board: Board, display: Display, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``display``: see `running_notebook`."""
        self._board = board
        self._display = display
        self._monotonic = monotonic
        self._remarks: deque[str] = deque(maxlen=KEPT_REMARKS)
        self._handle: Any = None
        self._next_s = 0.0

    def __call__(self, event: Event) -> None:
        """Take an event; draw when something is due."""
        self._board.take(event)
        text = remark(event)
        if text is not None:
            self._remarks.append(text)
        if text is not None or self._monotonic() >= self._next_s:
            self._draw()

    def __enter__(self) -> NotebookPanel:
        """Open the display."""
        self._draw()
        return self

    def __exit__(self, *exc: object) -> None:
        """The last picture stays."""
        self._draw()

    def picture(self) -> Picture:
        """The board as it stands now; no text of it can steer the page."""
        board = self._board
        lines = [f"<b>{_safe(board.title)}</b>"]
        if board.rows:
            lines.append(BAR.format(rows=board.rows, done=board.done))
        lines.append("<table>")
        lines += [f"<tr><td>{_safe(fact.label)}</td><td>{_safe(fact.text)}</td></tr>" for fact in board.facts()]
        lines.append("</table>")
        lines += [f"<div>{_safe(text)}</div>" for text in self._remarks]
        return Picture("\n".join(lines), scrubbed(printable(board.line())))

    def _draw(self) -> None:
        self._next_s = self._monotonic() + UPDATE_EVERY_S
        if self._handle is None:
            self._handle = self._display(self.picture(), display_id=True)
        else:
            self._handle.update(self.picture())


def _safe(text: str) -> str:
    return html.escape(scrubbed(printable(text)))
