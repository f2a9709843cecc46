"""How the command line speaks."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from batch_llm.cli import speech
from batch_llm.config.secrets import register_secret


def test_the_program_is_called_as_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", [".venv/bin/batch-llm", "demo"])
    assert speech.program() == ".venv/bin/batch-llm"
    monkeypatch.setattr("sys.argv", ["/my clone/batch-llm", "demo"])
    assert speech.program() == "'/my clone/batch-llm'"
    monkeypatch.setattr("sys.argv", ["/x/batch_llm/cli/__main__.py"])
    assert speech.program() == "batch-llm"


def test_json_is_one_line_with_money_as_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = {
        "usd": Decimal("0.125"),
        "at": at,
        "path": Path("a b"),
        "raw": b"\xc3\xa9",
        "none": None,
        "nan": float("nan"),
    }
    speech.print_json(value)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "usd": 0.125, "at": "2026-01-02T03:04:05Z", "path": "a b", "raw": "é", "none": None, "nan": None
    }  # fmt: skip


FAMILY, HEBREW = "👩\u200d👧", "\u200f\u05e9\u05dc"  # a joiner, a mark of direction


def test_row_text_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What joins and marks letters is shown."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    speech.say(f"before\x1b[2Jafter\r\x07\x9b\nnext\tline é 日本 {FAMILY} {HEBREW} \u202eturned")
    shown = f"before\ufffd[2Jafter\ufffd\ufffd\ufffd\nnext\tline é 日本 {FAMILY} {HEBREW} \ufffdturned\n"
    assert capsys.readouterr().out == shown


def test_a_file_or_pipe_gets_row_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"\x1b[2J \x07 {FAMILY} {HEBREW} \u202eturned"
    speech.say(f"{text} \ud800")
    speech.tell(text)
    assert capsys.readouterr() == (f"{text} ?\n", f"{text}\n")


def test_nothing_that_is_printed_holds_a_known_secret(capsys: pytest.CaptureFixture[str]) -> None:
    register_secret("planted-speech-value")
    speech.say("a planted-speech-value")
    speech.tell("b planted-speech-value")
    speech.complain("c planted-speech-value")
    speech.print_json({"d": "planted-speech-value"})
    out, err = capsys.readouterr()
    assert "planted" not in out + err
    assert out == 'a ***\n{"d":"***"}\n'
    assert err == "b ***\nbatch-llm: c ***\n"


def test_a_table_is_aligned_and_stays_within_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    text = speech.table(["class", "rows", "error"], [["timeout", 12, "x" * 100], ["too_large", 3, "a\nb\x1b[0m"]])
    lines = text.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert [line.index(word) for line, word in zip(lines[2:], ["12", "3"], strict=True)] == [11, 11]
    assert lines[3].endswith("a b\ufffd[0m")
