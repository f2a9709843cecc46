"""How long one call may take: learned from those before it.

Belongs here: the bounds, and ending the calls that passed one. Not here: what follows for the row (calls.py), the bound
on a connection to stand (providers).

One look a second at all calls in flight: a timer per call would cost more than many a call's answer.

A pool may take calls and answer none. Where another pool could take its rows meanwhile, it is not waited for until each
call's own time is over: it is judged away by what its answers took so far, and the rows that it holds go to the others.
Each was given up before it is asked again, and counts as paid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
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
SILENT_LEAST_S, SILENT_FACTOR = 5.0, 4.0  # a pool without an answer for so long, beside one that answers
SILENT_CALLS = 3  # that wait for so long
PATIENT_PROBES = 8  # each of so many is waited for as any call: the pool may have become slow for good
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
    hurried: bool = False  # it might have been waited for longer: its row is not to blame
    task: asyncio.Task[None] | None = None


class Deadlines:
    """Ends calls that take too long."""

    def __init__(self, routes: Sequence[Route], clock: Clock) -> None:
        """``routes``: all pools of all models; how long answers take is what each call's pool has measured."""
        self._routes = routes
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
        self._give_up_silent(calls, now_s)

    def _give_up_silent(self, calls: Iterable[Call], now_s: float) -> None:
        """Judge the pools that answer nobody, and end what waits there, where it can be asked elsewhere."""
        waiting: dict[Route, list[Call]] = {}
        for call in calls:
            waiting.setdefault(call.route, []).append(call)
        for route, held in waiting.items():
            silence_s = self._silence_s(route) if self._goes_on_elsewhere(route, now_s) else None
            if silence_s is None:
                continue
            overdue = [call for call in held if _waits(call) and now_s - call.sent_at_s >= silence_s]
            unheard = now_s - route.window.good_at_s >= silence_s and all(map(_waits, held))
            if route.window.outage is None and unheard and len(overdue) >= SILENT_CALLS:
                route.window.silent(f"calls are taken and none is answered, for {silence_s:.0f} s")
            for call in overdue if route.window.outage is not None else ():
                self._give_up(call, now_s)

    def _goes_on_elsewhere(self, route: Route, now_s: float) -> bool:
        """Whether another pool, of this model or another, would take its rows if it were away."""
        return any(not each.is_held_up(now_s) for each in self._routes if each is not route)

    def _silence_s(self, route: Route) -> float | None:
        """After how long without an answer a pool is silent; None while it is not known how long answers take.

        While it never answered, what the other pools of its model take.
        """
        alike = (route, *(each for each in self._routes if each.tier == route.tier))
        known = [each.meter for each in alike if each.meter.answers >= ANSWERS_TO_LEARN_FROM]
        return max(SILENT_LEAST_S, SILENT_FACTOR * known[0].slowest_start_s) if known else None

    @staticmethod
    def _give_up(call: Call, now_s: float) -> None:
        outage = call.route.window.outage
        if outage is None or call.expired is not None or call.task is None:
            return
        is_probe = call.sent_at_s >= outage.opened_at_s
        if is_probe and outage.probes % PATIENT_PROBES == PATIENT_PROBES - 1:
            return
        call.expired = f"waited {now_s - call.sent_at_s:.0f} s at a pool that answers nobody"
        call.hurried = True
        call.task.cancel()


def _waits(call: Call) -> bool:
    return call.sending.phase is Phase.ANSWER
