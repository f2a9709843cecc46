"""`python -m benchmarks.engine [CASE ...] [--quick] [--list] ..`.

Belongs here: the command line. Not here: cases (cases.py), running them (the file of each kind).
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command_line import ENDED, MISSED, add_common, chosen, keep
from benchmarks.engine.case import Case, Findings, Scope
from benchmarks.engine.cases import CASES
from benchmarks.engine.report import Line, as_json, as_markdown, line_text
from benchmarks.limiter.machine import Watch

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases named, one after the other; 1 when a figure is missed."""
    options = _parser().parse_args(arguments)
    cases = chosen(CASES, options.cases)
    if options.list:
        for case in cases:
            print(f"{case.name:14} {case.about}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # so that no process is left behind
    lines: list[Line] = []
    for case in cases:
        lines.append(_run(case, options))
        print(line_text(lines[-1]), flush=True)
        keep(options, as_json(lines), as_markdown(lines))
    return MISSED if any(line.missed or line.findings.trouble for line in lines) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.engine", description="Figures of the engine, from outside.")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument("--part", type=float, default=1.0, help="only this part of the rows, and judge nothing")
    parser.add_argument("--keep", type=Path, help="leave every file of the cases in this (new) folder")
    add_common(parser)
    return parser


def _run(case: Case, options: argparse.Namespace) -> Line:
    watch, began_s = Watch(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as temporary:
        folder = (options.keep or Path(temporary)).resolve() / case.name
        folder.mkdir(parents=True)
        try:
            findings = case.run(Scope(folder, options.quick, options.part))
        except (OSError, RuntimeError, ValueError, KeyError) as error:  # the other cases still have something to say
            findings = Findings(trouble=[f"{type(error).__name__}: {error}"])
    return Line(case, findings, time.monotonic() - began_s, watch.stop(), judged=options.part >= 1)


if __name__ == "__main__":
    sys.exit(main())
