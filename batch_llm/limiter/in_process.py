"""The rate limiter inside one process.

Belongs here: who may start when, and the order. Not here: the arithmetic of one rate (rate_clock.py), what a request
takes (debit.py), reactions to the provider (adaptation.py), several processes (the shared limiter).

Waiting requests stand in one queue, first come first served, and have booked nothing: a cancelled wait costs nobody.
One timer, for the head of the queue, sleeps exactly until it may start. Everything runs in one event loop's thread.
Invariant: in any window of t seconds at most rate * (t + max(burst, slack)) + one row start, per dimension, plus what
corrections refunded in it. The slack is `TIMER_SLACK_S`; with several limits a row may be the largest one (`PLAY_S`).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from batch_llm.clock import Clock
from batch_llm.errors import LimiterError, NeverFits
from batch_llm.limiter.adaptation import Adaptation
from batch_llm.limiter.base import Cost, Limits, PoolState, Reservation, Tenant, Throttle
from batch_llm.limiter.debit import DIMENSIONS, amounts_of, declared_limits, is_corrected
from batch_llm.limiter.rate_clock import MINUTE_S, Charge, RateClock
from batch_llm.limiter.schedule_file import ScheduleFile

__all__ = ["InProcessRateLimiter"]

TIMER_SLACK_S = 0.005
"""A start that comes at most this much too late is counted at its planned time, so that the schedule does not slip.
asyncio's timers wake 0.2-2 ms late (measured), which would cost 10-50 % of 1,000 rows per second; a longer stall is not
caught up. Five milliseconds of the rate is far below any provider's smallest window (1 s)."""
EPSILON_S = 1e-9  # floating point only
PLAY_S = 0.25
"""A quarter of the shortest window in which a provider is known to count: so much of a refund a waiting row may use at
once where the provider counts what was really used, and so far rows of different sizes may shift against each other
where several limits hold at once."""
RESTART_S = 0.05  # no process is replaced faster than this, so a schedule that ends sooner need not be stored
LONGEST_DEBT_S = 120.0  # how far ahead a stored schedule is believed, seconds
LONGEST_STORED_PAUSE_S = 3600.0


class _Waiter:
    """One request in the queue."""

    __slots__ = ("amounts", "cost", "future", "tenant")

    def __init__(self, tenant: Tenant, cost: Cost, amounts: list[float], future: asyncio.Future[Reservation]) -> None:
        self.tenant = tenant
        self.cost = cost
        self.amounts = amounts
        self.future = future


class InProcessRateLimiter:
    """Lets the requests of one process out at the speed of one pool's limit; implements `RateLimiter`.

    With a ``schedule_path`` the schedule outlives the process. Use it from one event loop; `close` when done.
    """

    def __init__(self, limits: Limits, clock: Clock, schedule_path: Path | None = None) -> None:
        """``schedule_path``: a file that only one process uses at a time, read at the first reservation."""
        self._limits = limits
        self._clock = clock
        self._lateness_s = TIMER_SLACK_S * getattr(clock, "factor", 1.0)  # a scaled clock's lateness is scaled too
        self._slack_s = max(0.0, self._lateness_s - limits.burst_s)  # a burst absorbs lateness itself
        self._places = list(declared_limits(limits))
        self._clocks = self._new_clocks()
        self._pairs = list(enumerate(self._clocks))
        self._adaptation = Adaptation(self._clocks, unknown=limits.unknown)
        self._corrected = is_corrected(limits)
        self._credit_s = PLAY_S if limits.debit == "actual" else math.inf
        self._file = ScheduleFile(schedule_path) if schedule_path is not None else None
        self._started = False
        self._open: dict[int, tuple[Reservation, list[Charge]]] = {}  # by id(): equal reservations are not the same
        self._queue: OrderedDict[_Waiter, None] = OrderedDict()
        self._timer: asyncio.Task[None] | None = None
        self._timer_at_s = math.inf

    # -- the protocol -------------------------------------------------------------------------------------------------

    async def reserve(self, tenant: Tenant, cost: Cost) -> Reservation:
        """See `RateLimiter.reserve`."""
        if not self._started:
            self._start()
        amounts = self._amounts(cost)
        self._refuse_what_never_fits(amounts)
        if not self._queue:
            now_s = self._clock.monotonic()
            if self._ready_at_s(amounts) <= now_s + EPSILON_S:
                return self._grant(now_s, tenant, cost, amounts)
        future: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(tenant, cost, amounts, future)
        self._queue[waiter] = None
        if len(self._queue) == 1:
            self._arm()
        try:
            return await future
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def settle(self, reservation: Reservation, actual: Cost) -> None:
        """See `RateLimiter.settle`; a reservation that is not open raises `LimiterError` and changes nothing."""
        charges = self._end(reservation)
        self._adaptation.answered(reservation.granted_at_s)
        now_s = self._clock.monotonic()
        if self._corrected and self._correct(now_s, charges, actual):
            self._save(now_s)
        if self._queue:
            self._let_go(now_s)
        if self._corrected:
            for clock in self._clocks:
                clock.settle_credit(now_s)

    def release(self, reservation: Reservation) -> None:
        """See `RateLimiter.release`; a reservation that is not open raises `LimiterError` and changes nothing."""
        charges = self._end(reservation)
        now_s = self._clock.monotonic()
        for clock, charge in zip(self._clocks, charges, strict=True):
            clock.give_back(now_s, charge)
        if self._queue:
            self._let_go(now_s)

    def throttled(self, reservation: Reservation, throttle: Throttle) -> None:
        """See `RateLimiter.throttled`. The request stays counted, as providers do; its tokens do not."""
        charges = self._end(reservation)
        now_s = self._clock.monotonic()
        for clock, charge in zip(self._clocks, charges, strict=True):
            if clock.name != "requests":
                clock.give_back(now_s, charge)
        self._adaptation.throttled(now_s, reservation.granted_at_s, throttle)
        self._save(now_s)
        if self._queue:
            self._let_go(now_s)

    def observe(self, headers: Mapping[str, str]) -> None:
        """See `RateLimiter.observe`. A declared limit is never raised, whatever the headers say."""
        if not self._started:
            self._start()
        now_s = self._clock.monotonic()
        self._adaptation.observe(now_s, headers)
        if self._queue:
            self._let_go(now_s)

    def state(self) -> PoolState:
        """See `RateLimiter.state`."""
        now_s = self._clock.monotonic()
        per_minute = {clock.name: round(clock.rate * MINUTE_S, 6) for clock in self._clocks}
        return PoolState(
            pool=self._limits.pool,
            requests_per_minute=per_minute.get("requests"),
            tokens_per_minute=per_minute.get("tokens"),
            waiting=len(self._queue),
            paused_for_s=max(0.0, self._adaptation.paused_until_s - now_s),
            binding=self._binding(now_s),
        )

    def close(self) -> None:
        """Close the schedule's file. Waiting requests go on waiting."""
        if self._file is not None:
            self._file.close()

    # -- the schedule -------------------------------------------------------------------------------------------------

    def _new_clocks(self) -> list[RateClock]:
        limits = self._limits
        try:
            clocks = [
                RateClock(
                    DIMENSIONS[place],
                    per_minute,
                    burst_s=limits.burst_s,
                    slack_s=self._slack_s,
                    window_s=limits.window_s,
                )
                for place, per_minute in declared_limits(limits).items()
            ]
        except ValueError as error:
            raise LimiterError(f"pool {limits.pool}: {error}") from error
        if len(clocks) > 1:
            for clock in clocks:
                clock.early_s = PLAY_S
        return clocks

    def _start(self) -> None:
        """Begin the schedule, or go on with the stored one."""
        self._started = True
        now_s = self._clock.monotonic()
        for clock in self._clocks:
            clock.start(now_s)
        stored = self._file.load() if self._file is not None else None
        if stored is None:
            return
        offset_s = now_s - self._clock.now().timestamp()
        *ready_at, paused_until = stored
        for place, clock in zip(self._places, self._clocks, strict=True):
            if math.isfinite(ready_at[place]):
                clock.hold_until(min(ready_at[place] + offset_s, now_s + LONGEST_DEBT_S))
        if math.isfinite(paused_until):
            self._adaptation.paused_until_s = min(paused_until + offset_s, now_s + LONGEST_STORED_PAUSE_S)

    def _save(self, now_s: float) -> None:
        """Store the schedule, unless it will be over before another process can read it."""
        if self._file is None:
            return
        paused_until_s = self._adaptation.paused_until_s
        ends_at_s = max((clock.ready_at_s + clock.burst_s for clock in self._clocks), default=-math.inf)
        if max(ends_at_s, paused_until_s) < now_s + RESTART_S:
            return
        offset_s = self._clock.now().timestamp() - now_s
        times = [-math.inf] * len(DIMENSIONS)
        for place, clock in zip(self._places, self._clocks, strict=True):
            times[place] = clock.ready_at_s + offset_s
        self._file.save((*times, paused_until_s + offset_s))

    def _amounts(self, cost: Cost) -> list[float]:
        amounts = amounts_of(self._limits, cost)
        return [amounts[place] for place in self._places]

    def _refuse_what_never_fits(self, amounts: list[float]) -> None:
        for number, clock in self._pairs:
            if amounts[number] > clock.per_minute:
                limit = self._adaptation.exceeded_limit(clock.name, amounts[number])
                if limit is not None:
                    raise NeverFits(
                        f"this request needs {amounts[number]:,.0f} {clock.name.replace('_', ' ')}, but pool "
                        f"{self._limits.pool} allows {limit:,.0f} per minute: it would wait for ever. Shorten the row "
                        f"or lower params.max_output_tokens (the pool debits {self._limits.debit})."
                    )

    def _ready_at_s(self, amounts: list[float]) -> float:
        """When a request of these amounts may start; infinite while every permit is taken."""
        most = self._limits.max_concurrency
        if most is not None and len(self._open) >= most:
            return math.inf
        ready_at_s = self._adaptation.paused_until_s
        for number, clock in self._pairs:
            if clock.ready_at_s > ready_at_s and amounts[number] > 0:
                ready_at_s = max(ready_at_s, clock.ready_for(amounts[number]))
        return ready_at_s

    def _grant(self, now_s: float, tenant: Tenant, cost: Cost, amounts: list[float]) -> Reservation:
        """Start a request that is ready: every clock goes on from the start of the request, not from now."""
        planned_s = max(self._ready_at_s(amounts), now_s - self._slack_s)
        start_s = min(planned_s, now_s)
        charges = [clock.take(start_s, amounts[number]) for number, clock in self._pairs]
        self._adaptation.granted(now_s, waiting=bool(self._queue))
        reservation = Reservation(tenant, cost, now_s)
        self._open[id(reservation)] = (reservation, charges)
        if self._file is not None:
            self._save(now_s)
        return reservation

    def _correct(self, now_s: float, charges: list[Charge], actual: Cost) -> bool:
        """Follow what was used; a request that was sent stays counted. True: some clock moved forward."""
        used = (0.0, actual.input_tokens + actual.output_tokens, actual.input_tokens, actual.output_tokens)
        debt_s = 0.0
        for number, clock in self._pairs:
            if clock.name != "requests":
                debt_s += clock.correct(now_s, charges[number], used[self._places[number]], self._credit_s)
        return debt_s > 0

    def _end(self, reservation: Reservation) -> list[Charge]:
        known = self._open.pop(id(reservation), None)
        if known is None:
            raise LimiterError("this reservation was settled or released before, or belongs to another limiter")
        return known[1]

    # -- the queue ----------------------------------------------------------------------------------------------------

    def _let_go(self, now_s: float) -> None:
        """Start every request at the head of the queue that is ready, then wait for the next."""
        queue = self._queue
        while queue:
            waiter = next(iter(queue))
            if not waiter.future.done():
                if self._ready_at_s(waiter.amounts) > now_s + EPSILON_S:
                    break
                waiter.future.set_result(self._grant(now_s, waiter.tenant, waiter.cost, waiter.amounts))
            del queue[waiter]
        self._arm()

    def _arm(self) -> None:
        """Keep one timer for the head of the queue, none without a queue."""
        if not self._queue:
            self._disarm()
            return
        at_s = self._ready_at_s(next(iter(self._queue)).amounts)
        if at_s == math.inf:  # every permit is taken: the end of a request wakes the queue
            return
        if self._timer is not None:
            if at_s > self._timer_at_s - self._lateness_s / 2:  # it rings in time, or early and then waits again
                return
            self._disarm()
        delay_s = max(0.0, at_s - self._clock.monotonic())
        self._timer_at_s = at_s
        self._timer = asyncio.get_running_loop().create_task(self._clock.sleep(delay_s))
        self._timer.add_done_callback(self._ring)

    def _ring(self, timer: asyncio.Task[None]) -> None:
        if timer is self._timer:
            self._timer = None
            self._timer_at_s = math.inf
            if not timer.cancelled():
                timer.result()
                self._let_go(self._clock.monotonic())

    def _disarm(self) -> None:
        if self._timer is not None:
            timer, self._timer, self._timer_at_s = self._timer, None, math.inf
            timer.cancel()

    def _leave(self, waiter: _Waiter) -> None:
        """A wait was cancelled: give back what was just granted, or leave the queue."""
        if waiter.future.done() and not waiter.future.cancelled():
            self.release(waiter.future.result())
            return
        self._queue.pop(waiter, None)
        self._let_go(self._clock.monotonic())

    def _binding(self, now_s: float) -> str | None:
        if not self._queue:
            return None
        if self._adaptation.paused_until_s > now_s:
            return "pause"
        amounts = next(iter(self._queue)).amounts
        if self._ready_at_s(amounts) == math.inf:
            return "concurrency"
        ready_at_s = {
            clock.name: clock.ready_for(amounts[number]) for number, clock in self._pairs if amounts[number] > 0
        }
        return max(ready_at_s, key=ready_at_s.__getitem__, default=None)
