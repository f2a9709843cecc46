"""The case queues: each queue with few and many rows for its cost, and once more with a kill -9 in the middle.

Belongs here: running the workers. Not here: the queues and the calling loop (their own files).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.judge import cost_per_row
from benchmarks.engine.process import environment, measured, started
from benchmarks.engine.provider_process import ProviderProcess, fast_provider
from benchmarks.engine.queues.worker import QUEUES
from benchmarks.engine.tables import sixty_tokens, write
from benchmarks.limiter.redis_process import RedisProcess, redis_process

__all__ = ["run_queues"]

ROOT = Path(__file__).parents[3]
ROUNDS, QUICK_ROUNDS = 3, 1
LOOK_EVERY_S = 0.01
LATENCY_S = 0.05  # of the runs that are killed: so that calls are in flight


@dataclass(frozen=True, slots=True)
class _Bench:
    """What one run of a worker needs."""

    folder: Path
    provider: ProviderProcess
    server: RedisProcess | None  # of the queue; None: it has none

    def command(self, name: str, rows: int) -> list[str]:
        table = self.folder / "table.parquet"
        if not table.exists():
            write(table, rows, sixty_tokens)
        url = f"http://127.0.0.1:{self.provider.port}/v1"
        return [sys.executable, "-m", "benchmarks.engine.queues.worker", name, url, str(table), self.place]

    @property
    def place(self) -> str:
        return self.server.url if self.server is not None else str(self.folder / "queue")


def run_queues(scope: Scope) -> Findings:
    """Rows per second, CPU per row with the queue's server, rows lost and paid twice after a kill."""
    findings = Findings()
    many = scope.rows(20_000, 5_000)
    few = max(1, many // 10)
    costs: dict[str, list[float]] = {name: [] for name in QUEUES}
    walls: dict[str, list[float]] = {name: [] for name in QUEUES}
    with fast_provider(scope.folder / "provider") as provider:
        for turn in range(QUICK_ROUNDS if scope.quick else ROUNDS):
            for name in QUEUES:
                runs = [_cost(scope.folder / f"{name}-{turn}-{rows}", name, rows, provider) for rows in (few, many)]
                costs[name].append(cost_per_row((few, runs[0][0]), (many, runs[1][0])))
                walls[name].append(cost_per_row((few, runs[0][1]), (many, runs[1][1])))
    for name in QUEUES:
        findings.figures[f"{name}_us_per_row"] = median(costs[name]) * 1e6
        findings.figures[f"{name}_rows_per_s"] = 1 / median(walls[name])
    with fast_provider(scope.folder / "slow-provider", LATENCY_S) as provider:
        for name in QUEUES:
            findings.figures |= _killed(scope.folder / f"{name}-killed", name, many, provider)
    return findings


def _cost(folder: Path, name: str, rows: int, provider: ProviderProcess) -> tuple[float, float]:
    """CPU seconds of worker and server, wall seconds."""
    with _bench(folder, name, provider) as bench:
        before_s = bench.server.use().cpu_s if bench.server is not None else 0.0
        ended = measured(bench.command(name, rows), environment(), ROOT)
        after_s = bench.server.use().cpu_s if bench.server is not None else 0.0
        if ended.returncode != 0 or sorted(_answers(name, bench)) != list(range(rows)):
            raise RuntimeError(
                f"{name} did not answer {rows} rows once: exit {ended.returncode}, {ended.stderr[-500:]}"
            )
    return ended.cpu_s + after_s - before_s, ended.wall_s


def _killed(folder: Path, name: str, rows: int, provider: ProviderProcess) -> dict[str, float]:
    """Killed when half of the rows were answered, then started again."""
    before = provider.stats()["answered"]
    with _bench(folder, name, provider) as bench:
        command = bench.command(name, rows)
        with started(command, environment(), ROOT, folder) as worker:
            while worker.poll() is None and provider.stats()["answered"] < before + rows // 2:
                time.sleep(LOOK_EVERY_S)
            was_killed = worker.poll() is None
            worker.kill()
            worker.wait()
        ended = measured(command, environment(), ROOT)
        if ended.returncode != 0 or not was_killed:
            raise RuntimeError(f"{name}: killed {was_killed}, then exit {ended.returncode}: {ended.stderr[-500:]}")
        kept = _answers(name, bench)
    return {
        f"{name}_lost": rows - len(set(kept)),
        f"{name}_kept_twice": len(kept) - len(set(kept)),
        f"{name}_paid_twice": provider.stats()["answered"] - before - rows,
    }


@contextmanager
def _bench(folder: Path, name: str, provider: ProviderProcess) -> Iterator[_Bench]:
    folder.mkdir()
    if name == "redis_stream":
        with redis_process(folder) as server:
            yield _Bench(folder, provider, server)
    else:
        yield _Bench(folder, provider, None)


def _answers(name: str, bench: _Bench) -> list[int]:
    return QUEUES[name](str(bench.folder / "table.parquet"), bench.place).answers()
