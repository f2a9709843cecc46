"""A run's progress as a live panel in a terminal.

Belongs here: drawing with rich. Not here: the words (watching/board.py).
"""

from __future__ import annotations

from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batch_llm.cli.speech import printable, scrubbed
from batch_llm.engine.events import Event
from batch_llm.watching.board import Board, remark

__all__ = ["LivePanel"]

REDRAWS_PER_SECOND = 4
STATE_COLOURS = {"running": "green", "draining": "yellow", "waiting": "yellow", "stalled": "red"}


class LivePanel:
    """Redraws the board in place four times a second; remarks scroll above it. Leaves the terminal clean."""

    def __init__(self, board: Board, file: TextIO) -> None:
        """``file``: the terminal."""
        self._board = board
        self._console = Console(file=file, highlight=False, markup=False)
        self._live = Live(
            get_renderable=lambda: Group(self.picture(), Text()),  # on the empty line the terminal echoes ^C
            console=self._console,
            refresh_per_second=REDRAWS_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # stdout belongs to results
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        """Take an event; the next redraw shows it."""
        self._board.take(event)
        if (text := remark(event)) is not None:
            self._console.print(Text(scrubbed(printable(text))))

    def picture(self) -> Panel:
        """The panel as it stands now."""
        board = self._board
        lines = Table.grid(padding=(0, 2))
        lines.add_column(justify="right", style="dim", no_wrap=True)
        lines.add_column(overflow="fold")
        for fact in board.facts():
            lines.add_row(fact.label, Text(printable(fact.text)))
        colour = STATE_COLOURS.get(board.state, "cyan")
        return Panel(Group(self._bar(), lines), title=Text(board.title), title_align="left", border_style=colour)

    def _bar(self) -> Table:
        board = self._board
        share = board.share if board.rows else ""
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(
            ProgressBar(total=max(1, board.rows), completed=board.done), f"{board.done:,}/{board.rows:,} {share}"
        )
        return bar

    def __enter__(self) -> LivePanel:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop drawing and give the terminal back."""
        self._live.stop()
