"""The rows on their way to the calls: hands them out with limit and money, hears how they end, drains.

Belongs here: the limiter before each call, starting and stopping, one task per pool that waits for that pool's limit.
Not here: what a call may cost (money.py), one call and what follows (calls.py), pacing (limiter), the order of rows
(row_queue.py), which model is asked (tiers.py), how a pool fares (route.py), slices (slice_work.py).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

from batch_llm.clock import Alarm
from batch_llm.engine.calls import Calls
from batch_llm.engine.deadlines import Call, Deadlines
from batch_llm.engine.events import PoolClosed, Stopping
from batch_llm.engine.meter import Meter
from batch_llm.engine.money import Money
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.route import Route, of_use, routes_of, told_until
from batch_llm.engine.row_queue import Claim, RowQueue
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.tiers import LOOK_S, Tiers
from batch_llm.engine.window import AWAY_PATIENCE_S
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
from batch_llm.limiter.base import Budget, Cost, Hold, Reservation

__all__ = ["Pipeline", "Slices"]

HOLD_PATIENCE_S = 0.1  # what was reserved is given back when its money takes longer: others can use it


class Slices(Protocol):
    """Who looks after the slices whose rows are asked."""

    on_room: Callable[[], None]  # called when a slice was closed
    on_broken: Callable[[str, BaseException], None]  # called when one met what nobody foresaw

    def has_room(self) -> bool:
        """Whether rows may be read."""
        ...

    def idle(self, work: SliceWork) -> None:
        """All rows of this slice ended."""
        ...


class Pipeline:
    """Asks the rows of some slices; one use. Hears from its `Calls` how each ends."""

    def __init__(self, parts: JobParts, calling: Calling, budget: Budget, meter: Meter) -> None:
        """``budget`` knows what the run spent before."""
        self._calling = calling
        self._meter = meter
        self._clock = parts.clock
        self._tenant = parts.tenant
        self._queue = RowQueue(parts.clock)
        self.routes = routes_of(parts, calling, meter)
        if len(self.routes) > 1:
            for route in self.routes:
                route.claim = self._queue.claim(route.name)
        self.tiers = Tiers(self.routes, parts.clock, calling.tell)
        self._money = Money(parts, calling, budget, self.routes)
        self._calls = Calls(parts, calling, budget, meter)
        self._calls.outcomes = self
        self._feeder: asyncio.Task[None] | None = None
        self._servers: list[asyncio.Task[None]] = []  # one per pool
        self._home = asyncio.Event()  # set while no call is in flight
        self._home.set()
        self.stopped: ErrorClass | None = None
        self.stop_message = ""
        self._fatal: BaseException | None = None

    async def run(self, works: AsyncIterator[Work], slices: Slices) -> None:
        """Ask every row of ``works``; returns when none is in flight any more.

        ``slices`` hears of a slice whose rows all ended. Cancelling this drops what is in flight (its outcome is
        journalled as lost); `stop` drains. Whatever keeps rows from being read or answers from being stored is raised
        after what is in flight came home.
        """
        self._slices = slices
        slices.on_room, slices.on_broken = self._queue.wake, self._broken_by
        deadlines = asyncio.create_task(Deadlines(self.routes, self._clock).keep(self._calls.in_flight))
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
            self._money.release_late()
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
        for server in self._servers:
            server.cancel()

    @property
    def waits_for_money(self) -> bool:
        """Whether a row that could go waits for money."""
        return self._money.is_waited_for

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

    def stop_for(self, call: Call, error: StopRun) -> None:
        """See `Outcomes.stop_for`."""
        if self._close(call.route, error):
            self._queue.again(call.work, 0.0)

    def has_room_elsewhere(self, route: Route) -> bool:
        """See `Outcomes.has_room_elsewhere`."""
        now_s = self._clock.monotonic()
        others = (each for each in self.routes if each is not route)
        return any(not each.is_held_up(now_s) and self.tiers.takes_rows(each) for each in others)

    def broken(self, error: JournalError) -> None:
        """See `Outcomes.broken`."""
        self._broken_by(str(error), error)

    def _broken_by(self, message: str, error: BaseException) -> None:
        """`run` raises this when all calls are home; nothing more is paid for it."""
        self._fatal = self._fatal or error
        self.stop(ErrorClass.CANCELLED, message)

    def paid(self) -> None:
        """See `Outcomes.paid`."""
        self._money.tell_marks()

    # -- handing out -----------------------------------------------------------------------------------------------

    async def _feed(self, works: AsyncIterator[Work]) -> None:
        queue = self._queue
        reading = asyncio.create_task(queue.read(works, self._slices.has_room, self._ahead))
        reading.add_done_callback(lambda _: queue.wake())
        self._servers = [asyncio.create_task(self._serve(route, reading)) for route in self.routes]
        try:
            done, _ = await asyncio.wait(self._servers, return_when=asyncio.FIRST_COMPLETED)  # it ends for all at once
            for server in done:
                server.result()
        finally:
            for task in (reading, *self._servers):
                task.cancel()
            await asyncio.wait({reading, *self._servers})
            for server in self._servers:
                if not server.cancelled():
                    server.exception()  # told by the first of them

    def _ahead(self) -> int:
        """How many rows are read ahead of those that are sent."""
        return sum(route.window.wanted() for route in self.routes)

    async def _serve(self, route: Route, reading: asyncio.Task[None]) -> None:
        """Send rows to one pool until none is left for any."""
        queue, claim = self._queue, route.claim
        while not queue.is_empty or self._calls.in_flight:
            if reading.done():
                reading.result()  # what keeps rows from being read ends the run
            if claim is not None and not self.tiers.takes_rows(route):
                queue.give_back(claim)
                await self._clock.sleep(LOOK_S)
                continue
            room = route.room(self._clock.monotonic())
            rows = queue.listed(room, route.window.standing) if claim is None else self._claimed(route, claim, room)
            if rows:
                await self._launch(route, rows)
            else:
                await self._something_new(route)

    def _claimed(self, route: Route, claim: Claim, room: int) -> list[Work]:
        """Rows that wait for this pool, each with its form for the pool's model."""
        while True:
            listed = self._queue.claimed(room, claim, route.window.standing)
            rows = self.tiers.of_use(route, listed)
            if rows or not listed:
                return rows

    async def _something_new(self, route: Route) -> None:
        """Until a row may be sent; while the pool is away, until it is time to probe it again."""
        outage, now_s, alarm = route.window.outage, self._clock.monotonic(), None
        self._money.release_late()
        self._stop_if_stuck(now_s)
        if not route.is_open(now_s):
            alarm_s = route.opens_in_s(now_s)
            alarm = self._clock.call_later(alarm_s, self._queue.wake) if alarm_s < math.inf else None
        elif outage is not None and not route.meter.in_flight:
            if route.is_silent and all(each.is_silent for each in of_use(self.routes, self._queue.waiting, now_s)):
                self._give_up_waiting(outage.why)
                if self.stopped is None:
                    return
            if outage.probe_at_s > now_s:  # else it is a row that is missing
                alarm = self._clock.call_later(outage.probe_at_s - now_s, self._queue.wake)
        try:
            await self._queue.changed()
        finally:
            if alarm is not None:
                alarm.cancel()

    def _give_up_waiting(self, why: str) -> None:
        """Nobody was answered for long: the run stops; rows that all failed by themselves fail, as they would again."""
        failed = [(work, work.failure) for work in self._queue.waiting if work.failure is not None]
        if not self._queue.all_read or len(failed) < len(self._queue.waiting):
            minutes = AWAY_PATIENCE_S / 60
            self.stop(ErrorClass.CANCELLED, f"the provider has not answered for {minutes:.0f} minutes: {why}")
            return
        self._queue.clear()
        for work, failure in failed:
            self._calls.fail(work, failure.error_class, failure.message)

    def _stop_if_stuck(self, now_s: float) -> None:
        """Rows that only fit pools which are closed wait for nothing that this run could see."""
        closed = [route.closed for route in self.routes if route.closed is not None and not route.is_open(now_s)]
        if not closed or self._meter.in_flight:
            return
        asked = {route.name for route in self.tiers.taking() if route.is_open(now_s)}
        waiting = self._queue.waiting
        if waiting and all(asked <= work.fits_not for work in waiting):
            self.stop(closed[-1].error_class, told_until(closed[-1]))

    def _close(self, route: Route, error: StopRun) -> bool:
        """This pool cannot go on: whether others can. Else the run stops."""
        now_s = self._clock.monotonic()
        if not any(each.is_open(now_s) for each in self.routes if each is not route):
            self.stop(error.error_class, told_until(error))
            return False
        if route.closed is None or str(route.closed) != str(error):
            self._calling.tell(PoolClosed(route.name, told_until(error)))
        route.close(error, self._clock)
        if route.claim is not None:
            self._queue.give_back(route.claim)
        self._queue.wake()
        return True

    async def _launch(self, route: Route, rows: list[Work]) -> None:
        """Send those of these rows that the limit lets go now, in order, each with its money set aside."""
        granted = deque(zip(rows, await self._reserved(route, rows), strict=False))
        try:
            while granted:
                work, reservation = granted[0]
                if route.claim is not None and not self._is_ready(route, work, reservation):
                    route.limiter.release(granted.popleft()[1])
                    continue
                hold = self._money.hold_now(work) or await self._hold_patiently(route, work, granted)
                if hold is None:
                    return
                if not granted:  # the money came too late for what was reserved
                    self._money.keep(hold)
                    return
                if route.claim is not None and not self._taken(route, work, route.claim):
                    self._money.release(hold)
                    continue
                self._money.note_sent(work, hold)
                granted.popleft()
                if route.claim is None:
                    self._queue.sent(work)
                else:
                    self.tiers.sent(route, work)
                self._home.clear()
                self._calls.start(Call(work, route, reservation, hold, self._clock.monotonic()))
        finally:
            self._give_back(route, granted)

    def _is_ready(self, route: Route, work: Work, reservation: Reservation) -> bool:
        """Whether the row that this was reserved for still waits, as it was, and the pool still takes it.

        Then it asks the pool's model.
        """
        claim, form = route.claim, work.form(route.fallback)
        if claim is None:
            return True
        if form is None or form.cost != reservation.cost or not self._queue.waits(work, claim):
            return False
        if route.room(self._clock.monotonic()) <= 0 or not self.tiers.takes_rows(route):
            return False
        if work.fallback != route.fallback:
            work.become(route.fallback)
        return True

    def _taken(self, route: Route, work: Work, claim: Claim) -> bool:
        """The row is this pool's to send; False: another one has it, or a hand on it, since the money came."""
        return work.fallback == route.fallback and self._queue.take(work, claim)

    def _give_back(self, route: Route, granted: deque[tuple[Work, Reservation]]) -> None:
        while granted:
            route.limiter.release(granted.popleft()[1])

    async def _reserved(self, route: Route, rows: list[Work]) -> list[Reservation]:
        """For the first of these rows; none when the first one can never go there, or nothing may go any more."""
        costs = [work.cost for work in rows] if route.claim is None else _costs(route, rows)
        more = self._queue.more(0 if route.claim is not None else len(rows))
        try:
            return await route.limiter.reserve_next(self._tenant, costs, more=more)
        except NeverFits as error:
            self._fits_not(route, rows[0], error)
            return []
        except QuotaExhausted as error:
            if self._close(route, error):
                return []
        except LimiterError as error:
            self._cannot_go_on(error, ErrorClass.RATE_LIMITED, "the rate limiter")
        await asyncio.sleep(0)  # the cancellation of this very task arrives here
        return []

    def _fits_not(self, route: Route, work: Work, error: NeverFits) -> None:
        """The row is larger than this pool's limit: it fails when no other pool of the job's model can take it."""
        work.fits_not |= {route.name}
        if route.claim is not None:
            if any(each.name not in work.fits_not for each in self.routes if not each.tier):
                self._queue.wake()
                return
            if not self._queue.take(work, route.claim):
                return
        else:
            self._queue.sent(work)
        self._calls.fail(work, ErrorClass.TOO_LARGE, str(error), outline=str(error))

    def _cannot_go_on(self, error: LimiterError, error_class: ErrorClass, what: str) -> None:
        """Stop resumably; but what never worked is the caller's own error, and nothing was spent."""
        if not self._meter.requests:
            raise error
        self.stop(error_class, f"{what} cannot go on: {error}")

    async def _hold_patiently(self, route: Route, work: Work, granted: deque[tuple[Work, Reservation]]) -> Hold | None:
        """Wait while money may come back, from calls in flight or other processes; meanwhile others use the limit."""
        impatience: Alarm = self._clock.call_later(HOLD_PATIENCE_S, lambda: self._give_back(route, granted))
        try:
            return await self._money.hold(work)
        except BudgetExhausted as error:
            if route.claim is not None and not self._queue.waits(work, route.claim):
                return None  # another pool sent it meanwhile
            if halves := work.halves(error.error_class):
                self._queue.replace(work, halves)  # for some of its rows there may be enough
                return None
            if error.of_run:
                self._money.tell_used_up()
            self.stop(ErrorClass.BUDGET, str(error))
        except LimiterError as error:
            self._cannot_go_on(error, ErrorClass.BUDGET, "the ledger of money")
        finally:
            impatience.cancel()
        await asyncio.sleep(0)  # the cancellation of this very task arrives here
        return None


def _costs(route: Route, rows: list[Work]) -> list[Cost]:
    """What rows take of this pool's limit, of its model; for each its form is made."""
    return [form.cost for work in rows if (form := work.form(route.fallback)) is not None]
