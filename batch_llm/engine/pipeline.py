"""The rows on their way to the calls: hands them out with limit and money, hears how they end, drains.

Belongs here: limiter and budget before each call, starting and stopping. Not here: one call and what follows
(calls.py), pacing (limiter), the order of rows (row_queue.py), how many at once (window.py), slices (slice_work.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC
from typing import Protocol

from batch_llm.clock import Alarm
from batch_llm.engine.calls import Calls
from batch_llm.engine.context import longest_answer
from batch_llm.engine.deadlines import Call, Deadlines
from batch_llm.engine.events import BudgetMark, Stopping
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.row_queue import RowQueue
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.window import AWAY_PATIENCE_S, Window
from batch_llm.engine.work import Work
from batch_llm.errors import (
    BudgetExhausted,
    ErrorClass,
    JournalError,
    LimiterError,
    NeverFits,
    QuotaExhausted,
    StopRun,
)
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Budget, Hold, Reservation
from batch_llm.pricing import usd_of_nano

__all__ = ["Pipeline", "Slices"]

HOLD_PATIENCE_S = 0.1  # what was reserved is given back when its money takes longer: others can use it
BUDGET_MARKS = (50, 80, 100)


class Slices(Protocol):
    """Who looks after the slices whose rows are asked."""

    on_room: Callable[[], None]  # called when a slice was closed

    def has_room(self) -> bool:
        """Whether another slice may be opened; while not, no further row is read."""
        ...

    def idle(self, work: SliceWork) -> None:
        """All rows of this slice ended."""
        ...


class Pipeline:
    """Asks the rows of some slices; one use. Hears from its `Calls` how each ends."""

    def __init__(self, parts: JobParts, calling: Calling, budget: Budget, meter: Meter) -> None:
        """``budget`` knows what the run spent before."""
        self._parts = parts
        self._calling = calling
        self._budget = budget
        self._meter = meter
        self._clock = parts.clock
        self._tenant = parts.tenant
        self._queue = RowQueue(parts.clock)
        self.window = Window(parts.limits, meter, parts.clock)
        self._calls = Calls(parts, calling, budget, meter, self.window)
        self._calls.outcomes = self
        self._feeder: asyncio.Task[None] | None = None
        self._home = asyncio.Event()  # set while no call is in flight
        self._home.set()
        self._begun: set[int] = set()  # slices that the budget knows
        self._marked = 0
        self.stopped: ErrorClass | None = None
        self.stop_message = ""
        self._fatal: JournalError | None = None

    async def run(self, works: AsyncIterator[Work], slices: Slices) -> None:
        """Ask every row of ``works``; returns when none is in flight any more.

        ``slices`` hears of a slice whose rows all ended. Cancelling this drops what is in flight (its outcome is
        journalled as lost); `stop` drains. Whatever keeps rows from being read or answers from being stored is raised
        after what is in flight came home.
        """
        self._slices = slices
        slices.on_room = self._queue.wake
        deadlines = asyncio.create_task(Deadlines(self._meter, self._clock).keep(self._calls.in_flight))
        feeder = self._feeder = asyncio.create_task(self._feed(works))
        if self.stopped is not None:
            feeder.cancel()
        try:
            await asyncio.wait({feeder})  # its failure must not cancel paid calls
            await self._home.wait()
        except asyncio.CancelledError:
            feeder.cancel()
            await self._calls.drop()
            raise
        finally:
            deadlines.cancel()
            await asyncio.wait({feeder, deadlines})
            self._give_money_back()
        if self._fatal is not None:
            raise self._fatal
        with suppress(asyncio.CancelledError):
            feeder.result()

    def stop(self, error_class: ErrorClass, message: str) -> None:
        """Hand nothing out any more; what is in flight comes home."""
        if self.stopped is not None:
            return
        self.stopped, self.stop_message = error_class, message
        self._calling.tell(Stopping(message, self._meter.in_flight))
        if self._feeder is not None:
            self._feeder.cancel()

    def oldest_call(self) -> tuple[float, str]:
        """Of the calls in flight: for how many seconds the oldest waits, and for what."""
        call = min(self._calls.in_flight, key=lambda one: one.sent_at_s, default=None)
        return (0.0, "") if call is None else (self._clock.monotonic() - call.sent_at_s, call.sending.phase.value)

    # -- what the calls tell ---------------------------------------------------------------------------------------

    def again(self, work: Work, delay_s: float) -> None:
        """See `Outcomes.again`."""
        self._queue.again(work, delay_s)

    def ended(self, work: Work) -> None:
        """See `Outcomes.ended`."""
        slice_work = work.slice_work
        slice_work.ended(work)
        if slice_work.fed and not slice_work.outstanding:
            self._slices.idle(slice_work)

    def came_back(self) -> None:
        """See `Outcomes.came_back`."""
        if not self._calls.in_flight:
            self._home.set()
        self._queue.wake()

    def stop_for(self, error: StopRun) -> None:
        """See `Outcomes.stop_for`."""
        self.stop(error.error_class, _until(error))

    def broken(self, error: JournalError) -> None:
        """See `Outcomes.broken`."""
        self._fatal = self._fatal or error
        self.stop(ErrorClass.CANCELLED, str(error))

    def paid(self) -> None:
        """See `Outcomes.paid`."""
        cap = self._budget.cap_usd
        if cap is None:
            return
        share = self._budget.spent_usd * 100 / cap
        for mark in BUDGET_MARKS:
            if self._marked < mark <= share:
                self._marked = mark
                self._calling.tell(BudgetMark(mark, self._budget.spent_usd, cap))

    # -- handing out -----------------------------------------------------------------------------------------------

    async def _feed(self, works: AsyncIterator[Work]) -> None:
        queue = self._queue
        reading = asyncio.create_task(queue.read(works, self._slices.has_room, self.window.wanted))
        reading.add_done_callback(lambda _: queue.wake())
        try:
            while not queue.is_empty or self._calls.in_flight:
                if reading.done():
                    reading.result()  # what keeps rows from being read ends the run
                rows = queue.listed(self.window.size() - self._meter.in_flight)
                if rows:
                    await self._launch(rows)
                else:
                    await self._something_new()
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _something_new(self) -> None:
        """Until a row may be sent; while the provider is away, until it is time to probe it again."""
        outage, alarm = self.window.outage, None
        if outage is not None and not self._meter.in_flight:
            if self.window.silent_s() > AWAY_PATIENCE_S:
                minutes = AWAY_PATIENCE_S / 60
                self.stop(
                    ErrorClass.CANCELLED, f"the provider has not answered for {minutes:.0f} minutes: {outage.why}"
                )
            alarm = self._clock.call_later(outage.probe_at_s - self._clock.monotonic(), self._queue.wake)
        try:
            await self._queue.changed()
        finally:
            if alarm is not None:
                alarm.cancel()

    async def _launch(self, rows: list[Work]) -> None:
        """Send those of these rows that the limit lets go now, in order, each with its money set aside."""
        granted = deque(zip(rows, await self._reserved(rows), strict=False))
        try:
            while granted:
                work, reservation = granted[0]
                hold = work.hold or self._hold_now(work) or await self._hold_patiently(work, granted)
                work.hold = None
                if hold is None:
                    return
                if not granted:  # the money came too late for what was reserved
                    work.hold = hold
                    return
                self._note_sent(work, hold)
                granted.popleft()
                self._queue.sent(work)
                self._home.clear()
                self._calls.start(Call(work, reservation, hold, self._clock.monotonic()))
        finally:
            self._give_back(granted)

    def _give_back(self, granted: deque[tuple[Work, Reservation]]) -> None:
        while granted:
            self._calling.limiter.release(granted.popleft()[1])

    async def _reserved(self, rows: list[Work]) -> list[Reservation]:
        """For the first of these rows; none when the first one can never go, or nothing may go any more."""
        costs = [work.cost for work in rows]
        try:
            return await self._calling.limiter.reserve_next(self._tenant, costs, more=self._queue.more(len(rows)))
        except NeverFits as error:
            self._queue.sent(rows[0])
            rows[0].attempt -= 1  # it never was one
            self._calls.fail(rows[0], ErrorClass.TOO_LARGE, str(error))
            return []
        except QuotaExhausted as error:
            self.stop(error.error_class, _until(error))
        except LimiterError as error:
            self._cannot_go_on(error, ErrorClass.RATE_LIMITED, "the rate limiter")
        await asyncio.sleep(0)  # the cancellation of this very task arrives here
        return []

    def _cannot_go_on(self, error: LimiterError, error_class: ErrorClass, what: str) -> None:
        """Stop resumably; but what never worked is the caller's own error, and nothing was spent."""
        if not self._meter.requests:
            raise error
        self.stop(error_class, f"{what} cannot go on: {error}")

    # -- money -----------------------------------------------------------------------------------------------------

    def _note_sent(self, work: Work, hold: Hold) -> None:
        """Where money is capped, the intent is in the journal before the call."""
        if not self._budget.is_capped:
            return
        try:
            work.note(EntryKind.SENT, detail={"held_usd": str(hold.amount_usd)})
        except JournalError:
            self._budget.release(hold)
            raise

    def _hold_now(self, work: Work) -> Hold | None:
        """The dearest bill set aside at once, where the allowance has room for it."""
        number = work.slice_work.number
        if number not in self._begun:
            self._begun.add(number)
            self._budget.begin(number, work.slice_work.rows.spent_usd)
        return self._budget.hold_now(self._dearest_nano(work), number)

    async def _hold_patiently(self, work: Work, granted: deque[tuple[Work, Reservation]]) -> Hold | None:
        """Wait while money may come back, from calls in flight or other processes; meanwhile others use the limit."""
        impatience: Alarm = self._clock.call_later(HOLD_PATIENCE_S, lambda: self._give_back(granted))
        try:
            return await self._budget.hold(usd_of_nano(self._dearest_nano(work)), work.slice_work.number)
        except BudgetExhausted as error:
            self.stop(ErrorClass.BUDGET, str(error))
        except LimiterError as error:
            self._cannot_go_on(error, ErrorClass.BUDGET, "the ledger of money")
        finally:
            impatience.cancel()
        await asyncio.sleep(0)  # the cancellation of this very task arrives here
        return None

    def _give_money_back(self) -> None:
        """Rows that are not sent need none."""
        for work in self._queue.waiting:
            if work.hold is not None:
                self._budget.release(work.hold)
                work.hold = None

    def _dearest_nano(self, work: Work) -> int:
        price = self._parts.price
        if price is None:
            return 0
        # a predicted count may be wrong; the bytes cannot be: no tokenizer makes more tokens than bytes
        exact = self._parts.tokens.exact
        input_tokens = max(work.cost.input_tokens, 0 if exact else work.input_bytes + work.image_tokens)
        return price.cost_nano(input_tokens, longest_answer(self._parts, work.cost))


def _until(error: StopRun) -> str:
    """The message, and until when it holds if that is known and not said."""
    until = error.until if isinstance(error, QuotaExhausted) else None
    if until is None:
        return str(error)
    said = f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return str(error) if said in str(error) else f"{error} (until {said})"
