"""`python -m benchmarks.limiter [CASE ...] [--quick] [--seconds N] [--virtual] [--list] ..`.

Belongs here: the command line. Not here: cases (cases.py), running them (fleet.py, virtual.py, the .._cost.py).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.command_line import ENDED, MISSED, add_common, chosen, keep
from benchmarks.limiter.case import Case
from benchmarks.limiter.cases import CASES
from benchmarks.limiter.client_cost import run_client_cost
from benchmarks.limiter.fleet import run_processes
from benchmarks.limiter.measure import figures_of
from benchmarks.limiter.redis_cost import run_redis_cost
from benchmarks.limiter.report import Line, as_json, as_markdown, line_text
from benchmarks.limiter.virtual import run_virtual

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases named, one after the other; 1 when a figure is missed."""
    options = _parser().parse_args(arguments)
    cases = chosen(CASES, options.cases)
    if options.list:
        for case in cases:
            print(f"{case.name:22} {case.about}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # so that no Redis is left behind
    lines = []
    for case in cases:
        if options.virtual and not _has_virtual_twin(case):
            continue
        line = _run(
            replace(case, runner="virtual") if options.virtual else case,
            options.seconds or (case.quick_s if options.quick else case.seconds),
        )
        lines.append(line)
        print(line_text(line), flush=True)
        keep(options, as_json(lines), as_markdown(lines))
    return MISSED if any(line.missed or line.trouble for line in lines) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.limiter", description="Figures of the shared rate limiter.")
    parser.add_argument("--quick", action="store_true", help="some 20 s per case instead of 1 to 3 minutes")
    parser.add_argument("--seconds", type=float, help="so long per case")
    parser.add_argument("--virtual", action="store_true", help="the same in virtual time: the algorithm alone")
    add_common(parser)
    return parser


def _has_virtual_twin(case: Case) -> bool:
    """Whether all that happens in it can happen in virtual time."""
    real = case.fault is not None or case.floor or case.clocks_off_s != 0
    return case.runner in ("processes", "virtual") and not real


def _run(case: Case, seconds: float) -> Line:
    if case.runner in ("client_cost", "redis_cost"):
        run = run_client_cost if case.runner == "client_cost" else run_redis_cost
        figures, machine = run(case, seconds)
        return Line(case, "real", seconds, figures, machine)
    outcome = run_virtual(case, seconds) if case.runner == "virtual" else run_processes(case, seconds)
    line = Line(
        case, outcome.clock, outcome.ended_s - outcome.started_s, figures_of(case, outcome), outcome.machine,
        list(outcome.trouble),
    )  # fmt: skip
    if outcome.failed and case.fault is None:
        line.trouble.append(f"calls that failed: {outcome.failed}")
    return line


if __name__ == "__main__":
    sys.exit(main())
