"""What is shown while a run goes: a notebook's display, lines on stderr, or nothing.

Belongs here: the choice, and the lines' way out. Not here: the display (notebook.py), words (watching/).
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

from batch_llm.engine.events import Event, Listener
from batch_llm.job.model import Job
from batch_llm.python.notebook import NotebookPanel, running_notebook
from batch_llm.watching.board import Board
from batch_llm.watching.log_lines import LogLines
from batch_llm.watching.words import printable, scrubbed

__all__ = ["watching"]


def watching(job: Job, *, show: bool) -> AbstractContextManager[Listener]:
    """A listener that shows a run of this job while its block is open."""
    if not show:
        return nullcontext(_nobody)
    board = Board(job.name, job.budget_usd)
    notebook = running_notebook()
    return LogLines(board, _to_stderr) if notebook is None else NotebookPanel(board, notebook)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{scrubbed(printable(line))}\n")
    sys.stderr.flush()


def _nobody(event: Event) -> None:
    """Shows nothing."""
