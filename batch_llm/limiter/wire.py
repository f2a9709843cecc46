"""What a caller and a pool's schedule say to each other.

Belongs here: the records of one call and its reply, and their list form, which crosses to Redis as msgpack and is what
the in-process schedule takes as well. Not here: what a call does (schedule.py and lua/), when one is made (leasing.py).

Times in a reply are the schedule's own clock, seconds; a caller compares them with ``Reply.now_s`` only. Amounts are in
the unit of their dimension (requests or tokens), one per dimension in the order of `Call.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "CLOCK",
    "DIMENSIONS",
    "FIXED",
    "LANES",
    "ROLLING",
    "UNDECLARED_DAY",
    "Call",
    "Grant",
    "Item",
    "Reply",
    "Rule",
    "Served",
]

DIMENSIONS = ("requests", "tokens", "input_tokens", "output_tokens", "requests_per_day", "tokens_per_day")
LANES = ("live", "high", "normal", "low")  # the lane numbers, 0 to 3

CLOCK = 0  # a rate per minute or second: GCRA
ROLLING = 1  # a limit per day that refills evenly: GCRA whose burst is the whole day
FIXED = 2  # a limit per day whose count begins anew at the provider's reset
UNDECLARED_DAY = -3  # in the place of a rule: a limit per day that the pool does not declare, but the provider has


class Served:
    """How a request to book ended."""

    DENIED = 0  # ask again after `Grant.wait_s`
    GRANTED = 1  # a slice; there is demand for more
    MET = 2  # a slice that covers all demand


@dataclass(slots=True)
class Rule:
    """One dimension of the pool, as declared."""

    name: str  # one of DIMENSIONS, in their order
    kind: int  # CLOCK | ROLLING | FIXED
    per_s: float  # units per second; FIXED: units per period / period_s
    burst_s: float  # seconds of unused rate the provider keeps for us; ROLLING: the period
    live_burst_s: float  # of it, kept for the live lane
    period_s: float = 0.0  # ROLLING, FIXED: the day
    offset_s: float = 0.0  # FIXED: a period begins when (now - offset_s) is a multiple of period_s
    window_s: float = 0.0  # CLOCK: the provider counts in fixed windows of this length; 0: it does not

    def to_wire(self) -> list[Any]:
        """As sent: the name as its place in DIMENSIONS."""
        return [
            DIMENSIONS.index(self.name),
            self.kind,
            self.per_s,
            self.burst_s,
            self.live_burst_s,
            self.period_s,
            self.offset_s,
            self.window_s,
        ]


@dataclass(slots=True)
class Item:
    """What one tenant of a caller settles and asks for."""

    user: str
    job: str
    lane: int  # place in LANES
    weight: float
    rows: int  # rows listed, waiting now; 0: settle only
    more: bool  # its backlog is longer than the rows listed
    cost: list[float]  # of all rows listed
    first: list[float]  # of the first row
    largest: list[float]  # of the largest row seen
    done: list[float]  # reserved amounts that ended since the last call
    used: list[float]  # what they really took, by the debit rule
    unused: list[float]  # booked amounts that are handed back and whose time has not come
    waiting: int = 0  # rows its process holds ready, for the view
    in_flight: int = 0  # requests sent and not ended
    permits_wanted: int = 0  # requests it would have in flight now (pools with max_concurrency)

    def to_wire(self) -> list[Any]:
        """As sent."""
        return [
            self.user,
            self.job,
            self.lane,
            self.weight,
            self.rows,
            1 if self.more else 0,
            self.cost,
            self.first,
            self.largest,
            self.done,
            self.used,
            self.unused,
            self.waiting,
            self.in_flight,
            self.permits_wanted,
        ]


@dataclass(slots=True)
class Call:
    """One call: the pool as declared, what happened since the last call, what each tenant wants."""

    worker: str  # unique per limiter object
    epoch: int  # of the last reply; 0: none yet
    seq: int  # of the last reply
    depth_s: float  # so long after they were booked the caller's latest slices ended, at most
    rules: list[Rule]
    items: list[Item]
    max_concurrency: int = 0  # 0: no limit
    unknown: bool = False  # the rules are a guess: probe beyond them
    throttles: list[tuple[int, int, float]] = field(
        default_factory=list
    )  # place in rules (-1: ?, or UNDECLARED_DAY), count, wait_s (-1: ?)
    observed: list[tuple[int, float, float]] = field(default_factory=list)  # place, per_s, remaining
    outage: bool = False  # the caller could not reach the schedule and went on at a part of its share
    memory: list[float] = field(default_factory=list)  # `Reply.memory` of the last reply, as it came
    age_s: float = 0.0  # seconds since that reply

    def to_wire(self) -> list[Any]:
        """As sent."""
        return [
            self.worker,
            self.epoch,
            self.seq,
            self.depth_s,
            [rule.to_wire() for rule in self.rules],
            [item.to_wire() for item in self.items],
            self.max_concurrency,
            1 if self.unknown else 0,
            [list(throttle) for throttle in self.throttles],
            [list(seen) for seen in self.observed],
            1 if self.outage else 0,
            self.memory,
            self.age_s,
        ]


@dataclass(slots=True)
class Grant:
    """The answer to one item."""

    served: int
    wait_s: float  # DENIED: ask again after so many seconds
    binding: int  # DENIED: the dimension that makes it wait; -1: a pause, -2: permits
    starts_s: list[float]  # when the slice begins in each dimension; the first row goes at the latest of them
    amounts: list[float]  # how much may be sent, paced at `Reply.rates`
    permits: int  # requests it may have in flight; -1: no limit
    suits_s: float  # GRANTED, MET: how long a slice suits this tenant, seconds of the pool; list as many rows next time


@dataclass(slots=True)
class Reply:
    """The answer to a call; one grant per item."""

    epoch: int
    seq: int
    now_s: float
    version: int  # changes when a person or a 429 changed the rates: slices that have not begun are handed back
    rates: list[float]  # units per second in force; FIXED: 0
    limits: list[float]  # the same before slowing down after 429s
    pause_s: float  # nothing may be sent for so long
    pause_dimension: int  # the day's limit it is about (or UNDECLARED_DAY); -1: another reason
    stray: bool  # 429s come at any speed: a throttled row waits by itself, the pool goes on
    memory: list[float]  # what of the days is used up, to be sent back should the schedule have lost it; 0 for CLOCK
    grants: list[Grant]

    @classmethod
    def from_wire(cls, reply: list[Any]) -> Reply:
        """As received."""
        epoch, seq, now_s, version, rates, limits, pause_s, dimension, stray, memory, grants = reply
        booked = [Grant(*grant) for grant in grants]
        return cls(epoch, seq, now_s, version, rates, limits, pause_s, int(dimension), bool(stray), memory, booked)
