"""The process boundary: plain words on stderr, the right code, no traceback, no secret."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer import Abort

from batch_llm import errors
from batch_llm.cli.entry import ExitBoundary
from batch_llm.config.secrets import resolve

Cli = Callable[..., Any]


def ended_by(error: BaseException) -> int:
    with ExitBoundary() as boundary:
        raise error
    return boundary.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.JobFileError("jobs/x.yaml:3: output.mode"), 2),
        (errors.Cancelled("stopped at once"), 3),
        (errors.SliceBusy("another process"), 3),
        (PermissionError(13, "Permission denied", "jobs/x.yaml"), 2),
        (KeyboardInterrupt(), 3),
        (Abort(), 3),
    ],
)
def test_an_expected_end_is_told_in_plain_words(
    error: BaseException, code: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_by(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("batch-llm: ")
    assert str(getattr(error, "filename", error)) in err
    assert "Traceback" not in err
    assert not list(home.iterdir())


@pytest.mark.parametrize("error", [ZeroDivisionError("boom"), errors.LimiterError("boom")])
def test_a_fault_of_ours_leaves_a_report_in_the_home(
    error: Exception, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4; the traceback stands in a file that the message names and nobody else may read."""
    assert ended_by(error) == 4
    err = capsys.readouterr().err
    (report,) = (home / "errors").iterdir()
    assert str(report) in err
    assert "Traceback" not in err
    assert "ended_by" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0


def test_no_secret_reaches_the_message_or_the_report(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = resolve("${env:SOME_KEY}", {"SOME_KEY": "planted-value-123"}).get_secret_value()
    assert ended_by(RuntimeError(f"could not log in with {secret}")) == 4
    (report,) = (home / "errors").iterdir()
    err = capsys.readouterr().err
    assert secret not in err
    assert secret not in report.read_text()
    assert "could not log in with ***" in err


def test_a_home_that_cannot_be_written_does_not_hide_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ended_by(RuntimeError("boom")) == 4
    (report,) = tmp_path.glob("batch_llm-error-*.txt")
    assert str(report) in capsys.readouterr().err


def test_a_system_exit_goes_through() -> None:
    with pytest.raises(SystemExit), ExitBoundary():
        raise SystemExit(7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-command"], "no-such-command"),
        (["run"], "JOB"),
        (["run", "x", "--limit", "0"], "--limit"),
        (["run", "x", "--limit", "many"], "--limit"),
        (["plan", "x", "--wrong"], "--wrong"),
        (["export", "x"], "--to"),
        (["run", "x", "--confirm-above", "much"], "--confirm-above"),
        (["schema", "nothing"], "nothing"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_names_what_is_wrong(cli: Cli, arguments: list[str], words: str) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err


def test_without_a_command_the_help_is_shown(cli: Cli) -> None:
    said = cli()
    assert said.code == 2
    assert "Commands:" in said.err


def test_signals_are_left_as_they_were(cli: Cli) -> None:
    before = signal.getsignal(signal.SIGINT)
    cli("--help")
    assert signal.getsignal(signal.SIGINT) is before
