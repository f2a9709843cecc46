"""One worker process of a case: its own limiter on the case's Redis, feeders, a file of what it sent.

Belongs here: the process, its clock, its report. Not here: starting it (fleet.py), feeding (feeder.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from batch_llm.clock import Alarm, Clock, SystemClock
from batch_llm.errors import BatchLLMError
from batch_llm.limiter.base import PoolChange, RateLimiter
from batch_llm.limiter.leasing import LeasingRateLimiter
from batch_llm.limiter.redis_link import RedisLink
from batch_llm.limiter.redis_schedule import RedisSchedule
from benchmarks.limiter.case import Case
from benchmarks.limiter.counting_schedule import CountingSchedule
from benchmarks.limiter.feeder import Feeder, feeders_of
from benchmarks.limiter.local_pacer import LocalPacer
from benchmarks.limiter.machine import waited_for_core_s
from benchmarks.limiter.provider import shared_provider
from benchmarks.limiter.records import RecordFile

__all__ = ["ShiftedClock", "Task", "WorkerReport", "open_limiter", "run_worker"]

ROOM = 1.5  # of the record files, times what the limit allows
PROVIDER_FILE = "provider"


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker process is told."""

    case: Case
    number: int
    redis_url: str
    folder: Path
    seconds: float


@dataclass(slots=True)
class WorkerReport:
    """What a worker says at its end."""

    calls: int = 0  # of the schedule
    failed: dict[str, int] = field(default_factory=dict)  # calls, by class of error
    cpu_s: float = 0.0  # of the whole process while rows went
    waited_s: float = 0.0  # for a core, while others had it
    waits_s: list[float] = field(default_factory=list)  # of one-row jobs
    trouble: str = ""  # what ended it early


class ShiftedClock:
    """The machine's clock, wrong by a fixed time."""

    def __init__(self, offset_s: float) -> None:
        """``offset_s``: positive is fast."""
        self._offset_s = offset_s

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic() + self._offset_s

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC) + timedelta(seconds=self._offset_s)

    async def sleep(self, delay_s: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(max(0.0, delay_s))

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """See `Clock.call_later`."""
        return asyncio.get_running_loop().call_later(max(0.0, delay_s), callback)


class RealTime:
    """Implements `World`."""

    moment = staticmethod(time.monotonic)

    def later(self, delay_s: float, action: Callable[..., Any], *arguments: Any) -> None:
        """See `World.later`."""
        asyncio.get_running_loop().call_later(delay_s, action, *arguments)

    async def sleep(self, delay_s: float) -> None:
        """See `World.sleep`."""
        await asyncio.sleep(delay_s)


def run_worker(task: Task, parent: Connection) -> None:
    """The body of the process: say that it is ready, start at the moment told, report."""
    asyncio.run(_work(task, parent))


@asynccontextmanager
async def open_limiter(task: Task) -> AsyncIterator[tuple[RateLimiter, CountingSchedule]]:
    """The limiter under test, as the product makes it, with its calls counted."""
    case = task.case
    async with RedisLink(task.redis_url) as link:
        schedule = CountingSchedule(RedisSchedule(link, case.limits.pool))
        clock = _clock(task)
        if case.floor:
            feeders = sum(load.feeders for load in case.loads) * case.workers
            yield LocalPacer((case.limits.requests_per_minute or 0.0) / 60 / feeders, clock), schedule
            return
        if task.number == 0 and case.user_weights:
            await schedule.change(case.limits, PoolChange(user_weights=case.user_weights))
        async with LeasingRateLimiter(case.limits, schedule, clock) as limiter:
            yield limiter, schedule


def _clock(task: Task) -> Clock:
    off_s = task.case.clocks_off_s
    return ShiftedClock(off_s * (1 if task.number % 2 else -1)) if off_s else SystemClock()


async def _work(task: Task, parent: Connection) -> None:
    report = WorkerReport()
    provider = shared_provider(task.case, task.folder / PROVIDER_FILE) if task.case.provider.answers_429 else None
    with RecordFile(task.folder / f"sent-{task.number}", _capacity(task)) as records:
        async with open_limiter(task) as (limiter, schedule):
            parent.send("ready")
            start_s: float = await asyncio.to_thread(parent.recv)
            if provider is not None:
                provider.cut_at_s = start_s + (task.case.provider.cut_at or float("inf")) * task.seconds
            world = RealTime()
            feeders = feeders_of(
                task.number,
                task.case,
                lambda place, seed: Feeder(task.case, place, world, limiter, records.write, seed, provider),
            )
            await asyncio.sleep(start_s - time.monotonic())
            cpu_s, waited_s, calls = time.process_time(), waited_for_core_s(), schedule.calls
            try:
                async with asyncio.TaskGroup() as group:
                    for feeder in feeders:
                        group.create_task(feeder.run_part(start_s + task.seconds - time.monotonic()))
            except* (BatchLLMError, RuntimeError, ValueError, OSError) as errors:
                report.trouble = f"worker {task.number}: {errors.exceptions[0]!r}"
            report.cpu_s = time.process_time() - cpu_s
            report.waited_s = waited_for_core_s() - waited_s
            report.calls, report.failed = schedule.calls - calls, schedule.failed
            report.waits_s = [wait_s for feeder in feeders for wait_s in feeder.waits_s]
    parent.send(report)


def _capacity(task: Task) -> int:
    per_minute = task.case.limits.requests_per_minute or 60_000.0
    tokens = task.case.limits.tokens_per_minute
    if tokens is not None:
        per_minute = min(per_minute, tokens / min(load.tokens for load in task.case.loads))
    return int(per_minute / 60 * (task.seconds + 10) * ROOM) + 1000
