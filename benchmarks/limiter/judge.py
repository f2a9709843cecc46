"""The judge: from the moments at which rows were sent to figures. It knows nothing of any limiter.

Belongs here: pure functions over numbers. Not here: how rows were sent (worker.py, virtual.py), what a case promises
(cases.py). Times are seconds of one clock (CLOCK_MONOTONIC of one machine, or a virtual one); amounts are rows or
tokens; lists are sorted by time.

A strict bucket holds ``depth`` units, is full at the start and fills at ``rate``; a row that finds less than it needs
is rejected and takes nothing. A window is half open, ``[t, t + window)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = [
    "Event",
    "back_in_use_after_s",
    "earliest_sends",
    "jain",
    "kept_up",
    "needed_depth",
    "rejected_by_bucket",
    "rejected_by_windows",
    "total",
    "use",
    "weight_error",
    "worst_window",
]

Event = tuple[float, float]
"""When, and how much."""

DAY_S = 86_400.0
ROUNDING = 1e-6  # units: sums of floating numbers are not exact
SAME_MOMENT_S = 1e-9


def rejected_by_bucket(events: Sequence[Event], rate: float, depth: float) -> int:
    """How many of the events a strict bucket rejects."""
    level, last_s, rejected = depth, -math.inf, 0
    for at_s, amount in events:
        level = min(depth, level + rate * (at_s - last_s))
        last_s = at_s
        if amount > level + ROUNDING:
            rejected += 1
        else:
            level -= amount
    return rejected


def needed_depth(events: Sequence[Event], rate: float) -> float:
    """The smallest strict bucket that rejects none of the events, units."""
    debt = deepest = 0.0
    last_s = -math.inf
    for at_s, amount in events:
        debt = max(0.0, debt - rate * (at_s - last_s)) + amount
        last_s = at_s
        deepest = max(deepest, debt)
    return deepest


def worst_window(events: Sequence[Event], window_s: float) -> float:
    """The most units in any window, wherever it begins."""
    most = inside = 0.0
    first = 0
    for at_s, amount in events:
        inside += amount
        while events[first][0] <= at_s - window_s + SAME_MOMENT_S:
            inside -= events[first][1]
            first += 1
        most = max(most, inside)
    return most


def rejected_by_windows(events: Sequence[Event], limit: float, window_s: float, offset_s: float = 0.0) -> int:
    """How many events a provider rejects that admits ``limit`` units per fixed window; one begins at ``offset_s``."""
    window, inside, rejected = -math.inf, 0.0, 0
    for at_s, amount in events:
        number = math.floor((at_s - offset_s + SAME_MOMENT_S) / window_s)
        if number > window:
            window, inside = number, 0.0
        if inside + amount > limit + ROUNDING:
            rejected += 1
        else:
            inside += amount
    return rejected


def total(events: Sequence[Event], from_s: float, to_s: float) -> float:
    """Units in ``[from_s, to_s)``."""
    return math.fsum(amount for at_s, amount in events if from_s <= at_s < to_s)


def use(events: Sequence[Event], rate: float, from_s: float, to_s: float) -> float:
    """Which part of the limit was used in ``[from_s, to_s)``."""
    return total(events, from_s, to_s) / (rate * (to_s - from_s))


def back_in_use_after_s(events: Sequence[Event], rate: float, span: tuple[float, float], level: float) -> float:
    """Seconds after ``span[0]`` from which one second long stretches use at least ``level`` of the limit on average.

    The smallest ``d``, in tenths of a second, such that both the second after ``span[0] + d`` and all the time from
    there to ``span[1]`` are used to that level; infinite when there is none.
    """
    began_s, ended_s = span
    steps = max(0, math.floor((ended_s - began_s - 1.0) * 10))
    for step in range(steps):
        from_s = began_s + step / 10
        if use(events, rate, from_s, from_s + 1.0) >= level and use(events, rate, from_s, ended_s) >= level:
            return step / 10
    return math.inf


def jain(shares: Sequence[float]) -> float:
    """Jain's index: 1 when all shares are equal, 1/n when one has everything."""
    squares = math.fsum(share * share for share in shares)
    return math.fsum(shares) ** 2 / (len(shares) * squares) if squares > 0 else 0.0


def weight_error(shares: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """How far the worst share is from its weight's part of the whole; 0.03: 3 % too much or too little."""
    every, heavy = math.fsum(shares.values()), math.fsum(weights.values())
    if every <= 0:
        return math.inf
    return max(abs(shares[name] / every / (weights[name] / heavy) - 1) for name in weights)


def earliest_sends(count: int, start_s: float, rate: float, day: tuple[float, float | None]) -> list[float]:
    """When rows could go at best under ``rate`` per second without a burst and so many per day.

    ``day``: rows, and when it begins (it is fixed; seconds after a multiple of it) or None (it refills evenly, and is
    full at the start).
    """
    per_day, offset_s = day
    times: list[float] = []
    at_s, left, number = start_s, per_day, -math.inf
    for _ in range(count):
        if offset_s is None:
            if left < 1 - ROUNDING:
                wait_s = (1 - left) * DAY_S / per_day
                at_s, left = at_s + wait_s, 1.0
        else:
            today = math.floor((at_s - offset_s) / DAY_S)
            if today > number:
                number, left = today, per_day
            elif left < 1 - ROUNDING:
                number, left = number + 1, per_day
                at_s = number * DAY_S + offset_s
        times.append(at_s)
        left -= 1
        at_s += 1 / rate
        if offset_s is None:
            left = min(per_day, left + per_day / DAY_S / rate)
    return times


def kept_up(times: Sequence[float], ideal: Sequence[float], least: int, late_s: float) -> float:
    """How far behind the ideal a run ever was: rows sent per rows that could have been, at the worst moment.

    Looked at whenever a row could have gone, from the ``least``-th on; ``late_s`` late is on time.
    """
    worst, sent = 1.0, 0
    for number, at_s in enumerate(ideal, 1):
        while sent < len(times) and times[sent] <= at_s + late_s:
            sent += 1
        if number >= least:
            worst = min(worst, sent / number)
    return worst
