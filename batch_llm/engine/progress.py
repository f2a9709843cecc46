"""Once a second: tell how far the run is, bring the journals to the disk, keep what was learned, notice a stall.

Belongs here: the ticker and the words for what holds a run back. Not here: drawing (cli/panel.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

from batch_llm.engine.events import Progress, Stalled
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.publishing import Publisher
from batch_llm.engine.route import Route
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.summary import cost_so_far, total
from batch_llm.journal.base import RunRecord
from batch_llm.warehouse.base import StatusCounts

__all__ = ["Ticker"]

TICK_S = 1.0
STALL_S = 60.0  # without any answer while rows wait
BINDING_WORDS = {
    "requests": "the limit on requests per minute",
    "tokens": "the limit on tokens per minute",
    "input_tokens": "the limit on input tokens per minute",
    "output_tokens": "the limit on output tokens per minute",
    "requests_per_day": "the limit on requests per day",
    "tokens_per_day": "the limit on tokens per day",
    "limits_per_day": "a limit per day that the pool does not declare",
    "concurrency": "the limit on concurrent requests",
    "pause": "the provider's pause (429)",
    "unreachable": "the store of the limits, which does not answer",
}


class Ticker:
    """Tells progress while ``async with`` is open, and once more at the end."""

    def __init__(self, parts: JobParts, calling: Calling, meter: Meter, pipeline: Pipeline) -> None:
        """What to look at; see `begin`."""
        self._parts = parts
        self._calling = calling
        self._meter = meter
        self._pipeline = pipeline
        self._task: asyncio.Task[None] | None = None
        self._stalled = False

    def begin(self, record: RunRecord, rows: int, before: Mapping[int, StatusCounts], publisher: Publisher) -> None:
        """Of how many ``rows`` to tell. ``before``: slices that are published by now, as they stand in the warehouse.

        ``publisher`` knows more of those that are worked on from now on.
        """
        self._record = record
        self._rows = rows
        self._before = before
        self._publisher = publisher
        self._began_s = self._parts.clock.monotonic()

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.tell()

    async def _run(self) -> None:
        while True:
            await self._parts.clock.sleep(TICK_S)
            for work in list(self._publisher.open_slices.values()):
                await asyncio.to_thread(work.sync)
            for parts in (self._parts, *self._parts.fallbacks):
                await asyncio.to_thread(parts.learning.keep)
            self._notice_stall()
            self.tell()

    def tell(self) -> None:
        """How it stands now."""
        self._calling.tell(self._progress())

    def _counts(self) -> StatusCounts:
        """Stored rows of published slices, and what the journals of open ones say so far."""
        publisher = self._publisher
        live = {number: self._so_far(work) for number, work in publisher.open_slices.items()}
        return total({**self._before, **publisher.stored, **publisher.failed, **live}.values())

    def _so_far(self, work: SliceWork) -> StatusCounts:
        """Of an open slice. One that was published before has no fewer ok rows: those carried over are found again."""
        now, before = work.counts(), self._before.get(work.number)
        return now if before is None else replace(now, ok=max(now.ok, before.ok))

    def _slices_done(self) -> int:
        """Published slices with nothing left to ask."""
        publisher = self._publisher
        unsettled = publisher.failed.keys() | publisher.open_slices.keys()
        published = {**self._before, **publisher.stored}
        return sum(not counts.pending for number, counts in published.items() if number not in unsettled)

    def _progress(self) -> Progress:
        meter = self._meter
        counts = self._counts()
        pace = meter.pace()
        return Progress(
            run_id=self._record.run_id,
            at=self._parts.clock.now(),
            elapsed_s=meter.elapsed_s(),
            rows=self._rows,
            ok=counts.ok,
            failed=counts.failed,
            cached=counts.cached,
            in_flight=meter.in_flight,
            requests=meter.requests,
            retries=meter.retries,
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
            cost_usd=self._cost_usd(counts),
            requests_per_minute=pace.requests,
            tokens_per_minute=pace.tokens,
            limit_requests_per_minute=self._limit_in_force("requests_per_minute"),
            limit_tokens_per_minute=self._limit_in_force("tokens_per_minute"),
            holding_back=self._holding_back(),
            eta_s=self._eta_s(self._rows - counts.ok - counts.failed, pace.rows),
            errors=dict(meter.errors),
            slices_done=self._slices_done(),
            stalled=self._stalled and self._quiet_s() >= STALL_S,
        )

    def _limit_in_force(self, name: str) -> float | None:
        """Of all pools of the model that rows go to together; None when one has none."""
        taking = self._pipeline.tiers.taking()
        pools = [route for route in taking if route.tier == taking[-1].tier]
        each = [getattr(route.limiter.state(), name) or getattr(route.pool.limits, name) for route in pools]
        return None if None in each else sum(each)

    def _cost_usd(self, counts: StatusCounts) -> Decimal | None:
        """As the summary will say it; unknown already while calls are out whose price is unknown."""
        return None if counts.cost_usd is None and self._meter.requests else cost_so_far(counts)

    def _holding_back(self) -> str:
        pipeline = self._pipeline
        if pipeline.stopped is not None:
            return f"draining: {pipeline.stop_message}"
        held = [(route.name, self._holding_route_back(route)) for route in pipeline.tiers.taking()]
        if len(held) > 1 and any(why is not None for _, why in held):
            return "; ".join(f"{name}: {why or 'its answers'}" for name, why in held)
        if held[0][1] is not None:
            return held[0][1]
        if pipeline.waits_for_money:
            return "the budget: what is left of it is set aside for calls in flight, of this process or others"
        if not self._meter.in_flight:
            return self._holding_rows_back()
        oldest_s, phase = pipeline.oldest_call()
        return f"the provider's answers (the oldest call waits {oldest_s:.0f} s for {phase})"

    def _holding_rows_back(self) -> str:
        """Why there is no row to send."""
        if self._publisher.waiting:
            return f"publishing ({self._publisher.waiting} slices of answers)"
        works = self._publisher.open_slices.values()
        rows, asked_by = sum(work.asked_elsewhere for work in works), {run_id for w in works for run_id in w.asked_by}
        if rows and asked_by:
            return f"answers to {rows:,} equal rows, which are asked by run {' and run '.join(sorted(asked_by))}"
        return "reading and rendering rows"

    def _holding_route_back(self, route: Route) -> str | None:
        """Why no more rows go to this pool; None when it is not the pool that holds them back."""
        state, window, now_s = route.limiter.state(), route.window, self._parts.clock.monotonic()
        if route.is_held_up(now_s):
            return route.held_up_by(now_s)
        if state.waiting and state.binding is not None:
            words = BINDING_WORDS.get(state.binding, state.binding)
            return state.why or words if state.binding == "unreachable" else words
        if window.is_shrunk and route.meter.in_flight >= window.size():
            return f"the provider, which is overloaded: {window.size():,} calls at once"
        return None

    def _eta_s(self, left: int, rows_per_minute: float) -> float | None:
        """None while nobody can say: the calls that probe a silent provider are no pace."""
        if rows_per_minute <= 0 or all(route.window.outage is not None for route in self._pipeline.tiers.taking()):
            return None
        return left * 60 / rows_per_minute

    def _notice_stall(self) -> None:
        quiet_s = self._quiet_s()
        if quiet_s < STALL_S:
            self._stalled = False
        elif not self._stalled:
            self._stalled = True
            self._calling.tell(Stalled(self._holding_back(), quiet_s))

    def _quiet_s(self) -> float:
        """Seconds without any answer; not those in which another process was waited for."""
        return self._parts.clock.monotonic() - max(self._began_s, self._meter.last_answer_s)
