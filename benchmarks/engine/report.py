"""The table: what was promised, what was measured, on which machine.

Belongs here: words and columns. Not here: figures (the file of each kind of case).
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.engine.case import Case, Findings, Target
from benchmarks.limiter.machine import Machine

__all__ = ["Line", "as_json", "as_markdown", "line_text"]

PERCENT = {"use"}
HEADINGS = ("case", "what", "verdict", "promised: measured", "also", "s", "machine: load, busy")


@dataclass(frozen=True, slots=True)
class Line:
    """One run of one case."""

    case: Case
    findings: Findings
    seconds: float
    machine: Machine
    judged: bool = True  # False: only a part of the rows, to see that it works

    @property
    def missed(self) -> list[Target]:
        """The targets that were not reached."""
        if not self.judged:
            return []
        return [target for target in self.case.targets if not target.is_met(self.findings.figures.get(target.figure))]

    @property
    def verdict(self) -> str:
        """For the eye."""
        if self.findings.trouble:
            return "TROUBLE"
        if not self.judged or not self.case.targets:
            return "-"
        return "missed" if self.missed else "ok"


def line_text(line: Line) -> str:
    """A case as it is printed when it ends."""
    more = [f"        {each}" for each in line.findings.seen]
    more += [f"    trouble: {each}" for each in line.findings.trouble]
    return "\n".join(
        [
            f"{line.verdict:7} {line.case.name:14} {_promises(line)}",
            f"        {_others(line)}",
            *more,
            f"        {line.seconds:.0f} s, load {line.machine.text()}",
        ]
    )


def as_markdown(lines: Sequence[Line]) -> str:
    """The whole table, and below it what was seen."""
    rows = [f"| {' | '.join(HEADINGS)} |", f"|{'|'.join(['---'] * len(HEADINGS))}|"]
    for line in lines:
        cells = [
            line.case.name, line.case.about, line.verdict, _promises(line), _others(line), f"{line.seconds:.0f}",
            line.machine.text(),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    seen = [f"- {line.case.name}: {each}" for line in lines for each in (*line.findings.seen, *line.findings.trouble)]
    return "\n".join([_heading(), "", *rows, "", "Seen:", "", *(seen or ["- nothing"]), ""])


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "case": line.case.name,
            "about": line.case.about,
            "verdict": line.verdict,
            "targets": [[each.figure, each.bound, each.value] for each in line.case.targets],
            "figures": {name: value if math.isfinite(value) else None for name, value in line.findings.figures.items()},
            "seen": line.findings.seen,
            "trouble": line.findings.trouble,
            "seconds": line.seconds,
            "load": [line.machine.load_before, line.machine.load_after],
            "busy": line.machine.busy,
        }
        for line in lines
    ]


def _heading() -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}, {os.cpu_count()} cores, Python {platform.python_version()}, load now {os.getloadavg()[0]:.1f}"


def _promises(line: Line) -> str:
    told = []
    for target in line.case.targets:
        value = line.findings.figures.get(target.figure)
        mark = " MISSED" if target in line.missed else ""
        sign = "≥" if target.bound == ">=" else "≤"
        measured = "?" if value is None else _text(target.figure, value)
        told.append(f"{_words(target.figure)} {measured} ({sign} {_text(target.figure, target.value)}{mark})")
    return "; ".join(told)


def _others(line: Line) -> str:
    promised = {target.figure for target in line.case.targets}
    figures = line.findings.figures.items()
    return ", ".join(f"{_words(name)} {_text(name, value)}" for name, value in figures if name not in promised)


def _words(name: str) -> str:
    return name.replace("_us_per_row", " µs/row").replace("_rows_per_s", " rows/s").replace("_", " ")


def _text(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "never"
    if name in PERCENT:
        return f"{value:.2%}"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"
