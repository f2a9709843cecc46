"""The calls: hands rows out, calls, stores, decides, hands rows out again.

Belongs here: the bounded window, retries in between first attempts, budget and limiter around each call, draining.
Not here: pacing (limiter), the retry table (retry.py), slices (slice_work.py).
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Protocol

from batch_llm.engine.events import BudgetMark, FirstFailure, Stopping
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts, prompt_bytes
from batch_llm.engine.retry import RULES, Action, wait_s
from batch_llm.engine.slice_work import SliceWork, Work
from batch_llm.errors import (
    BudgetExhausted,
    ErrorClass,
    JournalError,
    LimiterError,
    NeverFits,
    ProviderError,
    StopRun,
)
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Budget, Cost, Hold, Limits, Reservation, Throttle
from batch_llm.providers.base import Message, RawAnswer, Request

__all__ = ["UNKNOWN_OUTPUT_CAP", "Pipeline", "Slices", "rows_per_s"]

WINDOW_MIN = 8
WINDOW_MAX = 1_000
WINDOW_UNLIMITED = 128  # in flight where no limit is declared
WINDOW_HEADROOM = 2.0  # times limit x latency
BUDGET_MARKS = (50, 80, 100)
UNKNOWN_OUTPUT_CAP = 131_072  # tokens; the dearest answer where the job sets no cap
ZERO = Decimal(0)


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
    """Asks the rows of some slices; one use."""

    def __init__(self, parts: JobParts, calling: Calling, budget: Budget, meter: Meter) -> None:
        """``budget`` knows what the run spent before."""
        self._parts = parts
        self._calling = calling
        self._budget = budget
        self._meter = meter
        self._retries: list[tuple[float, int, Work]] = []
        self._order = count()
        self._wake = asyncio.Event()
        self._feeder: asyncio.Task[None] | None = None
        self._told: set[str] = set()
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
        slices.on_room = self._wake.set
        async with asyncio.TaskGroup() as calls:
            feeder = self._feeder = asyncio.create_task(self._feed(works, calls))
            if self.stopped is not None:
                feeder.cancel()
            try:
                await asyncio.wait({feeder})  # not a task of the group: its failure must not cancel paid calls
            finally:
                feeder.cancel()
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

    # -- handing out -----------------------------------------------------------------------------------------------

    async def _feed(self, works: AsyncIterator[Work], calls: asyncio.TaskGroup) -> None:
        fresh: AsyncIterator[Work] | None = works
        while True:
            while self._meter.in_flight + len(self._retries) >= self._window() and not self._due():
                await self._changed()
            work = self._due()
            if work is not None:
                heapq.heappop(self._retries)
            elif fresh is not None and self._slices.has_room():
                work = await anext(fresh, None)
                if work is None:
                    fresh = None
                    continue
            elif self._retries or self._meter.in_flight or fresh is not None:
                await self._changed()
                continue
            else:
                return
            await self._launch(work, calls)

    async def _launch(self, work: Work, calls: asyncio.TaskGroup) -> None:
        hold = await self._hold(work)
        if hold is None:
            return
        try:
            reservation = await self._calling.limiter.reserve(self._parts.tenant, work.cost)
        except NeverFits as error:
            self._budget.release(hold)
            work.attempt -= 1  # it never was one
            self._end_failed(work, ErrorClass.TOO_LARGE, str(error))
            return
        except asyncio.CancelledError:
            self._budget.release(hold)
            raise
        if self._budget.cap_usd is not None:
            try:
                work.slice_work.note(work.entry(EntryKind.SENT, detail={"held_usd": str(hold.amount_usd)}))
            except JournalError:
                self._calling.limiter.release(reservation)
                self._budget.release(hold)
                raise
        self._meter.sent(work.cost.input_tokens + work.cost.output_tokens)
        calls.create_task(self._call(work, reservation, hold))

    async def _hold(self, work: Work) -> Hold | None:
        """Set the dearest bill aside; waits for calls in flight to give money back before it says that none is left."""
        dearest = self._dearest_usd(work)
        while True:
            try:
                return self._budget.hold(dearest)
            except BudgetExhausted as error:
                if not self._meter.in_flight:
                    self.stop(ErrorClass.BUDGET, str(error))
                    await asyncio.sleep(0)  # the cancellation of this very task arrives here
                    return None
                self._wake.clear()
                await self._wake.wait()

    def _dearest_usd(self, work: Work) -> Decimal:
        price = self._parts.price
        if price is None:
            return ZERO
        # a predicted count may be wrong; the bytes cannot be: no tokenizer makes more tokens than bytes
        exact = self._parts.tokens.exact
        input_tokens = max(work.cost.input_tokens, 0 if exact else work.input_bytes)
        return price.cost(input_tokens, work.cost.max_output_tokens or UNKNOWN_OUTPUT_CAP, 0)

    def _due(self) -> Work | None:
        if self._retries and self._retries[0][0] <= self._parts.clock.monotonic():
            return self._retries[0][2]
        return None

    async def _changed(self) -> None:
        """Until a call ends or a retry is due."""
        self._wake.clear()
        if not self._retries:
            await self._wake.wait()
            return
        delay_s = self._retries[0][0] - self._parts.clock.monotonic()
        alarm = asyncio.create_task(self._alarm(delay_s))
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _alarm(self, delay_s: float) -> None:
        await self._parts.clock.sleep(delay_s)
        self._wake.set()

    def _window(self) -> int:
        """How many calls may be in flight: enough for the limit at this latency, and some."""
        rate_per_s = rows_per_s(self._parts.limits, self._tokens_per_row())
        if rate_per_s is None:
            wanted = float(WINDOW_UNLIMITED)
        else:
            wanted = WINDOW_MIN + math.ceil(rate_per_s * self._meter.latency_s * WINDOW_HEADROOM)
        return int(min(WINDOW_MAX, max(WINDOW_MIN, wanted)))

    def _tokens_per_row(self) -> float:
        if not self._meter.answers:
            return 1.0
        return max(1.0, (self._meter.input_tokens + self._meter.output_tokens) / self._meter.answers)

    # -- one call --------------------------------------------------------------------------------------------------

    async def _call(self, work: Work, reservation: Reservation, hold: Hold) -> None:
        try:
            await self._attempt(work, reservation, hold)
        except JournalError as error:
            self._fatal = self._fatal or error
            self.stop(ErrorClass.CANCELLED, str(error))
        finally:
            self._meter.ended()
            self._wake.set()

    async def _attempt(self, work: Work, reservation: Reservation, hold: Hold) -> None:
        """One call and what it means; raises only `JournalError` and cancellation."""
        provider, limiter = self._calling.provider, self._calling.limiter
        try:
            raw = await provider.send(work.request, total_s=self._meter.call_timeout_s * 2**work.timeouts)
            self._store(work, raw, reservation, hold)
        except ProviderError as error:
            self._attempt_failed(work, error, reservation, hold)
        except StopRun as error:
            limiter.release(reservation)
            self._unbilled(work, hold)
            self.stop(error.error_class, str(error))
        except asyncio.CancelledError:
            limiter.settle(reservation, work.cost)
            work.slice_work.note(work.entry(EntryKind.LOST))
            self._budget.settle(hold, None)
            raise
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001  the per-request boundary: a defect costs one row, never the run
            with suppress(LimiterError):  # ended before the defect showed
                limiter.settle(reservation, work.cost)
            with suppress(LimiterError):
                self._budget.settle(hold, None)
            work.slice_work.note(work.entry(EntryKind.LOST))
            self._end_failed(work, ErrorClass.INTERNAL, f"{type(error).__name__} in batch_llm; please report it")

    def _store(self, work: Work, raw: RawAnswer, reservation: Reservation, hold: Hold) -> None:
        """The answer is in the journal before anybody looks into it."""
        verdict = work.slice_work.note(
            work.entry(EntryKind.ANSWER, body=raw.body, latency_s=raw.latency_s, detail=self._paid_at())
        )
        assert verdict is not None  # noqa: S101  an ANSWER always gets one
        usage = verdict.usage
        actual = work.cost
        if usage is not None:
            actual = Cost(usage.input_tokens, usage.output_tokens, work.cost.max_output_tokens)
            self._learn(work, usage.input_tokens, usage.output_tokens, good=verdict.error_class is None)
        self._calling.limiter.settle(reservation, actual)
        self._calling.limiter.observe(raw.headers)
        self._budget.settle(hold, work.slice_work.rows.cost_usd(usage))
        self._mark_budget()
        self._meter.answered(raw.latency_s)
        if verdict.error_class is None:
            self._ended(work)
        else:
            self._meter.errors[verdict.error_class.value] += 1
            self._next_step(work, verdict.error_class, verdict.message, text=verdict.text)

    def _attempt_failed(self, work: Work, error: ProviderError, reservation: Reservation, hold: Hold) -> None:
        self._meter.errors[error.error_class.value] += 1
        work.timeouts += error.error_class is ErrorClass.TIMEOUT
        limiter = self._calling.limiter
        if error.error_class is ErrorClass.RATE_LIMITED:
            limiter.throttled(reservation, Throttle(error.retry_after_s, error.scope))
        elif error.maybe_paid:
            limiter.settle(reservation, work.cost)
        else:
            limiter.settle(reservation, Cost(0, 0, work.cost.max_output_tokens))
        if error.maybe_paid:
            work.slice_work.note(work.entry(EntryKind.LOST, detail={"error_class": error.error_class.value}))
            self._budget.settle(hold, None)
        else:
            self._unbilled(work, hold)
        self._next_step(work, error.error_class, str(error), retry_after_s=error.retry_after_s)

    def _unbilled(self, work: Work, hold: Hold) -> None:
        if self._budget.cap_usd is not None:
            work.slice_work.note(work.entry(EntryKind.UNBILLED))
        self._budget.release(hold)

    # -- what follows ----------------------------------------------------------------------------------------------

    def _next_step(
        self, work: Work, error_class: ErrorClass, message: str, *, retry_after_s: float | None = None, text: str = ""
    ) -> None:
        """Apply the retry table: hand the row out again, or end it as failed."""
        work.attempt += 1
        delay_s: float | None = None
        match RULES[error_class].action:
            case Action.WAIT:
                work.attempt -= 1  # a rejected call is not an attempt
                delay_s = 0.0
            case Action.AGAIN:
                work.tries += 1
                if work.tries < self._parts.declared.job.retries.attempts:
                    delay_s = wait_s(work.tries, retry_after_s)
            case Action.RE_ASK if self._may_re_ask(work, error_class):
                delay_s = 0.0
                if error_class is ErrorClass.SCHEMA_MISMATCH:
                    work.request = _told(work, text, message)
                    work.input_bytes = prompt_bytes(work.request)
                    work.cost = self._parts.predicted_cost(work.request)
            case _:
                pass
        if delay_s is None:
            work.attempt -= 1
            self._end_failed(work, error_class, message)
            return
        self._meter.retries += 1
        heapq.heappush(self._retries, (self._parts.clock.monotonic() + delay_s, next(self._order), work))

    def _may_re_ask(self, work: Work, error_class: ErrorClass) -> bool:
        state = work.slice_work.rows.states[work.row]
        cap = work.cost.max_output_tokens
        if error_class is ErrorClass.TRUNCATED and cap is not None and state.last_output_tokens >= cap:
            return False  # cut at our own cap: asking again would be cut again
        return state.bad_answers <= self._parts.declared.job.retries.re_asks

    def _end_failed(self, work: Work, error_class: ErrorClass, message: str) -> None:
        detail = {"error_class": error_class.value, "message": message}
        work.slice_work.note(work.entry(EntryKind.FAILED, detail=detail))
        if error_class.value not in self._told:
            self._told.add(error_class.value)
            shown = message if self._parts.declared.job.samples == "rows" else RULES[error_class].reason
            self._calling.tell(FirstFailure(error_class.value, shown, work.slice_work.number, work.row))
        self._ended(work)

    def _ended(self, work: Work) -> None:
        slice_work = work.slice_work
        slice_work.outstanding -= 1
        if slice_work.fed and not slice_work.outstanding:
            self._slices.idle(slice_work)

    # -- learning --------------------------------------------------------------------------------------------------

    def _paid_at(self) -> dict[str, str]:
        job = self._parts.declared.job
        price = self._parts.price
        return {
            "provider": job.provider_name,
            "model": job.model_name,
            **({"price_version": price.version} if price is not None else {}),
        }

    def _learn(self, work: Work, input_tokens: int, output_tokens: int, *, good: bool) -> None:
        self._meter.input_tokens += input_tokens
        self._meter.output_tokens += output_tokens
        self._parts.tokens.learn(work.input_bytes, input_tokens)
        if good:
            self._parts.output_length.learn(output_tokens)

    def _mark_budget(self) -> None:
        cap = self._budget.cap_usd
        if cap is None:
            return
        share = self._budget.spent_usd * 100 / cap
        for mark in BUDGET_MARKS:
            if self._marked < mark <= share:
                self._marked = mark
                self._calling.tell(BudgetMark(mark, self._budget.spent_usd, cap))


def rows_per_s(limits: Limits, tokens_per_row: float) -> float | None:
    """Rows per second the declared limits allow; None without a limit."""
    rates = []
    if limits.requests_per_minute:
        rates.append(limits.requests_per_minute / 60)
    if limits.tokens_per_minute:
        rates.append(limits.tokens_per_minute / 60 / tokens_per_row)
    return min(rates) if rates else None


def _told(work: Work, text: str, message: str) -> Request:
    """The request once more, with the answer that broke the schema and what was wrong with it."""
    asked = work.request.messages[: work.first_messages]
    complaint = f"Your answer does not fit the required JSON schema: {message}. Answer again with JSON that does."
    messages = (*asked, Message("assistant", text), Message("user", complaint))
    return replace(work.request, messages=messages, attempt=work.attempt)
