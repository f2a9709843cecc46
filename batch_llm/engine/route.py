"""How one pool fares in a run: what was measured there, how many calls may be in flight, whether it is still asked.

Belongs here: the state of a pool while rows are asked. Not here: which pool a row goes to (pipeline.py), which
model (tiers.py), the size of its window and the probing of an outage (window.py), its limit (limiter).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from batch_llm.clock import Clock
from batch_llm.engine.answerers import FALLBACK
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.pools import OpenPool, Pool
from batch_llm.engine.row_queue import Claim
from batch_llm.engine.window import AWAY_PATIENCE_S, Window
from batch_llm.engine.work import Work
from batch_llm.errors import QuotaExhausted, StopRun

__all__ = ["Route", "Tier", "of_use", "routes_of", "told_until"]


CLOSED_LEAST_S = 1.0  # however soon a provider says that its quota is there again


class Route:
    """One pool of a pipeline."""

    def __init__(self, to: OpenPool, of: Tier, meters: Sequence[Meter], window: Window) -> None:
        """``of``: its model; ``meters``: all that count its calls, the last one this pool's own."""
        self.name = to.pool.name if of.fallback is None else f"{of.fallback}:{to.pool.name}"
        self.pool = to.pool
        self.parts = of.parts
        self.tier = of.number
        self.fallback = of.fallback
        self.limiter = to.limiter
        self.send = to.provider.send  # of the works' kind of request
        self.paid_at = of.paid_at(to.pool)
        self.meters = meters
        self.meter = meters[-1]
        self.window = window
        self.claim: Claim | None = None  # the rows that wait for it; None: it is the only one, and all rows do
        self.closed: StopRun | None = None  # why it is not asked any more
        self._closed_until_s = -math.inf

    def room(self, now_s: float) -> int:
        """How many more calls may be in flight there."""
        if now_s < self._closed_until_s:
            return 0
        return self.window.size() - self.meter.in_flight

    def is_open(self, now_s: float) -> bool:
        """Whether it is asked at all."""
        return now_s >= self._closed_until_s

    def opens_in_s(self, now_s: float) -> float:
        """Seconds until it is asked again; infinite: not in this run."""
        return self._closed_until_s - now_s

    def close(self, error: StopRun, clock: Clock) -> None:
        """It cannot go on by itself: no row goes there any more, or none until its quota is there again."""
        until = error.until if isinstance(error, QuotaExhausted) else None
        self.closed = error
        self._closed_until_s = math.inf if until is None else clock.monotonic() + _seconds_until(until, clock)

    @property
    def is_silent(self) -> bool:
        """Whether it has been away for longer than a run waits. Who is asked seldom answers seldom: that is no sign."""
        return self.window.away_s() > AWAY_PATIENCE_S

    def is_held_up(self, now_s: float, pause_least_s: float = 0.0) -> bool:
        """Whether a row would wait here for longer than for its turn: closed, away, or paused by the provider.

        ``pause_least_s``: a pause that is over sooner is none.
        """
        away = self.window.outage is not None
        return away or not self.is_open(now_s) or self.limiter.state().paused_for_s > pause_least_s

    def held_up_by(self, now_s: float) -> str:
        """Why no row goes there, in words."""
        outage = self.window.outage
        if self.closed is not None and not self.is_open(now_s):
            return f"not asked any more ({self.closed})"
        if outage is not None:
            silent_s = self.window.silent_s()
            return f"the provider, which has answered nobody for {silent_s:.0f} s ({outage.why}); it is probed"
        state = self.limiter.state()
        return state.why or f"the provider asked to pause for {state.paused_for_s:.0f} s (429)"


@dataclass(frozen=True, slots=True)
class Tier:
    """One model of a pipeline: the job's own, or one of `fallback`."""

    number: int  # 0: the job's own; the others as they are listed
    fallback: str | None  # its name, provider/model; None: the job's own
    parts: JobParts  # the job as if it named this model

    def paid_at(self, pool: Pool) -> dict[str, str]:
        """What the journal notes beside an answer of this pool: see `JobParts.paid_at`."""
        noted = self.parts.paid_at(pool)
        return noted if self.fallback is None else {**noted, FALLBACK: self.fallback}


def of_use(routes: Sequence[Route], waiting: Sequence[Work], now_s: float) -> list[Route]:
    """Those that are open and could take any of the rows that wait; all that are open while no row waits."""
    fit_none = frozenset[str].intersection(*(work.fits_not for work in waiting)) if waiting else frozenset()
    return [route for route in routes if route.is_open(now_s) and route.name not in fit_none]


def _seconds_until(moment: datetime, clock: Clock) -> float:
    return max(CLOSED_LEAST_S, (moment - clock.now()).total_seconds())


def routes_of(parts: JobParts, calling: Calling, meter: Meter) -> list[Route]:
    """A route for each pool of each model, the job's own first; ``meter`` counts the calls of all of them."""
    others = zip(parts.fallbacks, calling.fallbacks, strict=True)
    tiers = [(Tier(0, None, parts), calling.pools)]
    for number, (other, pools) in enumerate(others, 1):
        tiers.append((Tier(number, other.declared.job.model, other), pools))
    clock, count = parts.clock, sum(len(pools) for _, pools in tiers)
    routes = []
    for tier, pools in tiers:
        for to in pools:
            meters = (meter,) if count == 1 else (meter, Meter(clock))
            window = Window(to.pool.limits, meters[-1], clock, state=to.limiter.state, share=count)
            routes.append(Route(to, tier, meters, window))
    return routes


def told_until(error: StopRun) -> str:
    """The message, and until when it holds if that is known and not said."""
    until = error.until if isinstance(error, QuotaExhausted) else None
    if until is None:
        return str(error)
    said = f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return str(error) if said in str(error) else f"{error} (until {said})"
