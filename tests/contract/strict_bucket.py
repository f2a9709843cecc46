"""The judge of a rate limiter: knows nothing of its code, replays what was sent in a strict bucket.

Belongs here: replaying. Not here: driving a limiter (test_rate_limiter.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Flow", "highest_level", "largest_window", "overshoot"]


@dataclass(frozen=True, slots=True)
class Flow:
    """``amount`` units at ``at_s``; not ``sent``: a later correction of the count, negative when units come back."""

    at_s: float
    amount: float
    sent: bool = True


def overshoot(flows: Iterable[Flow], rate: float) -> float:
    """Units above ``rate`` (per second) in the worst of all windows, its last row not counted; 0 is perfect.

    A bucket that leaks ``rate``: what is in it before a row is added is what the windows before hold too much.
    """
    return max((level for flow, level in _levels(flows, rate) if flow.sent and flow.amount), default=0.0)


def highest_level(flows: Iterable[Flow], rate: float) -> float:
    """The bucket size at which a provider would have rejected nothing, units."""
    return max((level + flow.amount for flow, level in _levels(flows, rate)), default=0.0)


def _levels(flows: Iterable[Flow], rate: float) -> Iterator[tuple[Flow, float]]:
    """Each flow with what was in the bucket before it; flows of one moment in the order given."""
    level, last_s = 0.0, None
    for flow in sorted(flows, key=lambda flow: flow.at_s):
        if last_s is not None:
            level = max(0.0, level - rate * (flow.at_s - last_s))
        last_s = flow.at_s
        yield flow, level
        level = max(0.0, level + flow.amount)


def largest_window(flows: Iterable[Flow], window_s: float) -> float:
    """The most units in any window ``[t, t + window_s)``, wherever it begins."""
    ordered = sorted(flows, key=lambda flow: flow.at_s)
    most = inside = 0.0
    first = 0
    for flow in ordered:
        inside += flow.amount
        while ordered[first].at_s <= flow.at_s - window_s:
            inside -= ordered[first].amount
            first += 1
        most = max(most, inside)
    return most
