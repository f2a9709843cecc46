"""Which model rows may go to now: the job's own, or one of `fallback` while those before it are held up.

Belongs here: that rule, making a row's request for another model, telling when rows begin to go elsewhere and when they
return. Not here: which pool of a model a row goes to (pipeline.py), how a pool fares (route.py), the circuit breaker
(window.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from batch_llm.clock import Clock
from batch_llm.engine.context import too_long
from batch_llm.engine.events import FallbackBegan, FallbackEnded, Listener
from batch_llm.engine.images import are_taken
from batch_llm.engine.parts import JobParts
from batch_llm.engine.route import Route
from batch_llm.engine.work import Form, Work
from batch_llm.providers.base import Request

__all__ = ["LOOK_S", "PAUSE_LEAST_S", "Tiers"]

PAUSE_LEAST_S = 5.0  # a pool that pauses for less is waited for: no row is dear enough for a moment
LOOK_S = 0.25  # between two looks whether a model is needed that is not needed now
MADE_BYTES = 64 * 1024  # of prompts that are counted anew in one step: 6 ms where counts are exact


class Tiers:
    """The models of one pipeline, the job's own first."""

    def __init__(self, routes: Sequence[Route], clock: Clock, tell: Listener) -> None:
        """``routes``: all pools of all models."""
        self._clock = clock
        self._tell = tell
        self._routes = routes
        self._before = {route: [each for each in routes if each.tier < route.tier] for route in routes}
        self._working = 0  # the tier that rows went to last, probes of those before it aside
        self._sent = 0  # rows since they go to another model than the job's own

    def takes_rows(self, route: Route) -> bool:
        """Whether rows may go to this pool: while each pool of every model before its own is held up."""
        before = self._before[route]
        if not before:
            return True
        now_s = self._clock.monotonic()
        return all(each.is_held_up(now_s, PAUSE_LEAST_S) for each in before)

    def taking(self) -> list[Route]:
        """The pools that rows may go to now, or as soon as nothing holds them up."""
        return [route for route in self._routes if self.takes_rows(route)]

    def sent(self, route: Route, work: Work) -> None:
        """The row went there."""
        work.forms = None
        if route.tier > self._working:
            now_s = self._clock.monotonic()
            why = "; ".join(f"{each.name}: {each.held_up_by(now_s)}" for each in self._before[route])
            self._working = route.tier
            self._tell(FallbackBegan(route.parts.declared.job.model, why))
        elif route.tier < self._working and not route.is_held_up(self._clock.monotonic()):
            self._tell(FallbackEnded(route.parts.declared.job.model, self._sent))
            self._working, self._sent = route.tier, 0
        self._sent += route.tier > 0

    def of_use(self, route: Route, rows: Sequence[Work]) -> list[Work]:
        """The first of these rows, but for those that this pool's model cannot take; each with its form for it."""
        found: list[Work] = []
        counted_bytes = 0
        for work in rows:
            is_new = work.form(route.fallback) is None
            if is_new and counted_bytes >= MADE_BYTES:
                break
            if is_new:
                counted_bytes += work.input_bytes
                made = _form_for(work, route.parts)
                if made is None:
                    work.fits_not |= {each.name for each in self._routes if each.tier == route.tier}
                    continue
                work.forms = {**(work.forms or {}), route.fallback: made}
            found.append(work)
        return found


def _form_for(work: Work, parts: JobParts) -> Form | None:
    """What the row asks of this model; None: that can take no such row.

    What it was told of its mistakes goes with it; its cap and its prediction are those of the model.
    """
    assert isinstance(work.request, Request)  # noqa: S101  a job for vectors has no fallback
    named = replace(work.request, model=parts.declared.job.model_name, params=parts.params)
    state = work.slice_work.rows.open_state(work.row)
    request = parts.with_cap(named, state.bad_answers if state else 0)
    cost = parts.predicted_cost(request)
    if too_long(parts, cost) is not None or not are_taken(request.images, parts.image_rules):
        return None
    return Form(request, cost, parts.input_bytes(request), parts.image_tokens(request))
