"""A pool in virtual time: its schedule, callers that send exactly what their slices allow, a provider that judges.

Belongs here: the simulation and what is read off it. Not here: assertions, the product's own pacing (pacing.py), which
is more careful: it keeps rows of one slice in step and voids what is late.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from batch_llm.limiter.base import Limits
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.schedule import PoolSchedule
from batch_llm.limiter.wire import Call, Grant, Item, Reply, Served

__all__ = ["START_S", "Bucket", "Lab", "Sent", "Tenant", "excess", "jain", "rows_of", "shares", "use"]

START_S = 1_790_000_000.0
HEARTBEAT_S = 0.9
LISTED = 16  # before it is known how long a slice suits
MOST_LISTED = 4096
TINY = 1e-6
Judge = Callable[[float, list[float]], tuple[bool, float]]  # when, what -> accepted, seconds to wait (-1: not said)


@dataclass
class Tenant:
    """One job in one worker. ``row``: what a row takes, per dimension."""

    user: str
    row: Callable[[random.Random], list[float]]
    worker: str = "w0"
    job: str = "job"
    lane: int = 2
    weight: float = 1.0
    rows: float = float("inf")
    from_s: float = 0.0
    until_s: float = float("inf")  # it vanishes without a word
    used: float = 1.0  # of what was reserved
    answer_s: float = 0.0


@dataclass(frozen=True)
class Sent:
    """One request that left."""

    at_s: float  # since the start
    tenant: int
    amounts: list[float]
    accepted: bool


@dataclass
class _Slice:
    begins_s: float
    ends_s: float
    rows: list[list[float]]
    is_void: bool = False


@dataclass
class _Caller:
    number: int
    tenant: Tenant
    rows_left: float
    suits_s: float = 0.0
    rates: list[float] = field(default_factory=list)
    epoch: int = 0
    seq: int = 0
    version: int = 0
    is_stray: bool = False
    days: list[float] = field(default_factory=list)
    heard_s: float = 0.0
    waiting: list[list[float]] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    slices: list[_Slice] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    unused: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)
    throttles: dict[float, int] = field(default_factory=dict)
    leads_s: deque[float] = field(default_factory=lambda: deque(maxlen=5))  # how far ahead slices ended lately
    calls: int = 0  # the number of the call that is due: an older one does not happen


class Lab:
    """Runs a pool."""

    def __init__(self, limits: Limits, tenants: list[Tenant], *, seed: int = 1, judge: Judge | None = None) -> None:
        """``judge``: the provider; without one everything is accepted."""
        self.limits = limits
        self.schedule = PoolSchedule()
        self.sent: list[Sent] = []
        self.calls = 0
        self.now_s = 0.0
        self.clock_offset_s = 0.0  # of the schedule's clock
        self.is_down = False  # nobody reaches the schedule
        self.outage: set[int] = set()  # callers that went without it
        self._judge = judge or (lambda at_s, amounts: (True, -1.0))
        self._random = random.Random(seed)
        self._rules = rules_of(limits, datetime.fromtimestamp(START_S, UTC))
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        zeros = [0.0] * len(self._rules)
        for number, tenant in enumerate(tenants):
            caller = _Caller(number, tenant, tenant.rows, largest=list(zeros))
            caller.done, caller.used, caller.unused, caller.rest = list(zeros), list(zeros), list(zeros), list(zeros)
            self._call_at(caller, tenant.from_s + self._random.random() * 0.01)

    def run(self, until_s: float) -> list[Sent]:
        """Let time pass; returns what was sent since the last run."""
        before = len(self.sent)
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._events)
            act()
        self.now_s = until_s
        return self.sent[before:]

    def _at(self, at_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(at_s, self.now_s), next(self._order), act))

    def _call_at(self, caller: _Caller, at_s: float) -> None:
        caller.calls += 1
        number = caller.calls
        self._at(at_s, lambda: self._call(caller) if number == caller.calls else None)

    def _call(self, caller: _Caller) -> None:
        if self.now_s >= caller.tenant.until_s:
            return
        if self.is_down:
            self.outage.add(caller.number)
            self._call_at(caller, self.now_s + 0.25)
            return
        self.calls += 1
        reply = Reply.from_wire(self.schedule.call(START_S + self.clock_offset_s + self.now_s, self._request(caller)))
        self._listen(caller, reply)
        grant = reply.grants[0]
        again_s = self.now_s + HEARTBEAT_S
        if grant.served != Served.DENIED:
            begins_s = self._plan(caller, reply, grant)
            again_s = min(again_s, max(begins_s, self.now_s + 1e-4))
        elif caller.waiting:
            again_s = min(again_s, self.now_s + grant.wait_s)
        self._call_at(caller, again_s)

    def _request(self, caller: _Caller) -> list[Any]:
        tenant = caller.tenant
        size = len(self._rules)
        listed = self._listed(caller)
        cost = [sum(row[n] for row in listed) for n in range(size)]
        first = listed[0] if listed else [0.0] * size
        caller.largest = [max(values) for values in zip(caller.largest, *listed, strict=True)]
        item = Item(
            tenant.user,
            tenant.job,
            tenant.lane,
            tenant.weight,
            len(listed),
            caller.rows_left > 0 or len(listed) < len(caller.waiting),
            cost,
            first,
            caller.largest,
            caller.done,
            caller.used,
            caller.unused,
            len(listed),
        )
        call = Call(
            tenant.worker + tenant.user + tenant.job,
            caller.epoch,
            caller.seq,
            max(caller.leads_s, default=0.0),
            self._rules,
            [item],
            throttles=[(-1, number, wait_s) for wait_s, number in caller.throttles.items()],
            unknown=self.limits.unknown,
            outage=caller.number in self.outage,
            memory=caller.days,
            age_s=self.now_s - caller.heard_s,
        )
        self.outage.discard(caller.number)
        return call.to_wire()

    def _listed(self, caller: _Caller) -> list[list[float]]:
        """As many rows as a slice best holds; of the first only what the rest of the slice before lacks."""
        listed: list[list[float]] = []
        seconds = 0.0
        while len(listed) < (MOST_LISTED if caller.suits_s else LISTED):
            if len(listed) == len(caller.waiting):
                if caller.rows_left <= 0:
                    break
                caller.waiting.append(caller.tenant.row(self._random))
                caller.rows_left -= 1
            row = caller.waiting[len(listed)]
            if not listed:
                row = [max(0.0, amount - rest) for amount, rest in zip(row, caller.rest, strict=True)]
            row_s = max((a / rate for a, rate in zip(row, caller.rates, strict=False) if rate > 0), default=0.0)
            if listed and 0 < caller.suits_s < seconds + row_s / 2:
                break
            seconds += row_s
            listed.append(row)
        return listed

    def _listen(self, caller: _Caller, reply: Reply) -> None:
        size = len(self._rules)
        caller.throttles = {}
        caller.done, caller.used, caller.unused = [0.0] * size, [0.0] * size, [0.0] * size
        known = reply.epoch == caller.epoch
        if not known:
            caller.rest = [0.0] * size
        if reply.version != caller.version or not known:
            for piece in caller.slices:
                if piece.begins_s > self.now_s and not piece.is_void:
                    piece.is_void = True
                    caller.waiting = piece.rows + caller.waiting
                    for row in piece.rows:
                        self._return(caller, row if known else [0.0] * size)
        if reply.pause_s > 0:
            self._void_begun(caller)
        caller.slices = [piece for piece in caller.slices if piece.ends_s > self.now_s and not piece.is_void]
        caller.epoch, caller.seq, caller.version = reply.epoch, reply.seq, reply.version
        caller.days, caller.heard_s, caller.is_stray = reply.memory, self.now_s, reply.stray
        caller.suits_s, caller.rates = reply.grants[0].suits_s or caller.suits_s, reply.rates

    def _return(self, caller: _Caller, amounts: list[float]) -> None:
        caller.unused = [was + amount for was, amount in zip(caller.unused, amounts, strict=True)]

    def _void_begun(self, caller: _Caller) -> None:
        """After a 429 nothing of what has begun is sent any more; its time is lost."""
        for piece in caller.slices:
            if piece.begins_s <= self.now_s and not piece.is_void:
                piece.is_void = True
                caller.waiting = piece.rows + caller.waiting

    def _plan(self, caller: _Caller, reply: Reply, grant: Grant) -> float:
        """Every row of a slice gets its time; returns the first."""
        tenant = caller.tenant
        ahead_s = self.now_s - reply.now_s
        next_s = [start_s + ahead_s for start_s in grant.starts_s]
        left = [amount + rest for amount, rest in zip(grant.amounts, caller.rest, strict=True)]
        piece = _Slice(max(next_s), max(next_s), [])
        times = []
        while True:
            if not caller.waiting:
                if caller.rows_left <= 0:
                    break
                caller.rows_left -= 1
                caller.waiting.append(tenant.row(self._random))
            row = caller.waiting[0]
            if any(amount > held + TINY for amount, held in zip(row, left, strict=True)):
                break
            times.append(max(next_s))
            piece.rows.append(caller.waiting.pop(0))
            for n, amount in enumerate(row):
                left[n] = max(0.0, left[n] - amount)
                next_s[n] += amount / reply.rates[n] if reply.rates[n] > 0 else 0.0
        piece.ends_s = max(next_s)
        caller.slices.append(piece)
        caller.leads_s.append(piece.ends_s - self.now_s)
        if grant.served == Served.MET:
            self._return(caller, left)
            left = [0.0] * len(left)
        caller.rest = left  # smaller than a row: it goes into the next slice
        for at_s in times:
            self._at(at_s, lambda: self._send(caller, piece))
        return times[0] if times else self.now_s + 0.01

    def _send(self, caller: _Caller, piece: _Slice) -> None:
        if piece.is_void or self.now_s >= caller.tenant.until_s:
            return
        row = piece.rows.pop(0)
        accepted, wait_s = self._judge(self.now_s, row)
        self.sent.append(Sent(self.now_s, caller.number, row, accepted))
        epoch = caller.epoch
        if accepted:
            self._at(self.now_s + caller.tenant.answer_s, lambda: self._answered(caller, row, epoch))
            return
        caller.waiting.insert(0, row)
        if not caller.is_stray:
            self._void_begun(caller)
        caller.throttles[wait_s] = caller.throttles.get(wait_s, 0) + 1
        self._answered(caller, row, epoch, used=1.0)
        self._call_at(caller, self.now_s)

    def _answered(self, caller: _Caller, row: list[float], epoch: int, used: float | None = None) -> None:
        if epoch != caller.epoch:
            return
        part = caller.tenant.used if used is None else used
        caller.done = [was + amount for was, amount in zip(caller.done, row, strict=True)]
        taken = [amount * part if n else amount for n, amount in enumerate(row)]  # a request stays one request
        caller.used = [was + amount for was, amount in zip(caller.used, taken, strict=True)]


class Bucket:
    """A provider with a bucket of ``depth_s``; what it rejects takes nothing from it."""

    def __init__(
        self, per_s: float, depth_s: float = 1.0, *, stray: float = 0.0, says: bool = False, seed: int = 1
    ) -> None:
        """``stray``: share of rows rejected at any speed; ``says``: it tells how long to wait."""
        self.per_s = per_s
        self._depth_s, self._stray, self._says = depth_s, stray, says
        self._random = random.Random(seed)
        self._level = self._at_s = 0.0

    def __call__(self, at_s: float, amounts: list[float]) -> tuple[bool, float]:
        """The judge of a `Lab`."""
        self._level = max(0.0, self._level - self.per_s * (at_s - self._at_s))
        self._at_s = at_s
        if self._random.random() < self._stray:
            return False, -1.0
        beyond = self._level + amounts[0] - self.per_s * self._depth_s
        if beyond > 0:
            return False, beyond / self.per_s if self._says else -1.0
        self._level += amounts[0]
        return True, -1.0


def rows_of(*amounts: float) -> Callable[[random.Random], list[float]]:
    """Every row takes the same."""
    return lambda _: list(amounts)


def use(sent: list[Sent], per_s: float, from_s: float, until_s: float, dimension: int = 0) -> float:
    """The part of a limit that was used by accepted rows in a stretch of time."""
    used = sum(each.amounts[dimension] for each in sent if each.accepted and from_s <= each.at_s < until_s)
    return used / (per_s * (until_s - from_s))


def excess(sent: list[Sent], dimension: int, per_s: float) -> float:
    """The most that was sent in any window beyond what ``per_s`` allows in it, units."""
    worst = level = 0.0
    last_s = 0.0
    for each in sent:
        level = max(0.0, level - per_s * (each.at_s - last_s)) + each.amounts[dimension]
        worst, last_s = max(worst, level), each.at_s
    return worst


def jain(values: list[float]) -> float:
    """1: all equal; 1 / n: one has all."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def shares(sent: list[Sent], tenants: list[Tenant], dimension: int = 0) -> dict[str, float]:
    """What each user got of everything sent."""
    got: dict[str, float] = defaultdict(float)
    for each in sent:
        got[tenants[each.tenant].user] += each.amounts[dimension]
    total = sum(got.values())
    return {user: amount / total for user, amount in got.items()}
