"""The rate limiter of one process: it leases slices of the pool's schedule and lets rows out inside them.

Belongs here: the `RateLimiter` protocol: waiting, cancelling, ending a reservation. Not here: which rows fit a slice
(pacing.py), what is asked of the schedule and when (lease_demand.py, lease_caller.py), the schedule (schedule.py).

Waiting requests of one tenant stand in one queue, first come first served. There is no task per request: one timer per
tenant sleeps until the first may go, one task per limiter speaks with the schedule. No wall clock of this process
matters.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from types import TracebackType

from batch_llm.clock import Clock
from batch_llm.errors import LimiterError, NeverFits
from batch_llm.limiter.base import Cost, Limits, PoolState, Reservation, Schedule, Tenant, Throttle
from batch_llm.limiter.debit import is_corrected
from batch_llm.limiter.lease_caller import Caller
from batch_llm.limiter.lease_demand import MUCH_S, ask_at_s, is_short_of_permits, keep_more, much_s
from batch_llm.limiter.lease_line import DEGRADED, Leased, Line, Waiter
from batch_llm.limiter.lease_pool import LeasedPool, LeasingOptions
from batch_llm.limiter.lease_replies import GATHER_S, fail, quota_exhausted, take_throttle
from batch_llm.limiter.memory import SEPARATOR
from batch_llm.limiter.pacing import is_to_come, put_back, ready_at_s, take
from batch_llm.limiter.wire import CLOCK

__all__ = ["LeasingOptions", "LeasingRateLimiter"]

MINUTE_S = 60.0
TELL_EVERY_S = 0.02  # large refunds and debts of a line are told at most so often
LEAST_BREAK_S = 0.001  # between two wake-ups of a line
BREAK_SHARE = 0.6  # of the slack that late alarms leave; the rest is for one that is later than those before it
LATENESS_KEPT = 0.98  # per wake-up: how fast a late one is forgotten


class LeasingRateLimiter:
    """Implements `RateLimiter` on top of any `Schedule`, for one pool, in one event loop.

    An async context manager; `aclose` hands back what is not used. The schedule stays open: who made it closes it.
    """

    def __init__(self, limits: Limits, schedule: Schedule, clock: Clock, options: LeasingOptions | None = None) -> None:
        """Raises `LimiterError` for a limit that is no positive number; speaks with nobody yet."""
        self._clock = clock
        self._pool = LeasedPool(limits, clock, options or LeasingOptions())
        self._pace = self._pool.pace
        self._lines = self._pool.lines
        self._caller = Caller(self._pool, schedule, self._let_go)
        self._used = self._pace.measures.used
        self._refunds_rejected = is_corrected(limits)  # else a refund after its time would be minted
        self._slack_s = self._pool.options.slack_s * self._pool.factor
        self._lateness_s = 0.0  # of the alarms, lately

    async def __aenter__(self) -> LeasingRateLimiter:
        """See `open`."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `aclose`."""
        await self.aclose()

    async def open(self) -> None:
        """Bind to the running event loop; the first call is made for the first request."""
        self._caller.start()

    async def aclose(self) -> None:
        """Hand back everything in a last call, within a second; who still waits gets a `LimiterError`."""
        closed = LimiterError(f"the limiter of pool {self._pool.limits.pool} was closed while requests waited")
        for line in self._lines.values():
            fail(line, closed)
            _disarm(line)
        await self._caller.close()

    # -- the protocol -------------------------------------------------------------------------------------------------

    async def reserve(self, tenant: Tenant, cost: Cost) -> Reservation:
        """See `RateLimiter.reserve`."""
        return (await self._rows(tenant, (cost,), more=False))[0]

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        """See `RateLimiter.reserve_next`."""
        if not costs:
            raise LimiterError("reserve_next needs at least one row")
        return await self._rows(tenant, costs, more=more)

    def settle(self, reservation: Reservation, actual: Cost) -> None:
        """See `RateLimiter.settle`; a reservation that is not open raises `LimiterError` and changes nothing."""
        row = self._end(reservation)
        line, reserved = row.line, row.amounts
        used = self._used(reserved, actual)
        if row.epoch == self._pace.epoch:
            saved_s = line.count_ended(reserved, used)
            if line.tell_at_s == math.inf and abs(saved_s) > MUCH_S:
                self._tell(line, saved_s)
        elif row.epoch == DEGRADED:  # what was reserved, the time of the outage has paid
            for place, amount in enumerate(reserved):
                line.used[place] += max(0.0, used[place] - amount)
        line.in_flight -= 1
        if line.permits >= 0:
            self._freed(line)
        if self._caller.rests:
            self._caller.report_soon()

    def release(self, reservation: Reservation) -> None:
        """See `RateLimiter.release`; a reservation that is not open raises `LimiterError` and changes nothing."""
        row = self._end(reservation)
        if row.epoch == self._pace.epoch:
            put_back(row.line, row, self._clock.monotonic())
        self._after_end(row.line)
        self._let_go(row.line)

    def throttled(self, reservation: Reservation, throttle: Throttle) -> None:
        """See `RateLimiter.throttled`. The request stays counted, as providers do; its tokens do not."""
        row = self._end(reservation)
        line = row.line
        now_s = self._clock.monotonic()
        if row.epoch == self._pace.epoch:
            refunded = self._refunds_rejected or is_to_come(line, row, now_s)
            taken = self._pace.measures.rejected(row.amounts) if refunded else row.amounts
            for place, amount in enumerate(row.amounts):
                line.done[place] += amount
                line.used[place] += taken[place]
        take_throttle(self._pool, row, throttle, now_s)
        self._caller.start()
        self._caller.nudge(now_s)
        for each in list(self._lines.values()):
            self._let_go(each)
        self._after_end(line)

    def observe(self, headers: Mapping[str, str]) -> None:
        """See `RateLimiter.observe`."""
        self._pool.headers.observe(headers, self._pool.limits_per_s, self._clock.monotonic())

    def state(self) -> PoolState:
        """See `RateLimiter.state`."""
        pool, now_s = self._pool, self._clock.monotonic()
        per_minute = {
            rule.name: round(rate * MINUTE_S, 6)
            for rule, rate in zip(pool.rules, self._pace.rates, strict=True)
            if rule.kind == CLOCK
        }
        waiting = sum(line.rows_waiting() for line in self._lines.values())
        paused_for_s = max(0.0, self._pace.paused_until_s - now_s)
        return PoolState(
            pool=pool.limits.pool,
            requests_per_minute=per_minute.get("requests"),
            tokens_per_minute=per_minute.get("tokens"),
            waiting=waiting,
            paused_for_s=paused_for_s,
            binding=self._binding(paused_for_s) if waiting else None,
            why=pool.outage.why or (self._why_paused(paused_for_s) if paused_for_s else ""),
            input_tokens_per_minute=per_minute.get("input_tokens"),
            output_tokens_per_minute=per_minute.get("output_tokens"),
        )

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def _rows(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool) -> list[Reservation]:
        line = self._line_of(tenant)
        now_s = self._clock.monotonic()
        self._refuse(costs[0], now_s)
        if not line.waiters and now_s >= line.woke_s + self._break_s():
            rows = take(line, costs, now_s)
            if rows:
                line.idle_from_s = now_s
                if len(rows) < len(costs):
                    line.woke_s = now_s  # the next ones leave together as well
                if more:
                    keep_more(line, now_s)
                    self._caller.nudge(ask_at_s(line, now_s))
                return rows
        self._caller.start()
        waiter = Waiter(costs, asyncio.get_running_loop().create_future(), more=more)
        line.waiters.append(waiter)
        line.covered = False
        line.arrivals += 1
        self._arm(line, now_s)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._leave(line, waiter)
            raise

    def _line_of(self, tenant: Tenant) -> Line:
        if self._caller.closed:
            raise LimiterError(f"the limiter of pool {self._pool.limits.pool} is closed")
        line = self._lines.get(tenant)
        if line is None:
            for what, name in (("user", tenant.user), ("job", tenant.job)):
                if SEPARATOR in name:
                    raise LimiterError(f"the name of a {what} must not contain the character {SEPARATOR!r}: {name!r}")
            limited = self._pool.limits.max_concurrency is not None
            line = self._lines[tenant] = Line(tenant, self._pace, self, limited=limited)
        return line

    def _refuse(self, cost: Cost, now_s: float) -> None:
        """Raise for a row that no wait, or only a very long one, would help."""
        amounts = self._pace.measures.reserved(cost)
        for place, (amount, most) in enumerate(zip(amounts, self._pace.most, strict=True)):
            if amount > most:
                rule, limits = self._pool.rules[place], self._pool.limits
                name = rule.name.removesuffix("_per_day").replace("_", " ")
                raise NeverFits(
                    f"this request needs {amount:,.0f} {name}, but pool {limits.pool} allows {most:,.0f} per "
                    f"{'minute' if rule.kind == CLOCK else 'day'}: it would wait for ever. Shorten the row or lower "
                    f"params.max_output_tokens (the pool debits {limits.debit})."
                )
        if now_s < self._pace.paused_until_s:
            error = quota_exhausted(self._pool, self._pool.pause_dimension, self._pace.paused_until_s - now_s)
            if error is not None:
                raise error

    def _let_go(self, line: Line) -> None:
        """Let out every waiting row that may go now, then wait for the next."""
        waiters, now_s = line.waiters, self._clock.monotonic()
        if not waiters:
            return
        while waiters:
            waiter = waiters[0]
            if not waiter.future.done():
                rows = take(line, waiter.costs, now_s)
                if not rows:
                    break
                waiter.future.set_result(rows)
                if len(rows) < len(waiter.costs):
                    line.woke_s = now_s
                if waiter.more:
                    keep_more(line, now_s)
            waiters.popleft()
        if waiters:
            self._arm(line, now_s)
        else:
            line.idle_from_s = now_s
            _disarm(line)
            self._caller.nudge(ask_at_s(line, now_s))

    def _arm(self, line: Line, now_s: float) -> None:
        """Keep one timer for the first waiting row; tell the caller when that needs a booking."""
        ready_s = ready_at_s(line, line.waiters[0].costs[0])
        if ready_s == math.inf and line.slices:
            line.covered = False  # what it holds has no time left for this row
        self._caller.nudge(ask_at_s(line, now_s))
        at_s = max(ready_s, line.woke_s + self._break_s())
        if line.alarm is not None:
            if line.alarm_at_s <= at_s:  # it rings in time, or early and then waits again
                return
            _disarm(line)
        if at_s < math.inf:
            line.alarm_at_s = at_s
            line.alarm = self._clock.call_later(at_s - now_s, lambda: self._ring(line))

    def _ring(self, line: Line) -> None:
        now_s = self._clock.monotonic()
        self._lateness_s = max(self._lateness_s * LATENESS_KEPT, now_s - line.alarm_at_s)
        line.woke_s = now_s
        line.alarm, line.alarm_at_s = None, math.inf
        self._let_go(line)

    def _break_s(self) -> float:
        """How long a line sleeps at least: a wake-up costs as much as 50 rows, so rows leave together.

        As long as the slack allows with alarms as late as they are here and now, so that no time is lost.
        """
        return max(LEAST_BREAK_S * self._pool.factor, BREAK_SHARE * (self._slack_s - self._lateness_s))

    def _leave(self, line: Line, waiter: Waiter) -> None:
        """A wait was cancelled: give back what was just granted, or leave the queue."""
        future = waiter.future
        if future.done() and not future.cancelled():
            if future.exception() is None:
                for row in future.result():
                    self.release(row)
            return
        if not future.done():
            future.cancel()
        self._let_go(line)

    # -- ending -------------------------------------------------------------------------------------------------------

    def _end(self, reservation: Reservation) -> Leased:
        if not isinstance(reservation, Leased) or not reservation.is_open or reservation.line.owner is not self:
            raise LimiterError("this reservation was settled or released before, or belongs to another limiter")
        reservation.is_open = False
        return reservation

    def _tell(self, line: Line, saved_s: float) -> None:
        """What this line gives back, or took too much, is so much that others should know."""
        if abs(saved_s) > much_s(line):
            line.tell_at_s = max(self._clock.monotonic(), line.reported_at_s + TELL_EVERY_S)
            self._caller.nudge(line.tell_at_s)

    def _after_end(self, line: Line) -> None:
        line.in_flight -= 1
        if line.permits >= 0:
            self._freed(line)
        if self._caller.rests:
            self._caller.report_soon()

    def _freed(self, line: Line) -> None:
        """A permit is free: for the next row of this line, else to be handed back."""
        line.ended += 1
        if line.in_flight >= line.permits:  # it belongs to others now
            line.permits_at_s = min(line.permits_at_s, self._clock.monotonic() + GATHER_S)
        if line.waiters:
            self._let_go(line)
        elif line.free_from_s == math.inf:
            line.free_from_s = self._clock.monotonic()
            self._caller.nudge(line.free_from_s)

    # -- to be seen ---------------------------------------------------------------------------------------------------

    def _binding(self, paused_for_s: float) -> str | None:
        pool = self._pool
        if pool.outage.is_on:
            return "unreachable"
        if paused_for_s > 0:
            place = pool.pause_dimension
            return pool.name_of(place) if pool.is_of_a_day(place) else "pause"
        line = next(line for line in self._lines.values() if line.rows_waiting())
        if is_short_of_permits(line) or not pool.rules:
            return "concurrency"
        if line.binding is not None and line.binding >= 0:
            return pool.rules[line.binding].name
        amounts = self._pace.measures.reserved(next(w for w in line.waiters if not w.future.done()).costs[0])
        seconds = [amount / rule.per_s for amount, rule in zip(amounts, pool.rules, strict=True)]
        return pool.rules[seconds.index(max(seconds))].name

    def _why_paused(self, paused_for_s: float) -> str:
        place = self._pool.pause_dimension
        what = "429: too many requests"
        if self._pool.is_of_a_day(place):
            what = f"that its {self._pool.name_of(place).replace('_per_day', ' per day')} are used up"
        return f"the provider said {what}; pool {self._pool.limits.pool} pauses for {paused_for_s:.0f} s"


def _disarm(line: Line) -> None:
    if line.alarm is not None:
        line.alarm.cancel()
        line.alarm, line.alarm_at_s = None, math.inf
