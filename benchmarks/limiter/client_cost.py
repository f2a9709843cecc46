"""What a row costs in its worker: the limiter's client alone, nothing written down, nothing sent.

Belongs here: processor time of one process. Not here: Redis (redis_cost.py), whole workers (fleet.py).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
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
CYCLE = 2048  # different rows


def run_client_cost(case: Case, seconds: float) -> tuple[dict[str, float], Machine]:
    """Figures with one tenant, with four, and of the same loop around a local pacer (the floor)."""
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, redis_process(Path(folder)) as redis:
        task = Task(case, 1, redis.url, Path(folder), seconds)
        alone, rate, calls = asyncio.run(_limiter(task, 1))
        together, rate_4, _ = asyncio.run(_limiter(task, 4))
        floor = asyncio.run(_floor(case, seconds))
    figures = {
        "client_us_per_row": alone,
        "rows_per_s": rate,
        "calls_per_row": calls,
        "client_us_per_row_4_tenants": together,
        "rows_per_s_4_tenants": rate_4,
        "floor_us_per_row": floor,
    }
    return figures, watch.stop()


async def _limiter(task: Task, tenants: int) -> tuple[float, float, float]:
    async with open_limiter(task) as (limiter, schedule):
        used_s, rows = await _cost(task.case, limiter, tenants, task.seconds)
        return 1e6 * used_s / rows, rows / task.seconds, schedule.calls / rows


async def _floor(case: Case, seconds: float) -> float:
    used_s, rows = await _cost(case, LocalPacer((case.limits.requests_per_minute or 0) / 60, SystemClock()), 1, seconds)
    return 1e6 * used_s / rows


async def _cost(case: Case, limiter: RateLimiter, tenants: int, seconds: float) -> tuple[float, int]:
    """Processor seconds and rows of a stretch, after a warm-up."""
    rows = [row.cost for row in Backlog(Load("any", sigma=0.5), "rows").listed(CYCLE)]
    counts = [0] * tenants
    tasks = [
        asyncio.create_task(_consume(limiter, rows, case.rows_at_once, (counts, number))) for number in range(tenants)
    ]
    await asyncio.sleep(WARM_S)
    used_s, before = time.process_time(), sum(counts)
    await asyncio.sleep(seconds)
    used_s, after = time.process_time() - used_s, sum(counts)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used_s, after - before


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
