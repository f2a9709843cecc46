"""What a row costs in its worker: the limiter's client alone, nothing written down, nothing sent.

Belongs here: processor time of one process. Not here: Redis (redis_cost.py), whole workers (fleet.py).
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batch_llm.clock import SystemClock
from batch_llm.limiter.base import Cost, RateLimiter, Tenant
from benchmarks.limiter.case import Case, Load
from benchmarks.limiter.local_pacer import LocalPacer
from benchmarks.limiter.machine import Machine, Watch
from benchmarks.limiter.redis_process import redis_process
from benchmarks.limiter.rows import Backlog
from benchmarks.limiter.worker import Task, open_limiter

__all__ = ["run_client_cost"]

WARM_S = 2.0
STRETCH_S = 0.5
CYCLE = 2048  # different rows


@dataclass(frozen=True, slots=True)
class RowCost:
    """What was measured of one loop: microseconds per row, median and best of the stretches; rows; calls per row."""

    median_us: float
    best_us: float
    rows_per_s: float
    calls_per_row: float


def run_client_cost(case: Case, seconds: float) -> tuple[dict[str, float], Machine]:
    """Figures with one tenant, with four, and of the same loop around a local pacer (the floor)."""
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_process(Path(folder)) as redis:
        task = Task(case, 1, redis.url, Path(folder), seconds)
        alone, four = asyncio.run(_limiter(task, 1)), asyncio.run(_limiter(task, 4))
        floor = asyncio.run(_floor(case, seconds))
    figures = {
        "client_us_per_row": alone.median_us,
        "client_us_per_row_best": alone.best_us,
        "rows_per_s": alone.rows_per_s,
        "calls_per_row": alone.calls_per_row,
        "client_us_per_row_4_tenants": four.median_us,
        "rows_per_s_4_tenants": four.rows_per_s,
        "floor_us_per_row": floor.median_us,
        "floor_us_per_row_best": floor.best_us,
    }
    return figures, watch.stop()


async def _limiter(task: Task, tenants: int) -> RowCost:
    async with open_limiter(task) as (limiter, schedule):
        return await _cost(task, limiter, tenants, lambda: schedule.calls)


async def _floor(case: Case, seconds: float) -> RowCost:
    pacer = LocalPacer((case.limits.requests_per_minute or 0) / 60, SystemClock())
    return await _cost(Task(case, 1, "", Path(), seconds), pacer, 1, lambda: 0)


async def _cost(task: Task, limiter: RateLimiter, tenants: int, calls: Callable[[], int]) -> RowCost:
    """Processor time per row, stretch by stretch: on a busy machine some are worth more than others."""
    rows = [row.cost for row in Backlog(Load("any", sigma=0.5), "rows").listed(CYCLE)]
    counts = [0] * tenants
    most = task.case.rows_at_once
    tasks = [asyncio.create_task(_consume(limiter, rows, most, (counts, number))) for number in range(tenants)]
    await asyncio.sleep(WARM_S)
    began, called, began_s = sum(counts), calls(), time.monotonic()
    costs = []
    for _ in range(max(1, round(task.seconds / STRETCH_S))):
        used_s, before = time.process_time(), sum(counts)
        await asyncio.sleep(STRETCH_S)
        costs.append(1e6 * (time.process_time() - used_s) / max(1, sum(counts) - before))
    sent, took_s = sum(counts) - began, time.monotonic() - began_s
    called = calls() - called
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return RowCost(statistics.median(costs), min(costs), sent / took_s, called / max(1, sent))


async def _consume(limiter: RateLimiter, rows: list[Cost], most: int, count: tuple[list[int], int]) -> None:
    """Take rows and settle them at once, for ever."""
    counts, number = count
    tenant = Tenant(f"user{number}", "job")
    place = 0
    while True:
        for reservation in await limiter.reserve_next(tenant, rows[place : place + most], more=True):
            limiter.settle(reservation, reservation.cost)
            place += 1
            counts[number] += 1
        if place > len(rows) - most:
            place = 0
