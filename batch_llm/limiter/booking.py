"""Booking slices on the clocks of a pool, and settling what ended.

Belongs here: the clocks. Not here: whose turn it is (fair_share.py), rates (throttling.py).
"""

from __future__ import annotations

import math
from typing import Any

from batch_llm.limiter.fair_share import NEUTRAL, Lag, Lineage, charge, lag, leave, take_part
from batch_llm.limiter.memory import CALLER
from batch_llm.limiter.step import Step
from batch_llm.limiter.wire import CLOCK, FIXED, ROLLING, Served

__all__ = ["book", "settle"]

LIVE = 0
AHEAD_S = 2.0  # a slice of a day that refills evenly holds what comes in the round ahead, the longest of which this is
REQUESTS = 0  # its place
BREATH_S = 0.0005  # a denied caller asks this much later than its moment, so that it is not denied again
ROUNDING_S = 1e-9
PLAY_S = 0.1
"""How far a dimension that does not bind may lag behind a slice's start. Without any play, jobs of short rows and jobs
of long ones would take turns on the whole pool: of limits of 1,000 rows and 100,000 tokens per second 64 % and 76 %
were used with rows of 50 and 3,000 tokens; with 0.05 s of play 82 % and 100 %."""
WINDOW_PLAY = 0.002  # of a fixed window of the provider; what is kept free in it covers that
ALL_FROM = 0.6  # of the rows listed: from here on the slice holds them all
SPARE, SPARE_ROWS = 0.5, 2.0  # of what the rows need, and rows: so much more of a dimension that lags behind


def settle(step: Step, line: Lineage, item: list[Any], *, known: bool) -> None:
    """Refund or charge what ended; hand back what was not used. Never more than the caller holds.

    ``known``: the amounts were booked in this memory; else they count no more.
    """
    done, used, unused = item[9], item[10], item[11]
    if not known or not (any(done) or any(used) or any(unused)):
        return
    memory = step.memory
    dominant_s = 0.0
    mine = memory.tail == line.key
    for n, place in enumerate(step.places):
        held = line.caller[CALLER.OUT + place]
        back = min(done[n], held)
        returned = min(unused[n], held - back)
        line.caller[CALLER.OUT + place] = held - back - returned
        change = used[n] - back
        memory.flow[place] = max(0.0, memory.flow[place] + change - returned)
        if step.kinds[n] == FIXED:
            memory.tat[place] = max(0.0, memory.tat[place] + change - returned)
            continue
        rate = step.rates[n]
        tat = memory.tat[place] + change / rate
        if returned > 0:
            tat = _give_back(step, n, (tat, returned / rate), mine=mine)
        memory.tat[place] = tat
        if step.kinds[n] == CLOCK:
            seconds = (change - returned) / rate
            if abs(seconds) > abs(dominant_s):
                dominant_s = seconds
    if dominant_s != 0:
        charge(step, line, dominant_s)


def _give_back(step: Step, n: int, clock: tuple[float, float], *, mine: bool) -> float:
    """Time handed back is free again where nobody booked behind it, or where the provider lets one save up."""
    tat, seconds = clock
    if step.kinds[n] != CLOCK:
        return tat - seconds
    if mine:
        return max(tat - seconds, min(tat, step.memory.tail_tat[step.places[n]]))
    return max(tat - min(seconds, step.bursts[n]), min(tat, step.now_s))


def book(step: Step, line: Lineage, item: list[Any]) -> list[Any]:
    """Book a slice for one item: served, wait_s, binding, starts_s, amounts, suits_s (see `wire.Grant`)."""
    nothing = [0.0] * len(step.places)
    memory, now_s = step.memory, step.now_s
    if item[4] <= 0 and line.is_short:
        take_part(step, line, 0.0)
    elif item[4] <= 0:
        leave(memory, line)  # nobody of this caller waits
    line.caller[CALLER.WAITING], line.caller[CALLER.IN_FLIGHT] = item[12], item[13]
    if item[4] <= 0:
        return [Served.DENIED, 0.0, -1, nothing, nothing, 0.0]
    _make_room(step, item)
    if line.lane_number == LIVE:
        memory.live_seen_s = now_s
    first_s = _seconds(step, item[7])
    take_part(step, line, first_s)
    if now_s < memory.pause_until_s:
        return [Served.DENIED, memory.pause_until_s - now_s, -1, nothing, nothing, 0.0]
    standing = lag(step, line, first_s)
    # a lane that live requests keep from its share takes it from their reserve
    bursts = step.full_bursts if line.lane_number == LIVE or standing.lane > NEUTRAL else step.bursts
    depth_s, binding, day_wait_s = _depth(step, item, bursts)
    if day_wait_s > 0:
        return [Served.DENIED, day_wait_s, binding, nothing, nothing, 0.0]
    threshold_s = _threshold(step, line, standing)
    if depth_s > threshold_s:
        return [Served.DENIED, depth_s - threshold_s + BREATH_S, binding, nothing, nothing, 0.0]
    suits_s = standing.slice_s * (0.6 + 1.4 * standing.user * min(1.0, 2 * standing.lane))
    return _grant(step, line, item, (suits_s, first_s, bursts))


def _make_room(step: Step, item: list[Any]) -> None:
    """Remember the largest row. A day that refills evenly keeps room for it: else the day and one row would go.

    So does a fixed window, and where less room was kept until now, the difference passes unused before such a row.
    """
    largest, tat = step.memory.largest, step.memory.tat
    for n, place in enumerate(step.places):
        row = item[8][n]
        if 0 < largest[place] < row <= step.limits[n] * step.windows[n] and place != REQUESTS:
            tat[place] = max(step.now_s, tat[place] + (row - largest[place]) / step.rates[n])
        largest[place] = max(largest[place], row)
        if step.kinds[n] == ROLLING:
            burst_s = max(0.0, step.periods[n] - AHEAD_S - largest[place] / step.rates[n])
            step.full_bursts[n] = step.bursts[n] = burst_s


def _seconds(step: Step, amounts: list[float]) -> float:
    """Seconds of the whole pool: of the dimension it takes most of."""
    return max(
        (amount / rate for amount, rate, kind in zip(amounts, step.rates, step.kinds, strict=True) if kind == CLOCK),
        default=0.0,
    )


def _depth(step: Step, item: list[Any], bursts: list[float]) -> tuple[float, int, float]:
    """How deep the schedule is booked, the dimension that is deepest, and how long a day's limit makes one wait."""
    memory, now_s = step.memory, step.now_s
    depth_s, binding, day_wait_s = -1e9, -1, 0.0
    for n, place in enumerate(step.places):
        if item[6][n] <= 0:
            continue
        if step.kinds[n] == FIXED:
            if _left(step, n) < item[7][n] and day_wait_s == 0:
                day_wait_s, binding = max(BREATH_S, step.period_ends_in_s(n)), n
        elif day_wait_s == 0 and memory.tat[place] - bursts[n] - now_s > depth_s:
            depth_s, binding = memory.tat[place] - bursts[n] - now_s, n
    return depth_s, binding, day_wait_s


def _left(step: Step, n: int) -> float:
    """FIXED: what is left of the day."""
    return step.limits[n] * step.periods[n] - step.memory.tat[step.places[n]]


def _threshold(step: Step, line: Lineage, standing: Lag) -> float:
    """How deep into the schedule this caller may book, seconds."""
    if line.lane_number == LIVE and standing.lane > 0:
        return 1.5 * step.round_s
    of_lane = min(1.0, 2 * standing.lane)
    of_round = 0.5 + of_lane * standing.user * (0.5 + 0.5 * standing.job)
    return step.round_s * of_round + step.reclaim_s * max(0.0, standing.lane - NEUTRAL)


def _grant(step: Step, line: Lineage, item: list[Any], terms: tuple[float, float, list[float]]) -> list[Any]:
    """Take a slice from the schedule.

    Every clock goes on from the slice's start, at most `PLAY_S` before it: else the dimensions that do not bind would
    bunch behind the one that does. Of one that lags further behind, the slice gets more than its rows need, out of time
    that nobody can book any more: the rows that go may be smaller, and more, than those listed.
    """
    suits_s, first_s, bursts = terms
    memory, now_s = step.memory, step.now_s
    part = _part_of_demand(step, item, max(suits_s, first_s), bursts)
    start_s = now_s
    memory.tail = line.key
    for n, place in enumerate(step.places):
        memory.tail_tat[place] = memory.tat[place]
        if item[6][n] > 0 and step.kinds[n] != FIXED:
            start_s = max(start_s, memory.tat[place] - bursts[n])
    one_row = part * item[4] <= 1 + ROUNDING_S
    amounts = [first if one_row else max(total * part, first) for total, first in zip(item[6], item[7], strict=True)]
    given_s = _seconds(step, amounts)
    starts = [start_s] * len(amounts)
    for n, place in enumerate(step.places):
        amount = amounts[n]
        if amount <= 0:
            continue
        memory.flow[place] += amount
        if step.kinds[n] == FIXED:
            memory.tat[place] += amount
        else:
            play_s = _play_s(step, n)
            begin_s = max(memory.tat[place], now_s, start_s - play_s)
            if step.kinds[n] == CLOCK:
                starts[n] = begin_s - bursts[n]
                if memory.tat[place] < start_s - play_s:
                    spare = (start_s + given_s - play_s - begin_s) * step.rates[n]
                    amounts[n] = amount = max(amount, min(_with_spare(amount, item[7][n]), spare))
            memory.tat[place] = begin_s + amount / step.rates[n]
        line.caller[CALLER.OUT + place] += amount
    memory.rows += item[4] * part
    memory.struck_rows += item[4] * part
    memory.quiet_rows += item[4] * part
    charge(step, line, given_s)
    met = part >= 1 - ROUNDING_S and not item[5] and not line.is_short
    if met:
        leave(memory, line)
    return [Served.MET if met else Served.GRANTED, 0.0, -1, starts, amounts, suits_s]


def _with_spare(amount: float, row: float) -> float:
    return amount + max(SPARE * amount, SPARE_ROWS * row)


def _play_s(step: Step, n: int) -> float:
    """How far a dimension that does not bind may lag behind the slice's start."""
    return min(PLAY_S, WINDOW_PLAY * step.windows[n]) if step.windows[n] > 0 else PLAY_S


def _part_of_demand(step: Step, item: list[Any], slice_s: float, bursts: list[float]) -> float:
    """Which part of the listed rows the slice holds."""
    all_s = _seconds(step, item[6])
    part = _in_whole_rows(slice_s / all_s, item[4]) if all_s > slice_s else 1.0
    for n, place in enumerate(step.places):
        if step.kinds[n] == CLOCK or item[6][n] <= 0:
            continue
        if step.kinds[n] == FIXED:
            left = _left(step, n)
        else:
            left = (step.now_s + step.round_s + bursts[n] - step.memory.tat[place]) * step.rates[n]
        part = min(part, left / item[6][n])
    return max(0.0, part)


def _in_whole_rows(part: float, rows: float) -> float:
    """A rest of a row would move on to the caller's next slice, and go there too soon after somebody else's row.

    The caller lists as many rows as suited it last time: if that about suits it now, the slice holds them all.
    """
    return 1.0 if part >= ALL_FROM else max(1.0, math.floor(part * rows + 0.5)) / rows
