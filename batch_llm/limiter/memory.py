"""What a pool's schedule remembers: the state that all its callers share.

Belongs here: the records and their form. Not here: what is done with them (schedule.py and its parts). In Redis the
same state lies in four keys (lua/memory.lua); field by field and place by place it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from batch_llm.limiter.wire import DIMENSIONS, LANES

__all__ = ["CALLER", "JOB", "LANE", "SEPARATOR", "USER", "Memory", "Record", "caller_key", "job_key", "user_key"]

Record = list[float]
SEPARATOR = "\x1f"  # in keys; no name of a user or a job contains it
NEVER_S = -1e9


class LANE:
    """Places in a lane's record: its own virtual time, then the sums over its active users."""

    S, W, M, V = range(4)


class USER:
    """Places in a user's record: its own virtual time and weight, then the sums over its active jobs."""

    S, W, M, V, WEIGHT, ACTIVE = range(6)


class JOB:
    """Places in a job's record; ``FLOW``: seconds of the pool it was given, fading, as of ``FLOW_AT``."""

    S, CALLERS, FLOW, FLOW_AT, WEIGHT, ACTIVE = range(6)


class CALLER:
    """Places in the record of one job in one process; from ``OUT`` on the amounts it holds per dimension.

    ``MISSES``: permits it lacks of what it is entitled to; below 0: those it is to give back. ``CREDIT``: how many
    permit-seconds it had less than its share.
    """

    ACTIVE, SEEN, WAITING, IN_FLIGHT, PERMITS, MISSES, CREDIT, OUT = range(8)


def _per_dimension(value: float = 0.0) -> list[float]:
    return [value] * len(DIMENSIONS)


@dataclass(slots=True)
class Memory:
    """One pool. Lists hold one value per place in `wire.DIMENSIONS`; all times are the schedule's clock, seconds."""

    epoch: int = 0  # 0: nothing yet
    seq: int = 0  # calls so far
    last_s: float = 0.0  # of the last call
    skew_s: float = 0.0  # what the schedule's clock is ahead of the store's: the sum of its steps back
    version: int = 1
    tat: list[float] = field(default_factory=_per_dimension)  # FIXED: units used in the period
    period: list[float] = field(default_factory=_per_dimension)  # FIXED: the number of the period
    factor: list[float] = field(default_factory=lambda: _per_dimension(1.0))  # share of the limit in use
    ceiling: list[float] = field(default_factory=_per_dimension)  # the factor at which 429s came last; 0: never
    learned: list[float] = field(default_factory=_per_dimension)  # units per second, from headers; 0: none
    changed: list[float] = field(default_factory=_per_dimension)  # units per second, set by a person; 0: none
    by_minute: list[float] = field(default_factory=_per_dimension)  # 1: `remaining` was seen to span a whole minute
    largest: list[float] = field(default_factory=_per_dimension)  # row
    flow: list[float] = field(default_factory=_per_dimension)  # units granted, fading
    lanes: list[Record] = field(default_factory=lambda: [[0.0, 0.0, 0.0, 0.0] for _ in LANES])
    rows: float = 0.0  # granted, fading
    rejected: float = 0.0  # 429s, fading
    decreased_s: float = NEVER_S  # when a factor was lowered last
    strikes: float = 0.0  # decreases in a row that did not help
    struck_rows: float = 0.0  # granted since the first of them
    struck_rejected: float = 0.0  # 429s since then
    quiet_rows: float = 0.0  # granted since the last 429
    before_strikes: list[float] = field(default_factory=lambda: _per_dimension(1.0))  # the factors then
    tolerated: float = 0.0  # share of 429s that come at any speed
    tolerated_s: float = NEVER_S  # since when
    slow_start: float = 1.0  # 0: an unknown limit has answered 429 before
    pause_until_s: float = NEVER_S
    pause_dimension: float = -1.0
    live_seen_s: float = NEVER_S
    missing: float = 0.0  # the sum of what callers miss
    permits: float = 0.0  # held by all
    tail: str = ""  # who booked last ..
    tail_tat: list[float] = field(default_factory=_per_dimension)  # .. and the clocks before it
    round_s: float = 0.0  # of the last call
    look_s: float = 0.0  # before it nothing in `backlogged`, `holders` and `known` is due
    decrease: float = 0.0  # share by which the factors were lowered last
    weights: dict[str, float] = field(default_factory=dict)  # of users, set by a person
    records: dict[str, Record] = field(default_factory=dict)  # users, jobs and callers, by key
    backlogged: dict[str, float] = field(
        default_factory=dict
    )  # caller at work -> when to see whether it is still about
    holders: dict[str, float] = field(default_factory=dict)  # caller with permits -> the same
    known: dict[str, float] = field(default_factory=dict)  # every caller -> the same


def user_key(lane: int, user: str) -> str:
    """The key of a user's record."""
    return f"u{lane}{SEPARATOR}{user}"


def job_key(lane: int, user: str, job: str) -> str:
    """The key of a job's record."""
    return f"j{lane}{SEPARATOR}{user}{SEPARATOR}{job}"


def caller_key(lane: int, user: str, job: str, worker: str) -> str:
    """The key of a caller's record."""
    return f"c{lane}{SEPARATOR}{user}{SEPARATOR}{job}{SEPARATOR}{worker}"
