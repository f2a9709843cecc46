"""Fixtures of the command line's tests: running a command in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from batch_llm.cli import main


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run `batch-llm` with these arguments in this process, in an empty home."""

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        code = end.value.code
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run
