"""What happens while the store of the schedule cannot be reached.

Belongs here: for how long and how fast a process goes on alone. Not here: noticing it (lease_caller.py).

Slices in hand are used to their end. If the store is down for everybody (nobody listens there), each process then goes
on at a part of what it let out lately: all of them together stay below the limit. If only this process cannot reach it,
it waits: others may be using the whole limit. Nobody is told afterwards what went meanwhile: the time that passed has
paid for it, and the schedule starts nothing until everybody has noticed that it is back.
"""

from __future__ import annotations

import math

from batch_llm.errors import LimiterError, LimiterUnreachable
from batch_llm.limiter.lease_line import DEGRADED, Line, Slice
from batch_llm.limiter.pacing import hand_back

__all__ = ["Outage"]

SHARE_OF_S = 3.0  # a tenant's own rate is measured over so many seconds of ordinary work
SAMPLE_EVERY_S = 0.2
SHARE_KEPT = 0.8
PATIENCE_S = 1.0  # a shorter outage is waited out
ALONE_SLACK_S = 0.005  # for late timers; no burst is caught up meanwhile
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 0.25
STORE_RETRY_S = 1.0
Sample = tuple[float, list[float], float]
"""Of a line, at a good reply: when, `Line.let_out`, and how far ahead its last slice ended when it was booked."""


class Outage:
    """Whether the store answers, and what to do while it does not."""

    def __init__(self, pool: str, degraded_for_s: float) -> None:
        """``degraded_for_s``: so long after the last good call rows may go without one."""
        self._pool = pool
        self._degraded_for_s = degraded_for_s
        self._good_s = -math.inf
        self._since_s = -math.inf  # the first call failed
        self._tries = 0
        self._error: LimiterError | None = None
        self.sent_alone = False  # rows left that no call has reported yet

    @property
    def is_on(self) -> bool:
        """Whether the last call failed."""
        return self._error is not None

    @property
    def why(self) -> str:
        """One sentence for people; empty while the store answers."""
        return "" if self._error is None else f"pool {self._pool} waits for the store of its limits: {self._error}"

    def failed(self, error: LimiterError, now_s: float) -> float:
        """A call failed; returns the seconds after which to try again."""
        if self._error is None:
            self._since_s = now_s
        self._error = error
        if not isinstance(error, LimiterUnreachable):
            return STORE_RETRY_S
        self._tries += 1
        return min(RETRY_LAST_S, RETRY_FIRST_S * self._tries)

    def succeeded(self, lines: list[Line], now_s: float) -> None:
        """A reply came: nobody goes on alone any more; measure the shares for the next outage."""
        ended = self.is_on
        self._error, self._tries, self._good_s, self.sent_alone = None, 0, now_s, False
        for line in lines:
            if ended:
                _drop_alone(line)
            if not line.samples or now_s - line.samples[-1][0] >= SAMPLE_EVERY_S:
                line.samples.append((now_s, list(line.let_out), line.ahead_s + line.slice_s))
            while len(line.samples) > 1 and line.samples[1][0] <= now_s - SHARE_OF_S:
                line.samples.popleft()

    def go_on_alone(self, line: Line, now_s: float) -> None:
        """Give a line its part of its share, when the outage is of that kind and its slices are used up."""
        pace, until_s = line.pace, self._good_s + self._degraded_for_s
        down = isinstance(self._error, LimiterUnreachable) and self._error.refused
        if not down or now_s >= until_s:
            _drop_alone(line)
            return
        others_end_s = self._since_s + max((reach_s for _, _, reach_s in line.samples), default=0.0)
        if now_s <= max(self._good_s + PATIENCE_S, others_end_s):
            return
        if not pace.count or not all(pace.clocks):
            return  # what is left of a day's limit is not known without the store
        if any(piece.epoch == DEGRADED or now_s <= piece.end_s + pace.slack_s for piece in line.slices):
            return
        rates = _share(line, self._good_s)
        if any(rates):
            hand_back(line, now_s, begun=True)
            line.slices.append(_slice_alone(line, rates, now_s, until_s))
            self.sent_alone = True


def _drop_alone(line: Line) -> None:
    for piece in [piece for piece in line.slices if piece.epoch == DEGRADED]:
        line.slices.remove(piece)


def _share(line: Line, until_s: float) -> list[float]:
    """Units per second let out in the last seconds of ordinary work, and a part of it kept for safety."""
    if not line.samples or line.samples[-1][0] < until_s - 2 * SAMPLE_EVERY_S:
        return [0.0] * line.pace.count
    (first_s, first, _), (last_s, last, _) = line.samples[0], line.samples[-1]
    if first_s > until_s - SHARE_OF_S:  # the line is younger than that: before it let out nothing
        first = [0.0] * line.pace.count
    share = SHARE_KEPT / max(SHARE_OF_S, last_s - first_s)
    return [share * (after - before) for before, after in zip(first, last, strict=True)]


def _slice_alone(line: Line, rates: list[float], now_s: float, until_s: float) -> Slice:
    """One slice for the whole outage, paced at ``rates``; the first row waits as long as a mean row takes."""
    piece = Slice(line.pace, [now_s] * len(rates), [rate * (until_s - now_s) for rate in rates], now_s)
    piece.epoch, piece.end_s = DEGRADED, until_s
    piece.unit_s = [1 / rate if rate > 0 else 0.0 for rate in rates]
    piece.slack_s = [min(slack_s, ALONE_SLACK_S) for slack_s in piece.slack_s]
    for place, unit_s in enumerate(piece.unit_s):
        piece.next_s[place] += unit_s * line.mean_sum[place] / max(1.0, line.mean_of)
    return piece
