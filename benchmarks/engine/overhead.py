"""The case overhead: processor time per row, ours beside a floor and the openai SDK.

Belongs here: running the sides in turn. Not here: the other sides' scripts (sides/), the arithmetic (judge.py).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.judge import cost_per_row, median_ratio
from benchmarks.engine.lab import Lab, last_lines
from benchmarks.engine.process import Ended, environment, measured
from benchmarks.engine.provider_process import ProviderProcess, fast_provider
from benchmarks.engine.tables import sixty_tokens

__all__ = ["run_overhead"]

SIDES = Path(__file__).with_name("sides")
FEW_ROWS = 1_000
ROUNDS, QUICK_ROUNDS = 3, 1
EXTRAS = ("litellm",)  # shown where they are installed; nothing is promised about them

Side = Callable[[Path, int, ProviderProcess], Ended]


def run_overhead(scope: Scope) -> Findings:
    """Every side with 1,000 and with 20,000 rows, several rounds, each round in another order."""
    many = scope.rows(20_000, 20_000)
    few = min(FEW_ROWS, many // 2)
    sides = _sides()
    costs: dict[str, list[float]] = {name: [] for name in sides}
    rows_per_s: dict[str, list[float]] = {name: [] for name in sides}
    redis: list[float] = []
    findings = Findings()
    with fast_provider(scope.folder / "provider") as provider:
        for turn in range(QUICK_ROUNDS if scope.quick else ROUNDS):
            order = list(sides) if turn % 2 == 0 else list(reversed(sides))
            for name in order:
                runs = []
                for rows in (few, many):
                    ended = sides[name](scope.folder / f"{name}-{turn}-{rows}", rows, provider)
                    if ended.returncode != 0:
                        findings.trouble.append(f"{name} ended with {ended.returncode}: {last_lines(ended.stderr)}")
                        return findings
                    runs.append((rows, ended))
                costs[name].append(cost_per_row(*((rows, ended.cpu_s) for rows, ended in runs)))
                rows_per_s[name].append(1 / cost_per_row(*((rows, ended.wall_s) for rows, ended in runs)))
                if name == "ours":
                    redis.append(cost_per_row(*((rows, ended.left_behind_cpu_s) for rows, ended in runs)))
        served = provider.stats()
    findings.figures = {
        "ours_per_floor": median_ratio(costs["ours"], costs["floor"]),
        "openai_per_ours": median_ratio(costs["openai"], costs["ours"]),
    }
    for name in sides:
        findings.figures[f"{name}_us_per_row"] = median(costs[name]) * 1e6
        findings.figures[f"{name}_rows_per_s"] = median(rows_per_s[name])
    findings.figures["private_redis_us_per_row"] = median(redis) * 1e6
    findings.figures["provider_us_per_row"] = served["cpu_s"] / served["answered"] * 1e6
    return findings


def _sides() -> dict[str, Side]:
    sides: dict[str, Side] = {"floor": _script("floor.py"), "ours": _ours, "openai": _script("peer.py", "openai")}
    return sides | {name: _script("peer.py", name) for name in EXTRAS if importlib.util.find_spec(name) is not None}


def _ours(folder: Path, rows: int, provider: ProviderProcess) -> Ended:
    """`batch-llm run`: journal and DuckDB output included."""
    lab = Lab(folder)
    lab.table(rows, sixty_tokens)
    lab.providers(provider.port)
    lab.job()
    ended = lab.run()
    if ended.returncode == 0 and lab.output().ok != rows:
        raise RuntimeError(f"{lab.output()} is not {rows} rows that are ok")
    return ended


def _script(script: str, *arguments: str) -> Side:
    def run(folder: Path, rows: int, provider: ProviderProcess) -> Ended:
        table = Lab(folder).table(rows, sixty_tokens)
        output = folder / "output.jsonl"
        url = f"http://127.0.0.1:{provider.port}/v1"
        command = [sys.executable, "-P", str(SIDES / script), *arguments, url, str(table), str(output)]
        ended = measured(command, environment(), folder)
        if ended.returncode == 0:
            with open(output, "rb") as lines:
                written = sum(1 for _ in lines)
            if written != rows:
                raise RuntimeError(f"{script} wrote {written} rows of {rows}")
        return ended

    return run
