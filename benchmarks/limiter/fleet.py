"""Runs a case for real: worker processes, one Redis, one fault.

Belongs here: starting, disturbing and ending them. Not here: what they do (worker.py), what the figures are
(measure.py).
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.limiter.case import Case, Fault
from benchmarks.limiter.machine import Watch
from benchmarks.limiter.outcome import Outcome
from benchmarks.limiter.records import read_records
from benchmarks.limiter.redis_process import RedisProcess, redis_process
from benchmarks.limiter.worker import Task, WorkerReport, run_worker

__all__ = ["run_processes"]

READY_S = 120.0  # sixteen interpreters start on two cores
HEAD_START_S = 0.5
END_S = 60.0
KILLED = 1  # the worker that is killed


@dataclass(slots=True)
class Member:
    """A worker as its parent sees it."""

    process: BaseProcess
    pipe: Connection


def run_processes(case: Case, seconds: float) -> Outcome:
    """Run it once and collect what it left."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, redis_process(Path(name)) as redis:
        folder = Path(name)
        members = _start(case, redis.url, folder, seconds)
        try:
            _wait_until_ready(members)
            before, watch = redis.use(), Watch()
            started_s = time.monotonic() + HEAD_START_S
            for member in members:
                member.pipe.send(started_s)
            returned_s = _disturb(case.fault, members, redis, (started_s, seconds))
            reports = [_report(member) for member in members]
            machine, after = watch.stop(), redis.use()
        finally:
            for member in members:
                member.process.kill()
                member.process.join()
        sent = read_records(folder / f"sent-{number}" for number in range(case.workers))
    outcome = Outcome("real", started_s, started_s + seconds, sent, machine, returned_s=returned_s)
    if case.fault is None:
        outcome.redis_cpu_s = after.cpu_s - before.cpu_s
        outcome.script_s = after.script_s - before.script_s
    for report in reports:
        _add(outcome, report)
    return outcome


def _start(case: Case, url: str, folder: Path, seconds: float) -> list[Member]:
    context = multiprocessing.get_context("spawn")
    members = []
    for number in range(case.workers):
        here, there = context.Pipe()
        task = Task(case, number, url, folder, seconds)
        process = context.Process(target=run_worker, args=(task, there), name=f"{case.name}-{number}")
        process.start()
        there.close()
        members.append(Member(process, here))
    return members


def _wait_until_ready(members: list[Member]) -> None:
    for member in members:
        if not member.pipe.poll(READY_S) or member.pipe.recv() != "ready":
            raise RuntimeError(f"worker {member.process.name} did not start")


def _disturb(fault: Fault | None, members: list[Member], redis: RedisProcess, run: tuple[float, float]) -> float:
    """Do what goes wrong at its moment; when it was over, NaN without any."""
    started_s, seconds = run
    if fault is None:
        return float("nan")
    time.sleep(max(0.0, started_s + fault.at * seconds - time.monotonic()))
    if fault.kind == "kill_worker":
        members[KILLED].process.kill()
    elif fault.kind == "flush_redis":
        redis.flush()
    else:
        redis.kill(forget=fault.state_lost)
        time.sleep(fault.outage_s)
        redis.start()
    return time.monotonic()


def _report(member: Member) -> WorkerReport:
    try:
        if member.pipe.poll(END_S + 3600):
            report = member.pipe.recv()
            assert isinstance(report, WorkerReport)
            return report
    except EOFError:
        pass
    return WorkerReport(trouble="killed" if member.process.exitcode == -9 else f"{member.process.name} ended early")


def _add(outcome: Outcome, report: WorkerReport) -> None:
    outcome.calls += report.calls
    outcome.worker_cpu_s += report.cpu_s
    outcome.worker_waited_s += report.waited_s
    outcome.waits_s += report.waits_s
    for name, count in report.failed.items():
        outcome.failed[name] = outcome.failed.get(name, 0) + count
    if report.trouble and report.trouble != "killed":
        outcome.trouble.append(report.trouble)
