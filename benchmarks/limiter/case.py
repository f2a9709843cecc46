"""The form of a case: what is declared, who has rows, how the provider counts, what goes wrong, what is promised.

Belongs here: records. Not here: the cases themselves (cases.py), running one (fleet.py, virtual.py, costs.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from batch_llm.limiter.base import Limits

__all__ = ["Case", "Fault", "Load", "Provider", "Runner", "Target"]

Runner = Literal["processes", "virtual", "client_cost", "redis_cost"]
"""processes: real workers on a real Redis, real time. virtual: one process, a clock moved by hand, no Redis."""


@dataclass(frozen=True, slots=True)
class Load:
    """The rows of one job: whose, how large, in which workers, when."""

    user: str
    job: str = "job"
    tokens: float = 500.0  # per row, mean
    sigma: float = 0.0  # of the lognormal row sizes; 0: all alike
    weight: float = 1.0  # of the job among its user's jobs
    workers: tuple[int, ...] | None = None  # None: in all
    feeders: int = 1  # tasks per worker that ask for this job
    during: tuple[float, float] = (0.0, 1.0)  # part of the run; always backlogged in it
    one_row_every_s: float | None = None  # instead of a backlog: a new job of one row so often
    output_sigma: float | None = None  # of the lognormal output lengths, not known before the answer
    output_median: float = 300.0
    max_output_tokens: int | None = None
    rows: int | None = None  # the backlog ends; None: never


@dataclass(frozen=True, slots=True)
class Provider:
    """How the provider counts. The judge replays the rows in it; with `answers_429` it also answers while they go."""

    bucket_s: float | None = 1.0  # a strict bucket so many seconds of the limit deep; None: no bucket
    windows_s: tuple[float, ...] = ()  # fixed windows that begin anywhere
    answers_429: bool = False
    answers_429_after_s: float = 0.05
    cut_at: float | None = None  # part of the run; from there on the limit is ..
    cut_to: float = 0.7  # .. this part of what is declared
    latency_s: float = 0.5  # from sending to the answer, median
    latency_sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong in the middle."""

    kind: Literal["kill_worker", "restart_redis", "flush_redis"]
    at: float = 0.4  # part of the run
    outage_s: float = 0.0
    state_lost: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it must be."""

    figure: str  # a key of what measure.py or costs.py returns
    bound: Literal[">=", "<="]
    value: float


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    name: str
    about: str
    limits: Limits
    loads: tuple[Load, ...]
    targets: tuple[Target, ...]
    workers: int = 4
    seconds: float = 60.0
    quick_s: float = 20.0
    warm_s: float = 3.0  # not counted for `use`: until everybody has its share
    provider: Provider = field(default_factory=Provider)
    fault: Fault | None = None
    clocks_off_s: float = 0.0  # worker n's clock is wrong by so much, forwards and backwards in turn
    user_weights: dict[str, float] = field(default_factory=dict)
    runner: Runner = "processes"
    floor: bool = False  # pace locally without any Redis, to see what the harness itself costs
    rows_at_once: int = 32  # listed per call of `reserve_next`

    @property
    def users(self) -> tuple[str, ...]:
        """Everybody with a load, in order."""
        return tuple(dict.fromkeys(load.user for load in self.loads))

    @property
    def tenants(self) -> str:
        """For the table: how many users and jobs, in how many processes."""
        jobs = len({(load.user, load.job) for load in self.loads})
        return f"{len(self.users)} users, {jobs} jobs"
