"""What one process knows of a pool: its lines, what the schedule said last, what is to be said next.

Belongs here: the record and its options. Not here: what a reply changes (lease_replies.py), the calls
(lease_caller.py).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from batch_llm.clock import Clock
from batch_llm.errors import LimiterError
from batch_llm.limiter.base import Limits, Tenant
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.lease_headers import HeaderReports
from batch_llm.limiter.lease_line import Line, Pace
from batch_llm.limiter.lease_outage import Outage
from batch_llm.limiter.schedule_time import ScheduleTime
from batch_llm.limiter.wire import CLOCK, UNDECLARED_DAY

__all__ = ["LeasedPool", "LeasingOptions"]

LEADS = 8


@dataclass(frozen=True, slots=True)
class LeasingOptions:
    """How one process uses a shared limit."""

    slack_s: float = 0.005
    """A start that comes at most this much too late counts as on time, so that the schedule does not slip. asyncio's
    timers wake 0.2-2 ms late (measured), which would cost 10-50 % of 1,000 rows per second; a longer stall is not
    caught up. Five milliseconds of the rate is far below any provider's smallest window (1 s)."""
    park_after_s: float | None = None  # a longer wait for a day's limit raises `QuotaExhausted`; None: wait
    degraded_for_s: float = 60.0  # go on so long at a part of the last share when the store is down; 0: wait at once
    headers: str | None = None  # whose rate-limit headers the answers bear, see `HeaderReader`; None: not read


class LeasedPool:
    """One pool, as one process sees it.

    Attributes:
        factor: Of a scaled clock: its seconds per real second; lateness is scaled by it too.
        epoch, seq, version: Of the last reply.
        limits_per_s: In force, before slowing down after 429s.
        refunds_much: Most of what is reserved comes back: the schedule may have room at any moment.
        stray: 429s come at any speed: they pause nobody.
        pause_dimension: The day's limit that the pause is about, or `UNDECLARED_DAY`; -1: another reason.
        leads_s: So long after they were booked its last slices ended. Not what is held now: who has just used up its
            slice holds little, but others may hold as much as it did.
        memory, memory_at_s: To be sent back, see `wire.Reply.memory`; when it came.
        throttles: To be told: place in the rules (or `UNDECLARED_DAY`; -1: not said) -> count, longest wait (-1: same).
    """

    def __init__(self, limits: Limits, clock: Clock, options: LeasingOptions) -> None:
        """Raises `LimiterError` for a limit that is no positive number."""
        self.limits = limits
        self.clock = clock
        self.options = options
        self.factor: float = getattr(clock, "factor", 1.0)
        self.rules = rules_of(limits, clock.now())
        for rule in self.rules:
            if not (math.isfinite(rule.per_s) and rule.per_s > 0):
                of_a_day = rule.name.endswith("_per_day")
                declared = getattr(limits, rule.name if of_a_day else f"{rule.name}_per_minute")
                name = rule.name.replace("_per_day", " per day") if of_a_day else f"{rule.name} per minute"
                raise LimiterError(f"pool {limits.pool}: a limit must be a number above 0: {name} is {declared!r}")
        self.pace = Pace(limits, self.rules, options.slack_s * self.factor)
        self.lines: dict[Tenant, Line] = {}
        self.time = ScheduleTime()
        self.outage = Outage(limits.pool, options.degraded_for_s)
        self.headers = HeaderReports(options.headers, self.rules)
        self.seq = 0
        self.version: int | None = None
        self.limits_per_s = [rule.per_s for rule in self.rules]
        self.refunds_much = limits.debit == "input_plus_max_tokens_then_corrected"
        self.stray = False
        self.pause_dimension = -1
        self.paused_from_s = -math.inf
        self.leads_s: deque[float] = deque(maxlen=LEADS)
        self.memory: list[float] = []
        self.memory_at_s = 0.0
        self.throttles: dict[int, tuple[int, float]] = {}

    def note_throttle(self, place: int, count: int, wait_s: float) -> None:
        """Remember 429s to be told."""
        before, longest_s = self.throttles.get(place, (0, -1.0))
        self.throttles[place] = (before + count, max(longest_s, wait_s))

    def is_of_a_day(self, place: int) -> bool:
        """Whether the rule at this place (-1: none) is a limit per day."""
        return place == UNDECLARED_DAY or (place >= 0 and self.rules[place].kind != CLOCK)

    def name_of(self, place: int) -> str:
        """The limit at this place."""
        return "limits_per_day" if place == UNDECLARED_DAY else self.rules[place].name
