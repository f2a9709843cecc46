"""The one background task of a process's limiter: it speaks with the pool's schedule.

Belongs here: when a call is made and what is in it. Not here: what one tenant asks (lease_demand.py), what a reply
changes (lease_replies.py), going on without a store (lease_outage.py).

Tenants that are due within 2 ms share a call. Nothing is polled: the task sleeps until a slice begins, until a refused
question may be asked again, or until the next sign of life.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from uuid import uuid4

from batch_llm.errors import LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter.base import Schedule
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.lease_demand import (
    Question,
    ask_at_s,
    hand_back_at_s,
    has_demand,
    is_short_of_permits,
    item_of,
    question_of,
    take_back,
)
from batch_llm.limiter.lease_line import EPSILON_S, Line
from batch_llm.limiter.lease_pool import LeasedPool
from batch_llm.limiter.lease_replies import HEARTBEAT_S, Asked, apply_reply, fail
from batch_llm.limiter.pacing import hand_back
from batch_llm.limiter.wire import FIXED, Call, Item, Reply

__all__ = ["Caller"]

COALESCE_S = 0.002
REPORT_EVERY_S = 0.1  # what ended rides along with others' questions not more often than this
CLOSE_S = 1.0
ZONE_EVERY_S = 3600.0  # how often the provider's midnight is looked up: daylight saving time
FORGET_S = 600.0  # a tenant without work is forgotten


class Caller:
    """Makes the calls of one limiter, in one event loop, from the first `start` to `close`."""

    def __init__(self, pool: LeasedPool, schedule: Schedule, let_go: Callable[[Line], None]) -> None:
        """``let_go``: something changed for this line; let out what may go now."""
        self._pool = pool
        self._schedule = schedule
        self._let_go = let_go
        self._worker = uuid4().hex
        self._task: asyncio.Task[None] | None = None
        self._asleep: asyncio.Future[None] | None = None
        self._sleeps_until_s = -math.inf
        self._called_s = -math.inf
        self._retry_s = -math.inf
        self._zone_at_s = pool.clock.monotonic()
        self.closed = False
        self.rests = False  # nothing is to be done until something happens

    def start(self) -> None:
        """Begin to make calls, if that did not happen yet."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    def nudge(self, at_s: float) -> None:
        """A call is due at ``at_s``, perhaps earlier than the task knows."""
        if at_s < self._sleeps_until_s and self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(None)

    def report_soon(self) -> None:
        """Something ended while nothing was to be done: the next sign of life tells it."""
        self.rests = False
        self.nudge(self._pool.clock.monotonic())

    async def close(self) -> None:
        """Hand everything back in a last call, within a second; an unreachable store is no error."""
        self.closed = True
        task, self._task = self._task, None
        if task is None:
            return
        self.nudge(-math.inf)
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.wait({task})
                await self._call_last()
        except (TimeoutError, LimiterError):
            pass  # its slices pass by and its permits expire: what a killed process costs
        finally:
            task.cancel()

    # -- when ---------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        clock = self._pool.clock
        while not self.closed:
            now_s = clock.monotonic()
            at_s = self._next_call_s(now_s)
            if at_s > now_s + EPSILON_S:
                await self._sleep_until(at_s, now_s)
            else:
                await self._call_what_is_due(now_s)

    def _next_call_s(self, now_s: float) -> float:
        if self._retry_s > now_s + EPSILON_S:
            return self._retry_s
        if self._pool.throttles:
            return now_s
        at_s, alive = math.inf, False
        for line in self._pool.lines.values():
            due_s = ask_at_s(line, now_s) if has_demand(line, now_s) else hand_back_at_s(line, now_s)
            at_s = min(at_s, due_s, line.tell_at_s)
            alive = alive or bool(line.slices or line.waiters) or line.permits > 0 or _has_report(line)
        alive = alive or self._pool.outage.is_on
        return min(at_s, self._called_s + HEARTBEAT_S) if alive else at_s

    async def _sleep_until(self, at_s: float, now_s: float) -> None:
        self._asleep = asyncio.get_running_loop().create_future()
        self._sleeps_until_s = at_s
        self.rests = at_s == math.inf
        alarm = self._pool.clock.call_later(at_s - now_s, lambda: self.nudge(-math.inf)) if at_s < math.inf else None
        try:
            await self._asleep
        finally:
            self._sleeps_until_s = -math.inf
            self.rests = False
            if alarm is not None:
                alarm.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect must not let rows wait for ever."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._task = None
            for line in self._pool.lines.values():
                fail(line, error)

    # -- what ---------------------------------------------------------------------------------------------------------

    async def _call_what_is_due(self, now_s: float) -> None:
        pool = self._pool
        if self._let_due_go(now_s):
            await asyncio.sleep(0)  # until their consumers are back with the rows that follow
            now_s = pool.clock.monotonic()
        beating = now_s + EPSILON_S >= self._called_s + HEARTBEAT_S
        items: list[Item] = []
        asked: list[Asked] = []
        for line in list(pool.lines.values()):
            wants = has_demand(line, now_s)
            question = self._question(line, now_s) if wants else None
            returned = not wants and hand_back_at_s(line, now_s) <= now_s + COALESCE_S
            if returned:
                hand_back(line, now_s, begun=True)
            if question is not None or _is_due(line, now_s, returned=returned):
                items.append(item_of(line, now_s, question))
                asked.append((line, question is not None, line.arrivals))
            elif beating:
                self._forget(line, now_s)
        if items or beating or pool.throttles:
            await self._call(items, asked, now_s)

    def _let_due_go(self, now_s: float) -> bool:
        """Let out what goes in this very moment, so that it is not listed as waiting. True: some may have gone."""
        due = [line for line in self._pool.lines.values() if line.alarm_at_s <= now_s + EPSILON_S]
        for line in due:
            self._let_go(line)
        return bool(due)

    def _question(self, line: Line, now_s: float) -> Question | None:
        """What a line asks for in this call; a refund is a reason to ask again at once."""
        soon_s = now_s + COALESCE_S
        refunded = line.tell_at_s <= soon_s and bool(line.waiters) and not line.covered
        if ask_at_s(line, now_s) > soon_s and not refunded:
            return None
        question = question_of(line, now_s)
        line.covered = question is None and not is_short_of_permits(line)
        line.met = line.met and question is None
        return question

    async def _call(self, items: list[Item], asked: list[Asked], now_s: float) -> None:
        pool = self._pool
        call = self._new_call(items, now_s)
        throttles, pool.throttles = pool.throttles, {}
        self._called_s = now_s
        try:
            reply = Reply.from_wire(await self._schedule.call(call.to_wire()))
        except (LimiterUnreachable, LimiterStoreError) as error:
            for (line, _, _), item in zip(asked, items, strict=True):
                take_back(line, item)
            for place, (count, wait_s) in throttles.items():
                pool.note_throttle(place, count, wait_s)
            self._failed(error)
            return
        concerns_all = apply_reply(pool, asked, reply, pool.clock.monotonic())
        for line in list(pool.lines.values()) if concerns_all else [line for line, _, _ in asked]:
            self._let_go(line)

    def _new_call(self, items: list[Item], now_s: float) -> Call:
        pool = self._pool
        if now_s - self._zone_at_s > ZONE_EVERY_S and any(rule.kind == FIXED for rule in pool.rules):
            self._zone_at_s = now_s
            pool.rules = rules_of(pool.limits, pool.clock.now())
        return Call(
            worker=self._worker,
            epoch=pool.pace.epoch,
            seq=pool.seq,
            depth_s=max(pool.leads_s, default=0.0),
            rules=pool.rules,
            items=items,
            max_concurrency=pool.limits.max_concurrency or 0,
            unknown=pool.limits.unknown,
            throttles=[(place, count, wait_s) for place, (count, wait_s) in pool.throttles.items()],
            observed=pool.headers.take(),
            outage=pool.outage.sent_alone,
            memory=pool.memory,
            age_s=now_s - pool.memory_at_s if pool.memory else 0.0,
        )

    def _failed(self, error: LimiterError) -> None:
        pool = self._pool
        now_s = pool.clock.monotonic()
        self._retry_s = now_s + pool.outage.failed(error, now_s)
        never = pool.pace.epoch == 0 and isinstance(error, LimiterStoreError)
        for line in list(pool.lines.values()):
            if never:
                fail(line, error)
            elif has_demand(line, now_s):
                pool.outage.go_on_alone(line, now_s)
                self._let_go(line)

    async def _call_last(self) -> None:
        """Nobody of this process wants anything any more."""
        pool = self._pool
        now_s = pool.clock.monotonic()
        items = []
        for line in pool.lines.values():
            line.more_until_s = -math.inf  # nobody comes back for more: a line that says so keeps its permits
            hand_back(line, now_s, begun=True)
            items.append(item_of(line, now_s, None))
        if pool.pace.epoch and items:
            await self._schedule.call(self._new_call(items, now_s).to_wire())

    def _forget(self, line: Line, now_s: float) -> None:
        idle = not line.waiters and not line.slices and not line.in_flight and not _has_report(line)
        if idle and line.permits <= 0 and now_s - max(line.idle_from_s, line.more_until_s) > FORGET_S:
            del self._pool.lines[line.tenant]


def _is_due(line: Line, now_s: float, *, returned: bool) -> bool:
    """Whether a line that asks for no slice has something to say all the same."""
    if returned:
        return not line.met or _has_report(line) or line.permits > line.in_flight
    soon_s = now_s + COALESCE_S
    if line.tell_at_s <= soon_s or (is_short_of_permits(line) and line.permits_at_s <= soon_s):
        return True
    if has_demand(line, now_s):
        return False  # it reports when it asks next
    return _has_report(line) and now_s - line.reported_at_s > REPORT_EVERY_S


def _has_report(line: Line) -> bool:
    return any(line.done) or any(line.used) or any(line.unused)
