"""What a run of a case left behind.

Belongs here: the record. Not here: making it (fleet.py, virtual.py), the figures in it (measure.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.limiter.machine import Machine
from benchmarks.limiter.records import Sent

__all__ = ["Outcome"]


@dataclass(slots=True)
class Outcome:
    """One run of one case."""

    clock: str  # real | virtual
    started_s: float
    ended_s: float
    sent: list[Sent]  # by time
    machine: Machine
    calls: int = 0  # of the schedule, all workers
    failed: dict[str, int] = field(default_factory=dict)  # calls, by class of error
    worker_cpu_s: float = 0.0  # of all worker processes, harness included
    worker_waited_s: float = 0.0  # of all worker processes, for a core
    redis_cpu_s: float = 0.0
    script_s: float = 0.0  # inside Redis
    waits_s: list[float] = field(default_factory=list)  # of one-row jobs
    returned_s: float = math.nan  # when the fault was over
    rows_left: int = 0  # of a counted backlog
    trouble: list[str] = field(default_factory=list)  # what ended a worker early
