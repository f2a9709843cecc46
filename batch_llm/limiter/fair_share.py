"""Who comes first: fair shares of a pool between lanes, users and jobs.

Belongs here: virtual time. Not here: the clocks (booking.py), how fast the pool goes (throttling.py).

Every lane, user (in a lane) and job (of a user) has a virtual time ``S``: the seconds of the whole pool it was given,
by its largest part of any dimension (dominant share), divided by its weight. Who is behind the weighted mean of those
that have work may book deeper into the schedule and longer slices; who is ahead must wait until the schedule is
shallow. Whoever asks while it is shallow is served, so nothing is left unused.
Source: dominant resource fairness, https://www.usenix.org/conference/nsdi11/dominant-resource-fairness (read
2026-11-21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batch_llm.limiter.memory import (
    CALLER,
    JOB,
    LANE,
    SEPARATOR,
    USER,
    Memory,
    Record,
    caller_key,
    job_key,
    user_key,
)
from batch_llm.limiter.step import Step

__all__ = [
    "FLOW_FADE_S",
    "HEARTBEAT_S",
    "NEUTRAL",
    "SILENT_S",
    "Lag",
    "Lineage",
    "charge",
    "faded",
    "forget_absent",
    "lag",
    "lane_shares",
    "leave",
    "lineage",
    "look_again",
    "take_part",
]

LANE_WEIGHTS = (64.0, 16.0, 4.0, 1.0)  # live, high, normal, low, where all of them have work
LEAST_LANE_SHARE = 0.05  # of the pool, for any lane with work
LEAST_QUANTUM_S = 0.02  # how far a newcomer may start behind the mean, at least
CREDIT_S, CREDIT_QUANTA = 1.0, 4.0  # who cannot use its share saves up no more than this
ABSENT_AT_ONCE, LOOK_EVERY_S = 16, 0.5  # looked after per call, and how often at most
NEUTRAL = 0.5
FLOW_FADE_S = 5.0  # of the parts that the view shows
SILENT_S = 3.0  # a caller with work that says nothing for so long counts as gone: three heartbeats
HEARTBEAT_S = 10.0  # .. and its permits return
REMEMBERED_S = 600.0  # an idle caller, its job and its user
WHOLE_LANE, WHOLE_USER = (LANE.S, LANE.W, LANE.M, LANE.V), (USER.S, USER.W, USER.M, USER.V)
assert WHOLE_LANE == WHOLE_USER == (0, 1, 2, 3)  # noqa: S101  both parents keep their sums in the same places
W, M, V = 1, 2, 3


@dataclass(slots=True)
class Lineage:
    """A caller and everything it is part of."""

    lane: Record
    user: Record
    job: Record
    caller: Record
    key: str  # the caller's
    lane_number: int
    unseen_s: float = 0.0  # since the caller's last call
    is_short: bool = False  # rows wait for permits


def lineage(step: Step, item: list[Any]) -> Lineage:
    """The records of an item, made when they are new."""
    user, job, lane_number, weight = item[0], item[1], item[2], item[3]
    memory = step.memory
    records = memory.records
    key = caller_key(lane_number, user, job, step.worker)
    owner = records.setdefault(user_key(lane_number, user), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    own = records.setdefault(job_key(lane_number, user, job), [0.0, 0.0, 0.0, step.now_s, 1.0, 0.0])
    if key not in records:
        records[key] = [0.0, step.now_s, *([0.0] * (CALLER.OUT - 2 + len(memory.tat)))]
        look_again(memory, memory.known, key, step.now_s + REMEMBERED_S)
    caller = records[key]
    _weigh(owner, memory.lanes[lane_number], memory.weights.get(user, 1.0))
    if own[JOB.ACTIVE] == 0:
        own[JOB.WEIGHT] = weight
    unseen_s, caller[CALLER.SEEN] = step.now_s - caller[CALLER.SEEN], step.now_s
    return Lineage(memory.lanes[lane_number], owner, own, caller, key, lane_number, unseen_s)


def _weigh(user: Record, lane: Record, weight: float) -> None:
    """A person may change a user's weight while it is at work."""
    if user[USER.ACTIVE] > 0 and weight != user[USER.WEIGHT]:
        lane[LANE.W] += weight - user[USER.WEIGHT]
        lane[LANE.M] += (weight - user[USER.WEIGHT]) * user[USER.S]
    user[USER.WEIGHT] = weight


def look_again(memory: Memory, expiries: dict[str, float], key: str, at_s: float) -> None:
    """At ``at_s`` see whether a caller is still about; not at each of its calls."""
    expiries[key] = at_s
    memory.look_s = min(memory.look_s, at_s)


def take_part(step: Step, line: Lineage, first_s: float) -> None:
    """This caller has work: it counts in the shares until it says otherwise or stays silent for `SILENT_S`."""
    if line.caller[CALLER.ACTIVE] == 0:
        look_again(step.memory, step.memory.backlogged, line.key, step.now_s + SILENT_S)
        line.caller[CALLER.ACTIVE] = 1.0
        line.job[JOB.CALLERS] += 1
    _join_lane(step.memory, line.lane_number, first_s)
    _join(line.user, line.lane, USER.WEIGHT, max(LEAST_QUANTUM_S, first_s / line.user[USER.WEIGHT]))
    _join(line.job, line.user, JOB.WEIGHT, max(LEAST_QUANTUM_S, first_s / line.job[JOB.WEIGHT]))


def _join(member: Record, parent: Record, weight: int, quantum_s: float) -> None:
    """Start at most one quantum behind the mean: nothing is saved up while away."""
    if member[weight + 1] == 0:
        mean = parent[M] / parent[W] if parent[W] > 0 else parent[V]
        member[0] = max(member[0], mean - quantum_s)
        member[weight + 1] = 1.0
        parent[W] += member[weight]
        parent[M] += member[weight] * member[0]


def _join_lane(memory: Memory, number: int, first_s: float) -> None:
    lane = memory.lanes[number]
    if lane[LANE.W] == 0:
        others = [other for other in memory.lanes if other[LANE.W] > 0]
        if others:
            lane[LANE.S] = max(
                lane[LANE.S], _lane_mean(memory, lane_shares(memory, number)) - max(LEAST_QUANTUM_S, first_s)
            )
        else:
            lane[LANE.S] = max(other[LANE.S] for other in memory.lanes)


def leave(memory: Memory, line: Lineage) -> None:
    """This caller has no work any more."""
    line.caller[CALLER.WAITING] = 0.0
    if line.caller[CALLER.ACTIVE] == 0:
        return
    del memory.backlogged[line.key]
    line.caller[CALLER.ACTIVE] = 0.0
    line.job[JOB.CALLERS] = max(0.0, line.job[JOB.CALLERS] - 1)
    if line.job[JOB.CALLERS] == 0:
        _part(line.job, line.user, JOB.WEIGHT)
        if line.user[USER.W] == 0:
            _part(line.user, line.lane, USER.WEIGHT)


def _part(member: Record, parent: Record, weight: int) -> None:
    if member[weight + 1] == 0:
        return
    if parent[W] > 0:
        parent[V] = max(parent[V], parent[M] / parent[W])
    member[weight + 1] = 0.0
    parent[W] -= member[weight]
    parent[M] -= member[weight] * member[0]
    if parent[W] < 1e-9:
        parent[W] = parent[M] = 0.0


def forget_absent(step: Step) -> None:
    """Callers that did not come back count no more; their permits are free again."""
    memory, now_s = step.memory, step.now_s
    if now_s < memory.look_s:
        return
    for expiries, after_s, forget in (
        (memory.backlogged, SILENT_S, _give_up),
        (memory.holders, HEARTBEAT_S, _return_permits),
        (memory.known, REMEMBERED_S, _forget),
    ):
        for key in _due(expiries, now_s):
            line = _line_of(memory, key)
            still_until_s = line.caller[CALLER.SEEN] + after_s
            if still_until_s > now_s:
                expiries[key] = still_until_s
            else:
                forget(memory, line)
    soonest_s = min(
        (min(expiries.values()) for expiries in (memory.backlogged, memory.holders, memory.known) if expiries),
        default=now_s,
    )
    memory.look_s = max(soonest_s, now_s + LOOK_EVERY_S)


def _give_up(memory: Memory, line: Lineage) -> None:
    """Nobody waits for this caller, nor for what it was to give back."""
    leave(memory, line)
    memory.missing -= line.caller[CALLER.MISSES]
    line.caller[CALLER.MISSES] = 0.0


def _return_permits(memory: Memory, line: Lineage) -> None:
    if line.caller[CALLER.PERMITS] > 0:
        memory.permits = max(0.0, memory.permits - line.caller[CALLER.PERMITS])
        line.caller[CALLER.PERMITS] = 0.0
        del memory.holders[line.key]


def _forget(memory: Memory, line: Lineage) -> None:
    """Drop a caller that was not heard of for long, and its job and user when nothing of them is left."""
    _give_up(memory, line)
    _return_permits(memory, line)
    _, user, job, _ = line.key[1:].split(SEPARATOR)
    del memory.known[line.key], memory.records[line.key]
    if line.job[JOB.CALLERS] == 0 and line.job[JOB.FLOW_AT] <= line.caller[CALLER.SEEN]:
        del memory.records[job_key(line.lane_number, user, job)]
        if line.user[USER.W] == 0:
            memory.records.pop(user_key(line.lane_number, user), None)


def _due(expiries: dict[str, float], now_s: float) -> list[str]:
    gone = sorted((at_s, key) for key, at_s in expiries.items() if at_s <= now_s)
    return [key for _, key in gone[:ABSENT_AT_ONCE]]


def _line_of(memory: Memory, key: str) -> Lineage:
    lane, user, job, _ = key[1:].split(SEPARATOR)
    number, records = int(lane), memory.records
    owner = records.setdefault(user_key(number, user), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    own = records.setdefault(job_key(number, user, job), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    return Lineage(memory.lanes[number], owner, own, records[key], key, number)


def lane_shares(memory: Memory, also: int) -> list[float]:
    """Each lane's part of the pool among those with work (and ``also``); 0 for the others."""
    weights = [LANE_WEIGHTS[n] if lane[LANE.W] > 0 or n == also else 0.0 for n, lane in enumerate(memory.lanes)]
    total = sum(weights)
    small = [weight for weight in weights if 0 < weight < LEAST_LANE_SHARE * total]
    if not small:
        return [weight / total for weight in weights]
    rest = (1 - LEAST_LANE_SHARE * len(small)) / (total - sum(small))
    return [LEAST_LANE_SHARE if 0 < weight < LEAST_LANE_SHARE * total else weight * rest for weight in weights]


def _lane_mean(memory: Memory, shares: list[float]) -> float:
    """The weighted mean of the virtual times of the lanes with work."""
    weight = mean = 0.0
    for lane, share in zip(memory.lanes, shares, strict=True):
        if lane[LANE.W] > 0:
            weight += share
            mean += share * lane[LANE.S]
    return mean / weight if weight > 0 else 0.0


@dataclass(slots=True)
class Lag:
    """How far behind its share a caller is: 0 (ahead) .. 1 (behind), 0.5 at the mean."""

    slice_s: float  # the caller's slice of one round
    lane: float
    user: float
    job: float


def lag(step: Step, line: Lineage, first_s: float) -> Lag:
    """Where a caller that takes part stands, and how long its slice is; forgets credit that it cannot use."""
    memory = step.memory
    shares = lane_shares(memory, line.lane_number)
    share = shares[line.lane_number]
    lane, user, job = line.lane, line.user, line.job
    share *= (user[USER.WEIGHT] / lane[LANE.W]) * (job[JOB.WEIGHT] / user[USER.W])
    slice_s = max(step.round_s * share / max(1.0, job[JOB.CALLERS]), 0.0005)
    quantum_s = max(slice_s, first_s)
    of_lane = NEUTRAL
    if sum(1 for other in memory.lanes if other[LANE.W] > 0) > 1:
        mean, own = _lane_mean(memory, shares), quantum_s / shares[line.lane_number]
        lane[LANE.S] = max(lane[LANE.S], mean - CREDIT_S - CREDIT_QUANTA * own)
        of_lane = _place(mean, lane[LANE.S], own)
    of_user = _member_lag(user, lane, USER.WEIGHT, quantum_s)
    of_job = _member_lag(job, user, JOB.WEIGHT, quantum_s)
    return Lag(slice_s, of_lane, of_user, of_job)


def _member_lag(member: Record, parent: Record, weight: int, quantum_s: float) -> float:
    if parent[W] <= member[weight]:
        return NEUTRAL  # the only one
    own = quantum_s / member[weight]
    mean = parent[M] / parent[W]
    lowest = mean - CREDIT_S - CREDIT_QUANTA * own
    if member[0] < lowest:
        parent[M] += member[weight] * (lowest - member[0])
        member[0] = lowest
    return _place(mean, member[0], own)


def _place(mean: float, own: float, quantum: float) -> float:
    return max(0.0, min(1.0, (mean + quantum - own) / (2 * quantum)))


def charge(step: Step, line: Lineage, seconds: float) -> None:
    """Add seconds of the pool to what this caller, its user and its lane were given; negative gives back."""
    lane, user, job = line.lane, line.user, line.job
    lane[LANE.S] += seconds / lane_shares(step.memory, line.lane_number)[line.lane_number]
    user[USER.S] += seconds / user[USER.WEIGHT]
    if user[USER.ACTIVE] > 0:
        lane[LANE.M] += seconds
    job[JOB.S] += seconds / job[JOB.WEIGHT]
    if job[JOB.ACTIVE] > 0:
        user[USER.M] += seconds
    age_s = max(0.0, step.now_s - job[JOB.FLOW_AT])
    job[JOB.FLOW] = max(0.0, job[JOB.FLOW] * faded(age_s, FLOW_FADE_S) + seconds)
    job[JOB.FLOW_AT] = step.now_s


def faded(age_s: float, over_s: float) -> float:
    """The part that is left after a while: nearly ``exp(-age_s / over_s)``, which differs between machines."""
    part = over_s / (over_s + age_s / 8)
    part *= part
    part *= part
    return part * part
