"""How long one call may take: learned from those before it.

Belongs here: the bounds, and ending the calls that passed one. Not here: what follows for the row (calls.py), the bound
on a connection to stand (providers).

One look a second at all calls in flight: a timer per call would cost more than many a call's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from batch_llm.clock import Clock
from batch_llm.engine.route import Route
from batch_llm.engine.work import Work
from batch_llm.limiter.base import Hold, Reservation
from batch_llm.providers.base import Phase, Sending

__all__ = ["FIRST_S", "Call", "Deadlines"]

FIRST_S = 120.0  # until enough answers came
LEAST_S, MOST_S = 20.0, 600.0
LEAST_BODY_S = 60.0  # an answer that is on its way is paid for: it is cut only when it hardly moves
FACTOR = 8.0  # times the slowest of the last answers
ANSWERS_TO_LEARN_FROM = 20
LOOK_S = 1.0
DOUBLINGS = 4  # a row whose calls take too long is given twice the time each time


@dataclass(slots=True, eq=False)
class Call:
    """One call in flight."""

    work: Work
    route: Route
    reservation: Reservation
    hold: Hold
    sent_at_s: float
    sending: Sending = field(default_factory=Sending)
    answered_at_s: float | None = None  # when its first byte had come, as of the last look
    expired: str | None = None  # which bound it passed
    task: asyncio.Task[None] | None = None


class Deadlines:
    """Ends calls that take too long."""

    def __init__(self, clock: Clock) -> None:
        """How long answers take is what each call's pool has measured."""
        self._clock = clock

    def allowed_s(self, call: Call) -> float:
        """Seconds that this phase of this call may take."""
        meter, in_body = call.route.meter, call.sending.phase is Phase.BODY
        if meter.answers < ANSWERS_TO_LEARN_FROM:
            usual_s = FIRST_S
        elif in_body:
            usual_s = min(MOST_S, max(LEAST_BODY_S, FACTOR * meter.slowest_body_s))
        else:
            usual_s = min(MOST_S, max(LEAST_S, FACTOR * meter.slowest_start_s))
        return usual_s * 2.0 ** min(call.work.timeouts, DOUBLINGS)

    async def keep(self, calls: Iterable[Call]) -> None:
        """Look once a second, until cancelled. ``calls``: those in flight, as they are at each look."""
        while True:
            await self._clock.sleep(LOOK_S)
            self.look(calls)

    def look(self, calls: Iterable[Call]) -> None:
        """Cancel each call that passed a bound; `Call.expired` says which."""
        now_s = self._clock.monotonic()
        for call in calls:
            phase = call.sending.phase
            if phase is Phase.BODY and call.answered_at_s is None:
                call.answered_at_s = now_s
            since_s = call.sent_at_s if call.answered_at_s is None else call.answered_at_s
            if call.expired is None and now_s - since_s >= self.allowed_s(call) and call.task is not None:
                call.expired = f"waited {now_s - since_s:.0f} s for {phase.value}"
                call.task.cancel()
