"""Progress where there is no terminal."""

from collections.abc import Callable

import pytest

from batch_llm.cli.speech import tell
from batch_llm.engine.events import Progress, Stopping
from batch_llm.watching.board import Board
from batch_llm.watching.log_lines import LogLines


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_plain_line_per_30_seconds_on_stderr(
    progress: Callable[..., Progress], capsys: pytest.CaptureFixture[str]
) -> None:
    time = Time()
    with LogLines(Board("tone"), tell, time) as lines:
        for second in range(1, 96):
            time.now_s = float(second)
            lines(progress(ok=second))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == ["tone: 40/4", "tone: 70/4", "tone: 100/4"]
    assert "\x1b" not in err


def test_a_stop_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with LogLines(Board("tone"), tell, Time()) as lines:
        lines(Stopping("stopped by the user", 3))
    assert capsys.readouterr().err == "draining (stopped by the user), 3 in flight; Ctrl-C again to stop at once\n"
