"""The table says what was missed, and a case without its figure has missed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.engine.__main__ import main
from benchmarks.engine.case import Case, Findings, Scope, Target
from benchmarks.engine.cases import CASES
from benchmarks.engine.report import Line, as_json, as_markdown, line_text
from benchmarks.limiter.machine import Machine

MACHINE = Machine(cores=2, load_before=0.1, load_after=0.2, busy=0.5, stolen=0.0)
PROMISE = Case("one", "what | how", lambda _: Findings(), (Target("use", ">=", 0.99), Target("rejected", "<=", 2)))


def line(judged: bool = True, trouble: str = "", **figures: float) -> Line:
    return Line(PROMISE, Findings(dict(figures), ["seen"], [trouble] if trouble else []), 1.0, MACHINE, judged)


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({"use": 0.99, "rejected": 2}, "ok"),
        ({"use": 0.9899, "rejected": 2}, "missed"),
        ({"use": 1.0, "rejected": 3}, "missed"),
        ({"use": 1.0}, "missed"),
        ({"use": float("nan"), "rejected": 0}, "missed"),
    ],
)
def test_the_verdict_is_strict(figures: dict[str, float], verdict: str) -> None:
    assert line(**figures).verdict == verdict


def test_trouble_fails_a_case_whatever_its_figures() -> None:
    found = line(trouble="it did not start", use=1.0, rejected=0.0)
    assert found.verdict == "TROUBLE"
    assert "it did not start" in line_text(found)


def test_a_part_of_the_rows_is_not_judged() -> None:
    assert (line(judged=False).verdict, line(judged=False).missed) == ("-", [])


def test_the_table_shows_figures_what_was_seen_and_the_machine() -> None:
    found = line(use=0.5, rejected=3.0, cpu_us_per_row=1234.0)
    table = as_markdown([found])
    assert "use 50.00% (≥ 99.00% MISSED); rejected 3 (≤ 2 MISSED)" in table
    assert "cpu µs/row 1,234" in table
    assert "what / how" in table
    assert "- one: seen" in table
    assert json.loads(json.dumps(as_json([found])))[0]["figures"]["use"] == 0.5


def test_cases_have_names_of_their_own_and_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert main(["--list"]) == 0
    assert [text.split()[0] for text in capsys.readouterr().out.splitlines()] == names


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(SystemExit, match="overhaed"):
        main(["overhaed"])


def test_a_scope_has_fewer_rows_when_quick_and_never_none(tmp_path: Path) -> None:
    assert Scope(tmp_path).rows(1_000, 100) == 1_000
    assert Scope(tmp_path, quick=True).rows(1_000, 100) == 100
    assert Scope(tmp_path, quick=True, part=0.01).rows(1_000, 100) == 20
