"""The schedule's clock against ours.

Belongs here: the offset between the two. Not here: what is timed with it.

A reply is late by the way it came, differently each time; the least late one of the last seconds shows the offset
best. With it the slices of all processes line up to about 0.1 ms, whatever their wall clocks say.
"""

from __future__ import annotations

import math

__all__ = ["ScheduleTime"]

REMEMBERED_S = 15.0  # a sample counts for one to two times as long: clocks drift apart
JUMP_S = 0.05  # a sample this much later shows that the schedule's clock was set back
LEAST_EARLY_S = 0.05  # nothing begins earlier than this before its time as this reply alone tells it


class ScheduleTime:
    """Turns the schedule's times into ours."""

    __slots__ = ("_before_s", "_from_s", "_lately_s")

    def __init__(self) -> None:
        """Nothing is known before the first `sample`."""
        self._lately_s = self._before_s = math.inf
        self._from_s = -math.inf

    def sample(self, received_s: float, told_s: float) -> None:
        """A reply said ``told_s`` and came at ``received_s`` on our clock."""
        offset_s = received_s - told_s
        if offset_s > self.offset_s + JUMP_S:
            self._lately_s = self._before_s = offset_s
            self._from_s = received_s
        elif received_s - self._from_s > REMEMBERED_S:
            fresh = received_s - self._from_s <= 2 * REMEMBERED_S
            self._before_s, self._lately_s = self._lately_s if fresh else math.inf, offset_s
            self._from_s = received_s
        else:
            self._lately_s = min(self._lately_s, offset_s)

    @property
    def offset_s(self) -> float:
        """To be added to the schedule's time; infinite before the first sample."""
        return min(self._lately_s, self._before_s)

    def ours(self, at_s: float, received_s: float, told_s: float) -> float:
        """A time of the reply that was just sampled, on our clock."""
        return max(at_s + self.offset_s, received_s + (at_s - told_s) - LEAST_EARLY_S)
