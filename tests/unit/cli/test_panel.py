"""The live panel, drawn into memory."""

import io
from collections.abc import Callable
from decimal import Decimal

import pytest
from rich.console import Console

from batch_llm.cli.panel import LivePanel
from batch_llm.cli.watch import watcher_for
from batch_llm.engine.events import FirstFailure, Progress
from batch_llm.watching.board import Board


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(panel: LivePanel, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(panel.picture())
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_panel_shows_the_board(progress: Callable[..., Progress]) -> None:
    panel = LivePanel(Board("tone", Decimal(25)), io.StringIO())
    panel(progress(holding_back="[red]not markup[/red]"))
    text = drawn(panel)
    for part in (
        "1,200/4,238 28 %",
        "480 of 500 per minute",
        "$0.5123 of $25.00",
        "[red]not markup[/red]",
        "12 min 05 s",
    ):
        assert part in text


def test_the_panel_can_be_drawn_before_anything_happened() -> None:
    assert "tone - starting" in drawn(LivePanel(Board("tone"), io.StringIO()))


def test_a_narrow_terminal_is_enough(progress: Callable[..., Progress]) -> None:
    panel = LivePanel(Board("tone"), io.StringIO())
    panel(progress())
    assert all(len(line) <= 40 for line in drawn(panel, width=40).splitlines())


def test_remarks_scroll_above_and_the_terminal_is_left_clean(progress: Callable[..., Progress]) -> None:
    """Nothing of a remark is taken as markup or as a control sequence."""
    terminal = Terminal()
    with LivePanel(Board("tone"), terminal) as panel:
        panel(progress())
        panel(FirstFailure("timeout", "no [bold]answer\x1b[2J", 0, 1))
    text = terminal.getvalue()
    assert "no [bold]answer\ufffd[2J" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back


def test_the_cursor_waits_on_an_empty_line_of_its_own(progress: Callable[..., Progress]) -> None:
    """Where a terminal echoes ^C: behind a line of full width that would scroll, and leave a piece of the panel."""
    terminal = Terminal()
    with LivePanel(Board("tone"), terminal) as panel:
        panel(progress())
    assert (
        terminal.getvalue().rpartition("╯")[2].removeprefix("\x1b[0m").startswith("\n\n")
    )  # the second one is the end's own


@pytest.mark.parametrize(
    ("err_is_terminal", "out_is_terminal", "json", "term", "panel_on"),
    [
        (True, True, False, "xterm", "err"),
        (False, True, False, "xterm", "out"),
        (False, True, True, "xterm", None),
        (True, False, True, "xterm", "err"),
        (False, False, False, "xterm", None),
        (True, True, False, "dumb", None),
    ],
)
def test_a_panel_only_in_a_terminal_and_never_into_json(
    monkeypatch: pytest.MonkeyPatch, err_is_terminal: bool, out_is_terminal: bool, json: bool, term: str,
    panel_on: str | None,
) -> None:  # fmt: skip
    files = {
        "err": Terminal() if err_is_terminal else io.StringIO(),
        "out": Terminal() if out_is_terminal else io.StringIO(),
    }
    monkeypatch.setattr("sys.stderr", files["err"])
    monkeypatch.setattr("sys.stdout", files["out"])
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a CI's wish for colours makes no terminal
    watcher = watcher_for(Board("tone"), json=json)
    assert isinstance(watcher, LivePanel) == (panel_on is not None)
    with watcher:
        pass
    used = {name for name, file in files.items() if file.getvalue()}
    assert used == ({panel_on} if panel_on else set())
