"""The case memory: the peak of the process for tables of growing length.

Belongs here: running them. Not here: measuring a process (process.py, launch.py).
"""

from __future__ import annotations

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.lab import Lab, last_lines
from benchmarks.engine.provider_process import fast_provider
from benchmarks.engine.tables import short

__all__ = ["run_memory"]

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000, 100_000)
MB = 1e6


def run_memory(scope: Scope) -> Findings:
    """The same job over 10 thousand, 100 thousand and a million short rows."""
    findings = Findings()
    peaks: list[float] = []
    with fast_provider(scope.folder / "provider") as provider:
        for full in QUICK_SIZES if scope.quick else SIZES:
            rows = max(20, round(full * scope.part))
            lab = Lab(scope.folder / f"{full}")
            lab.table(rows, short)
            lab.providers(provider.port)
            lab.job()
            ended = lab.run()
            if ended.returncode != 0 or lab.output().ok != rows:
                findings.trouble.append(f"{rows} rows: exit {ended.returncode}, {last_lines(ended.stderr)}")
                return findings
            peaks.append(ended.max_rss_bytes / MB)
            findings.figures[f"peak_mb_{full // 1000}k"] = peaks[-1]
            findings.figures[f"rows_per_s_{full // 1000}k"] = rows / ended.wall_s
    findings.figures |= {"peak_mb": max(peaks), "growth": peaks[-1] / peaks[0]}
    return findings
