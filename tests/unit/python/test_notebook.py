"""The display of a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batch_llm.engine.events import FirstFailure, Progress, RunFinished, RunStarted, RunSummary
from batch_llm.python.notebook import NotebookPanel, Picture, running_notebook
from batch_llm.watching.board import Board


class Screen:
    """What IPython's display would be told."""

    def __init__(self) -> None:
        self.shown: list[Picture] = []
        self.opened = 0
        self.now_s = 0.0

    def __call__(self, picture: Picture, *, display_id: bool) -> Screen:
        assert display_id
        self.opened += 1
        self.shown.append(picture)
        return self

    def update(self, picture: Picture) -> None:
        self.shown.append(picture)


def test_one_display_is_updated_in_place_twice_a_second(progress: Callable[..., Progress]) -> None:
    screen = Screen()
    with NotebookPanel(Board("tone"), screen, lambda: screen.now_s) as panel:
        for tenth in range(20):
            screen.now_s = tenth / 10
            panel(progress(ok=tenth))
    assert screen.opened == 1
    assert len(screen.shown) == 1 + 3 + 1  # at its start, twice a second, at its end
    assert "<progress" in screen.shown[-1].page and "4,238" in repr(screen.shown[-1])


def test_no_text_steers_the_page(summary: Callable[..., RunSummary]) -> None:
    """A provider's message is shown as text."""
    screen = Screen()
    with NotebookPanel(Board("tone"), screen, lambda: 0.0) as panel:
        panel(RunStarted("tone", "tone-1", 2, 1, resumed=False, output="out"))
        panel(FirstFailure("refused", "<script>alert(1)</script>", 0, 1))
        panel(RunFinished(summary()))
    page: Any = screen.shown[-1].page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "tone-1 - finished" in page


def test_outside_of_a_notebook_there_is_none() -> None:
    assert running_notebook() is None
