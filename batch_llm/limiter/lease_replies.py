"""What a reply of the schedule, or a 429, changes in this process.

Belongs here: rates, pauses, lost and changed schedules, new slices. Not here: letting rows out (pacing.py), calls
(lease_caller.py).
"""

from __future__ import annotations

import math
from datetime import timedelta

from batch_llm.errors import QuotaExhausted
from batch_llm.limiter.base import Throttle
from batch_llm.limiter.debit import DAY_S, midnight_s
from batch_llm.limiter.lease_line import Leased, Line, Slice
from batch_llm.limiter.lease_pool import LeasedPool
from batch_llm.limiter.measures import span_of
from batch_llm.limiter.pacing import follow, hand_back, void_begun
from batch_llm.limiter.wire import UNDECLARED_DAY, Grant, Reply, Served

__all__ = ["GATHER_S", "HEARTBEAT_S", "Asked", "apply_reply", "fail", "quota_exhausted", "take_throttle"]

HEARTBEAT_S = 0.9  # a change made by a person takes effect within a second
SHORTEST_WAIT_S = 0.001
PERMITS_EVERY_S = 0.25  # so often are missing permits asked for
GATHER_S = 0.01  # where permits are what is scarce, those that come free within it are used together
HURRY_EVERY = 8  # slices after which the next question comes sooner: the schedule may refuse later than it did
SEAM_S = 1e-5  # slices that are no further apart were booked one behind the other
UNKNOWN_PAUSE_S = 0.5  # after a 429 that did not say how long, until the schedule says
LONGEST_PAUSE_S = 60.0  # whatever a 429 about a limit per minute says: after a minute that limit is there again

Asked = tuple[Line, bool, int]
"""A line of a call, whether it asked for a slice, and `Line.arrivals` then."""


def apply_reply(pool: LeasedPool, asked: list[Asked], reply: Reply, received_s: float) -> bool:
    """Take over what the schedule said; ``asked``: items of the call. True: it concerns all lines, not just theirs."""
    pace = pool.pace
    before = (pool.outage.is_on, pace.epoch, pool.version, list(pace.rates), pace.paused_until_s)
    lines = list(pool.lines.values())
    pool.outage.succeeded(lines, received_s)
    pool.time.sample(received_s, reply.now_s)
    if reply.epoch != pace.epoch:
        _begin_anew(pool, reply.epoch)
    elif reply.version != pool.version:
        for line in lines:
            hand_back(line, received_s, begun=False)
            line.ask_at_s = received_s
    pool.seq, pool.version, pool.stray = reply.seq, reply.version, reply.stray
    pool.memory, pool.memory_at_s = reply.memory, received_s
    _set_speed(pool, reply)
    if reply.pause_s > 0:
        _pause(pool, received_s + reply.pause_s, int(reply.pause_dimension), received_s)
    elif not pool.throttles:  # else the schedule does not know yet what we know
        pace.paused_until_s = -math.inf
    for (line, wanted, arrivals), grant in zip(asked, reply.grants, strict=True):
        line.permits = int(grant.permits)
        line.free_from_s = math.inf
        line.permits_at_s = received_s + PERMITS_EVERY_S
        if wanted:
            _take_grant(pool, (line, arrivals), grant, (reply.now_s, received_s))
    return before != (False, pace.epoch, pool.version, pace.rates, pace.paused_until_s)


def take_throttle(pool: LeasedPool, row: Leased, throttle: Throttle, now_s: float) -> None:
    """The provider answered 429: remember to tell, and start nothing meanwhile."""
    wait_s = throttle.retry_after_s
    if wait_s is None or not math.isfinite(wait_s) or wait_s < 0:
        # a request that was on its way when the pause began says nothing new about its length
        wait_s = -1.0 if row.granted_at_s >= pool.paused_from_s else 0.0
    place = _place_of(pool, throttle.scope)
    if place == UNDECLARED_DAY and wait_s < 0 and pool.limits.day_resets is not None:
        now = pool.clock.now()
        wait_s = (midnight_s(pool.limits.day_resets, now) - now.timestamp()) % DAY_S
    if not pool.is_of_a_day(place):
        wait_s = min(wait_s, LONGEST_PAUSE_S)
    pool.note_throttle(place, 1, wait_s)
    if not pool.stray or pool.is_of_a_day(place):
        _pause(pool, now_s + (UNKNOWN_PAUSE_S if wait_s < 0 else wait_s), place, now_s)


def _place_of(pool: LeasedPool, scope: str | None) -> int:
    """The place of the limit that a 429 is about; -1: some limit per minute."""
    names = [rule.name for rule in pool.rules]
    if scope in names:
        return names.index(scope)
    return UNDECLARED_DAY if scope is not None and scope.endswith("_per_day") else -1


def quota_exhausted(pool: LeasedPool, place: int, wait_s: float) -> QuotaExhausted | None:
    """The error for a wait of ``wait_s`` for the rule at ``place``; None when it is to be borne."""
    bearable_s = pool.options.park_after_s
    if bearable_s is None or wait_s <= bearable_s or not pool.is_of_a_day(place):
        return None
    until = pool.clock.now() + timedelta(seconds=wait_s)
    name = pool.name_of(place).replace("_per_day", " per day")
    advice = ", or raise the limit with `batch-llm limits set`."
    if place == UNDECLARED_DAY:
        advice = ". The pool declares none: name them under `limits` in the providers file, and it keeps to them."
    return QuotaExhausted(
        f"pool {pool.limits.pool} has used up its {name}; the next request may go at {until:%Y-%m-%d %H:%M} UTC. "
        f"What is paid is kept: run it again then{advice}",
        until=until,
    )


def fail(line: Line, error: BaseException) -> None:
    """Nobody on this line may wait any longer."""
    while line.waiters:
        waiter = line.waiters.popleft()
        if not waiter.future.done():
            waiter.future.set_exception(error)


def _begin_anew(pool: LeasedPool, epoch: int) -> None:
    """The schedule's memory is a new one: what was booked in the old one counts no more."""
    first = pool.pace.epoch == 0
    pool.pace.epoch = epoch
    if first:
        return
    pool.headers.forget()
    for line in pool.lines.values():
        line.slices.clear()
        line.covered = False
        nothing = [0.0] * pool.pace.count
        line.done, line.used, line.unused = list(nothing), list(nothing), list(nothing)
        line.ask_at_s = -math.inf


def _set_speed(pool: LeasedPool, reply: Reply) -> None:
    pool.limits_per_s = reply.limits
    pool.pace.set_rates(reply.rates)
    for place, rule in enumerate(pool.rules):
        limit = reply.limits[place]
        if not pool.limits.unknown:
            limit = max(limit, rule.per_s)
        elif limit == rule.per_s and not pool.headers.learned[place]:
            limit = math.inf  # still our own guess
        pool.pace.most[place] = span_of(rule, limit)


def _pause(pool: LeasedPool, until_s: float, dimension: int, now_s: float) -> None:
    pace = pool.pace
    if pace.paused_until_s < now_s:
        pool.paused_from_s = now_s
    if until_s > pace.paused_until_s or not pool.throttles:
        pace.paused_until_s, pool.pause_dimension = until_s, dimension
    for line in pool.lines.values():
        void_begun(line, now_s)  # time that passes in a pause is not caught up
        if any(piece.begins_s < until_s for piece in line.slices):
            hand_back(line, now_s, begun=False)
        error = quota_exhausted(pool, pool.pause_dimension, pace.paused_until_s - now_s)
        if error is not None:
            fail(line, error)


def _take_grant(pool: LeasedPool, asked: tuple[Line, int], grant: Grant, times: tuple[float, float]) -> None:
    (line, arrivals), (_, received_s) = asked, times
    if grant.served == Served.DENIED:
        line.binding = int(grant.binding)
        line.ask_at_s = received_s + min(HEARTBEAT_S, max(SHORTEST_WAIT_S, grant.wait_s))
        if line.first_try and not pool.refunds_much:
            line.set_patience(line.patience_s() + grant.wait_s)
        line.first_try = False
        error = quota_exhausted(pool, line.binding, grant.wait_s)
        if error is not None:
            fail(line, error)
        return
    line.binding = None
    line.ask_at_s = received_s + (GATHER_S if 0 <= line.permits - line.in_flight < line.rows_waiting() else 0.0)
    line.met = grant.served == Served.MET
    line.covered = line.met and line.arrivals == arrivals
    if any(grant.amounts):
        _add_slice(pool, line, grant, times)


def _add_slice(pool: LeasedPool, line: Line, grant: Grant, times: tuple[float, float]) -> None:
    pace, (told_s, received_s) = pool.pace, times
    starts_s = [pool.time.ours(at_s, received_s, told_s) for at_s in grant.starts_s]
    booked_s = pool.time.ours(told_s, received_s, told_s)
    piece = Slice(pace, starts_s, list(grant.amounts), booked_s)
    if piece.end_s < math.inf:
        pool.leads_s.append(piece.end_s - booked_s)
    if line.slices and line.slices[-1].epoch == piece.epoch and line.booked_to:
        piece.joined = [
            clock and amount > 0 and abs(at_s - end_s) <= SEAM_S
            for clock, amount, at_s, end_s in zip(
                pace.clocks, grant.amounts, grant.starts_s, line.booked_to, strict=True
            )
        ]
    line.booked_to = [
        at_s + amount * unit_s for at_s, amount, unit_s in zip(grant.starts_s, grant.amounts, pace.unit_s, strict=True)
    ]
    line.grants += 1
    line.first_try = True
    line.ahead_s = max(0.0, piece.begins_s - received_s)
    line.set_patience(line.patience_s() * (0.5 if line.grants % HURRY_EVERY == 0 else 1.0))
    follow(line, piece)
    line.slice_s, line.suits_s = pace.seconds(grant.amounts), grant.suits_s
