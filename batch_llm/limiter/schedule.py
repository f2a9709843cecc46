"""A pool's schedule: one call settles what ended, reacts to the provider, and books the next slices.

Belongs here: the order of a call, time, lost and aged memory. Not here: how fast (throttling.py), who comes first
(fair_share.py), the clocks (booking.py), permits (permits.py), waiting and pacing (leasing.py).

Every dimension is a clock (GCRA): ``tat`` is when everything booked so far will have been sent at the limit's rate. A
slice booked at ``t`` moves it to ``t + amount / rate``; its caller sends row by row, not before the row's own time. So
in any window of ``t`` seconds at most ``rate * (t + burst) + one row`` is sent, whoever sends.
lua/ holds the same algorithm for Redis, part by part and name by name; tests/contract/test_schedule.py compares them
call by call. Change both.
Source: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm (read 2026-11-21).
"""

from __future__ import annotations

import math
from typing import Any

from batch_llm.limiter.booking import book, settle
from batch_llm.limiter.fair_share import faded, forget_absent, lineage
from batch_llm.limiter.memory import Memory
from batch_llm.limiter.permits import give_permits
from batch_llm.limiter.step import Step
from batch_llm.limiter.throttling import FADE_S, learn, listen, probe, set_speed
from batch_llm.limiter.wire import CLOCK, FIXED, ROLLING

__all__ = ["USE_FADE_S", "PoolSchedule", "flow_after"]

ROUND_S = 0.4  # how far ahead the schedule is booked; every tenant gets its slice once in it
ROUND_MOST_S = 2.0  # for slow pools and many callers, so that a slice holds some ROWS_PER_SLICE rows
ROWS_PER_SLICE = 20.0
LIVE_MEMORY_S = 30.0  # so long after a live request the schedule stays shallow for the next one
LIVE_ROUND_S = 0.05  # the shallowest
LIVE_ROUND_SHARE = 0.45  # of their reserve is a round then: slices end before the reserve does
RECLAIM_ROUNDS = 4.0  # times how far behind a lane is, up to 0.5: deeper than live requests may book
OUTAGE_S = 1.2  # longer than a caller with work stays silent: its heartbeat is 0.9 s
GRACE_S = 0.6  # after an outage: until everybody has noticed its end; at least a round, so that the first is not alone
OVERHANG = 2.2  # a slice ends at most so many rounds ahead: one caller alone books 1.3 of them at a depth of 0.88
USE_FADE_S = 3.0  # of what the view shows as used now


class PoolSchedule:
    """One pool's schedule in this process; `RedisSchedule` runs the same in Redis."""

    def __init__(self) -> None:
        """Nothing is remembered yet."""
        self.memory = Memory()

    def call(self, clock_s: float, request: list[Any]) -> list[Any]:
        """One call as `wire.Call` describes it; the reply as in `wire.Reply`."""
        worker, epoch, seq, depth_s, rules, items, most, unknown, throttles, observed, outage, days, age_s = request
        step = Step(self.memory, worker, rules, most, bool(unknown))
        step.now_s = _steady(self.memory, clock_s)
        step.wall_s = step.now_s - self.memory.skew_s
        known = _remember(step, epoch, seq, depth_s, outage=bool(outage))
        step.begin_days()
        if not known:
            _recall_days(step, days, age_s)
        _fade(step)
        listen(step, observed)
        learn(step, throttles)
        probe(step)
        set_speed(step)
        _fade_flow(step)
        _set_round(step)
        forget_absent(step)
        grants = []
        for item in items:
            line = lineage(step, item)
            settle(step, line, item, known=known)
            permits = give_permits(step, line, item)
            *booked, suits_s = book(step, line, item)
            grants.append([*booked, permits, suits_s])
        return _reply(step, grants)

    def change(self, clock_s: float, change: list[Any]) -> None:
        """What a person changes, as `views.checked_change` made it."""
        memory = self.memory
        changed, weights, resume = change
        for place, per_s in changed:
            memory.changed[place] = per_s
        for user, weight in weights:
            if weight > 0:
                memory.weights[user] = weight
            else:
                memory.weights.pop(user, None)
        if resume:
            memory.pause_until_s = _steady(memory, clock_s)
            memory.pause_dimension = -1.0
            memory.factor = [1.0] * len(memory.factor)
        memory.version += 1


def _steady(memory: Memory, clock_s: float) -> float:
    """The schedule's clock: it never goes back, whatever the store's does."""
    now_s = clock_s + memory.skew_s
    back_s = memory.last_s - now_s
    if memory.epoch == 0 or back_s <= 0:
        return now_s
    if back_s >= GRACE_S:  # set back; less than that is jitter and passes
        memory.skew_s += back_s
    return memory.last_s


def _remember(step: Step, epoch: int, seq: int, depth_s: float, *, outage: bool) -> bool:
    """Make the memory fit this call. False: what the caller holds was booked in another memory."""
    memory, now_s = step.memory, step.now_s
    overhang_s = OVERHANG * max(ROUND_S, memory.round_s)
    memory.seq += 1
    if memory.epoch == 0:
        memory.epoch = max(math.floor(now_s * 1000), epoch + 1)
        memory.last_s = now_s
        for place in range(len(memory.tat)):
            memory.tat[place] = now_s
        if epoch == 0:
            return True
        _stand_still(step, max(depth_s, overhang_s))
        return False
    if epoch > memory.epoch or (epoch == memory.epoch and seq >= memory.seq):  # an older state came back
        memory.epoch = max(math.floor(now_s * 1000), epoch + 1)
        memory.seq = max(memory.seq, seq + 1)
        _stand_still(step, max(depth_s, overhang_s))
        return False
    silent = now_s - memory.last_s > OUTAGE_S and bool(memory.backlogged)
    if silent:  # the schedule was away, not its callers: for what it counts no time has passed
        memory.last_s = now_s
    if outage or silent:
        _stand_still(step, max(GRACE_S, memory.round_s, 0.0 if outage else overhang_s))
    if epoch in (0, memory.epoch):
        return True
    ago_s = max(0.0, now_s - memory.epoch / 1000)  # what callers hold was booked before this memory began
    if depth_s > ago_s:
        _stand_still(step, depth_s - ago_s)
    return False


def _stand_still(step: Step, duration_s: float) -> None:
    """Start nothing for a while, and nothing from a saved-up burst: others may still send what they hold."""
    memory = step.memory
    memory.version += 1
    for n, place in enumerate(step.places):
        if step.kinds[n] == CLOCK:
            memory.tat[place] = max(memory.tat[place], step.now_s + step.full_bursts[n] + duration_s)


def _recall_days(step: Step, days: list[float], age_s: float) -> None:
    """What callers remember of the days' limits, after the memory was lost."""
    if len(days) != len(step.places):
        return
    memory, now_s = step.memory, step.now_s
    for n, place in enumerate(step.places):
        if step.kinds[n] == ROLLING:
            memory.tat[place] = max(memory.tat[place], now_s + days[n] - age_s)
        elif step.kinds[n] == FIXED:
            into_s = step.periods[n] - step.period_ends_in_s(n)
            if into_s >= age_s:
                memory.tat[place] = max(memory.tat[place], days[n])


def _fade(step: Step) -> None:
    memory = step.memory
    elapsed_s = max(0.0, step.now_s - memory.last_s)
    memory.last_s = max(memory.last_s, step.now_s)
    step.elapsed_s = elapsed_s
    if elapsed_s > 0:
        keep = FADE_S / (FADE_S + elapsed_s)
        memory.rows *= keep
        memory.rejected *= keep


def _fade_flow(step: Step) -> None:
    """What the view shows as used now: only what was sent fades, not what is booked ahead."""
    if step.elapsed_s > 0:
        memory, before_s = step.memory, step.now_s - step.elapsed_s
        for n, place in enumerate(step.places):
            if step.kinds[n] == CLOCK:
                booked_to_s = memory.tat[place] - step.full_bursts[n]
                rate = step.rates[n]
                ahead = max(0.0, booked_to_s - before_s) * rate, max(0.0, booked_to_s - step.now_s) * rate
                memory.flow[place] = flow_after(memory.flow[place], ahead, step.elapsed_s)


def flow_after(flow: float, ahead: tuple[float, float], elapsed_s: float) -> float:
    """Units sent, fading, and those booked ``ahead`` (before, now). What was sent meanwhile, was sent evenly."""
    before = min(flow, ahead[0])
    now = min(before, ahead[1])
    keep = faded(elapsed_s, USE_FADE_S)
    return now + (flow - before) * keep + (before - now) * USE_FADE_S * (1 - keep) / elapsed_s


def _set_round(step: Step) -> None:
    """One value for the whole pool, else sharing breaks."""
    memory = step.memory
    wanted = ROWS_PER_SLICE * len(memory.backlogged) / max(1.0, memory.rows)
    step.round_s = max(ROUND_S, min(ROUND_MOST_S, wanted))
    if step.now_s - memory.live_seen_s < LIVE_MEMORY_S:
        kept = (kept_s for kept_s, kind in zip(step.live_bursts, step.kinds, strict=True) if kind == CLOCK)
        reserve_s = min(kept, default=0.0)
        step.round_s = min(step.round_s, max(LIVE_ROUND_S, LIVE_ROUND_SHARE * reserve_s))
        step.reclaim_s = RECLAIM_ROUNDS * step.round_s
    memory.round_s = step.round_s


def _reply(step: Step, grants: list[list[Any]]) -> list[Any]:
    memory, now_s = step.memory, step.now_s
    days = []
    for n, place in enumerate(step.places):
        if step.kinds[n] == CLOCK:
            days.append(0.0)
        else:
            days.append(memory.tat[place] if step.kinds[n] == FIXED else max(0.0, memory.tat[place] - now_s))
    return [
        memory.epoch,
        memory.seq,
        now_s,
        memory.version,
        step.rates,
        step.limits,
        max(0.0, memory.pause_until_s - now_s),
        memory.pause_dimension,
        1 if memory.tolerated > 0 else 0,
        days,
        grants,
    ]
