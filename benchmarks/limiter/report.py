"""The table: what was promised, what was measured, on which machine.

Belongs here: words and columns. Not here: figures (measure.py and the .._cost.py).
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks.limiter.case import Case, Target
from benchmarks.limiter.machine import Machine

__all__ = ["Line", "as_json", "as_markdown", "line_text"]

PERCENT = {"use", "use_after", "use_of_available", "weight_error", "more_at_1000", "granted", "core_wait"}
ROUNDED = 5e-4  # a use is judged as it is printed, to a tenth of a percent
UNITS = {"rejected_share": "{:.3%}", "jain": "{:.4f}", "calls_per_row": "{:.5f}", "worst_1s": "{:.3f}"}
WORDS = {
    "use": "use", "use_after": "use from 3 s after", "use_of_available": "use of what is available",
    "rejected": "rejected", "rejected_share": "rejected",
    "rejected_per_10000": "rejected per 10,000", "back_s": "back after, s", "weight_error": "weights off by",
    "rows_left": "rows left", "calls_per_row": "calls per row", "client_us_per_row": "client µs per row",
    "us_1_tenant": "Redis µs, 1 tenant", "us_4_tenants": "Redis µs, 4 tenants",
    "more_at_1000": "more with 1,000 tenants", "jain": "Jain",
}  # fmt: skip
COLUMNS = (
    "rows_per_s",
    "needs_ms",
    "worst_1s",
    "jain",
    "calls_per_row",
    "worker_us_per_row",
    "redis_us_per_call",
    "core_wait",
)
HEADINGS = (
    "case", "what", "clock", "processes", "tenants", "s", "rows/s", "promised: measured", "needs a bucket of, ms",
    "worst 1 s / limit", "Jain", "calls/row", "worker µs/row (with harness)", "Redis µs/call", "waited for a core",
    "machine: load, busy",
)  # fmt: skip


@dataclass(slots=True)
class Line:
    """One run of one case."""

    case: Case
    clock: str
    seconds: float
    figures: dict[str, float]
    machine: Machine
    trouble: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[Target]:
        """The targets that were not reached."""
        return [target for target in self.case.targets if not _is_met(target, self.figures.get(target.figure))]

    @property
    def verdict(self) -> str:
        """For the eye."""
        return "TROUBLE" if self.trouble else "missed" if self.missed else "ok" if self.case.targets else "-"


def line_text(line: Line) -> str:
    """A case as it is printed when it ends: a line of what was promised, a line of everything else."""
    shown = {target.figure for target in line.case.targets}
    also = ", ".join(f"{name} {_text(name, value)}" for name, value in line.figures.items() if name not in shown)
    trouble = "".join(f"\n    trouble: {each}" for each in line.trouble)
    return (
        f"{line.verdict:7} {line.case.name:22} {_promises(line)}\n"
        f"        {line.clock}, {line.seconds:.0f} s, {line.case.workers} processes, {line.case.tenants}: {also}\n"
        f"        load {line.machine.text()}{trouble}"
    )


def as_markdown(lines: Sequence[Line]) -> str:
    """The whole table."""
    rows = [" | ".join(("", *HEADINGS, "")).strip(), "|".join(("", *["---"] * len(HEADINGS), ""))]
    for line in lines:
        cells = [
            line.case.name, line.case.about, line.clock, str(line.case.workers), line.case.tenants,
            f"{line.seconds:.0f}", *(_cell(line, name) for name in COLUMNS[:1]), _promises(line),
            *(_cell(line, name) for name in COLUMNS[1:]), line.machine.text(),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    missed = [f"{line.case.name}: {_promises(line)}" for line in lines if line.missed or line.trouble]
    told = "\n".join(f"- {each}" for each in missed) if missed else "- none"
    others = [
        f"- {line.case.name}: " + ", ".join(f"{name} {_text(name, value)}" for name, value in line.figures.items())
        for line in lines
    ]
    return "\n".join([_heading(), "", *rows, "", "Missed:", told, "", "Every figure:", *others, ""])


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "case": line.case.name,
            "about": line.case.about,
            "clock": line.clock,
            "processes": line.case.workers,
            "tenants": line.case.tenants,
            "seconds": line.seconds,
            "verdict": line.verdict,
            "targets": [[each.figure, each.bound, each.value] for each in line.case.targets],
            "figures": {name: value if math.isfinite(value) else None for name, value in line.figures.items()},
            "load": [line.machine.load_before, line.machine.load_after],
            "busy": line.machine.busy,
            "trouble": line.trouble,
        }
        for line in lines
    ]


def _heading() -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}, {os.cpu_count()} cores, Python {platform.python_version()}, load now {os.getloadavg()[0]:.1f}"


def _promises(line: Line) -> str:
    told = []
    for target in line.case.targets:
        value = line.figures.get(target.figure)
        mark = "" if _is_met(target, value) else " MISSED"
        sign = "≥" if target.bound == ">=" else "≤"
        measured = "?" if value is None else _text(target.figure, value)
        name = WORDS.get(target.figure, target.figure)
        told.append(f"{name} {measured} ({sign} {_text(target.figure, target.value)}{mark})")
    return "; ".join(told)


def _cell(line: Line, name: str) -> str:
    return _text(name, line.figures[name]) if name in line.figures else ""


def _text(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "never"
    if name in PERCENT:
        return f"{value:.2%}" if name in ("weight_error", "use") else f"{value:.1%}"
    if name in UNITS:
        return UNITS[name].format(value)
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.2f}"


def _is_met(target: Target, value: float | None) -> bool:
    if value is None or math.isnan(value):
        return False
    room = ROUNDED if target.figure in ("use", "use_after", "use_of_available") else 1e-9
    return value >= target.value - room if target.bound == ">=" else value <= target.value + 1e-9
