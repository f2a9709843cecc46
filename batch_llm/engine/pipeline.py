"""The calls: hands rows out, calls, stores, decides, hands rows out again.

Belongs here: budget and limiter around each call, storing answers, applying the retry table, draining. Not here: pacing
(limiter), the order of rows (row_queue.py), how many at once (window.py), the table (retry.py), slices (slice_work.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from functools import partial
from typing import Protocol

from batch_llm.engine.events import BudgetMark, FirstFailure, Stopping
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts, prompt_bytes
from batch_llm.engine.retry import RULES, Action, throttled_wait_s, wait_s
from batch_llm.engine.row_queue import RowQueue
from batch_llm.engine.slice_work import SliceWork, Work
from batch_llm.engine.window import window_of
from batch_llm.errors import (
    BudgetExhausted,
    ErrorClass,
    JournalError,
    LimiterError,
    NeverFits,
    ProviderError,
    QuotaExhausted,
    StopRun,
)
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Budget, Cost, Hold, Reservation, Throttle
from batch_llm.providers.base import Message, RawAnswer, Request

__all__ = ["UNKNOWN_OUTPUT_CAP", "Pipeline", "Slices"]

HOLD_PATIENCE_S = 0.1  # what was reserved is given back when its money takes longer: others can use it
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
        self._queue = RowQueue(parts.clock)
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
        slices.on_room = self._queue.wake
        async with asyncio.TaskGroup() as calls:
            feeder = self._feeder = asyncio.create_task(self._feed(works, calls))
            if self.stopped is not None:
                feeder.cancel()
            try:
                await asyncio.wait({feeder})  # not a task of the group: its failure must not cancel paid calls
            finally:
                feeder.cancel()
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

    # -- handing out -----------------------------------------------------------------------------------------------

    async def _feed(self, works: AsyncIterator[Work], calls: asyncio.TaskGroup) -> None:
        queue, window = self._queue, partial(window_of, self._parts.limits, self._meter)
        reading = asyncio.create_task(queue.read(works, self._slices.has_room, window))
        reading.add_done_callback(lambda _: queue.wake())
        try:
            while not queue.is_empty or self._meter.in_flight:
                if reading.done():
                    reading.result()  # what keeps rows from being read ends the run
                rows = queue.listed(window() - self._meter.in_flight)
                if rows:
                    await self._launch(rows, calls)
                else:
                    await queue.changed()
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _launch(self, rows: list[Work], calls: asyncio.TaskGroup) -> None:
        """Send those of these rows that the limit lets go now, in order, each with its money set aside."""
        granted = deque(zip(rows, await self._reserved(rows), strict=False))

        def give_back() -> None:
            while granted:
                self._calling.limiter.release(granted.popleft()[1])

        try:
            while granted:
                work, reservation = granted[0]
                impatience = asyncio.get_running_loop().call_later(HOLD_PATIENCE_S, give_back)
                try:
                    hold = work.hold or await self._hold(work)
                finally:
                    impatience.cancel()
                work.hold = None
                if hold is None:
                    return
                if not granted:  # the money came too late for what was reserved
                    work.hold = hold
                    return
                self._note_sent(work, hold)
                granted.popleft()
                self._queue.sent(work)
                self._meter.sent(work.cost.input_tokens + work.cost.output_tokens)
                calls.create_task(self._call(work, reservation, hold))
        finally:
            give_back()

    async def _reserved(self, rows: list[Work]) -> list[Reservation]:
        """For the first of these rows; none when the first one can never go, or nothing may go any more."""
        costs = [work.cost for work in rows]
        try:
            return await self._calling.limiter.reserve_next(self._parts.tenant, costs, more=self._queue.more(len(rows)))
        except NeverFits as error:
            self._queue.sent(rows[0])
            rows[0].attempt -= 1  # it never was one
            self._end_failed(rows[0], ErrorClass.TOO_LARGE, str(error))
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

    def _note_sent(self, work: Work, hold: Hold) -> None:
        """Where money is capped, the intent is in the journal before the call."""
        if not self._budget.is_capped:
            return
        try:
            work.slice_work.note(work.entry(EntryKind.SENT, detail={"held_usd": str(hold.amount_usd)}))
        except JournalError:
            self._budget.release(hold)
            raise

    async def _hold(self, work: Work) -> Hold | None:
        """Set the dearest bill aside; waits while money may come back, from calls in flight or other processes."""
        slice_work = work.slice_work
        self._budget.begin(slice_work.number, slice_work.rows.spent_usd)
        try:
            return await self._budget.hold(self._dearest_usd(work), slice_work.number)
        except BudgetExhausted as error:
            self.stop(ErrorClass.BUDGET, str(error))
        except LimiterError as error:
            self._cannot_go_on(error, ErrorClass.BUDGET, "the ledger of money")
        await asyncio.sleep(0)  # the cancellation of this very task arrives here
        return None

    def _give_money_back(self) -> None:
        """Rows that are not sent need none."""
        for work in self._queue.waiting:
            if work.hold is not None:
                self._budget.release(work.hold)
                work.hold = None

    def _dearest_usd(self, work: Work) -> Decimal:
        price = self._parts.price
        if price is None:
            return ZERO
        # a predicted count may be wrong; the bytes cannot be: no tokenizer makes more tokens than bytes
        exact = self._parts.tokens.exact
        input_tokens = max(work.cost.input_tokens, 0 if exact else work.input_bytes)
        return price.cost(input_tokens, work.cost.max_output_tokens or UNKNOWN_OUTPUT_CAP, 0)

    # -- one call --------------------------------------------------------------------------------------------------

    async def _call(self, work: Work, reservation: Reservation, hold: Hold) -> None:
        try:
            await self._attempt(work, reservation, hold)
        except JournalError as error:
            self._fatal = self._fatal or error
            self.stop(ErrorClass.CANCELLED, str(error))
        finally:
            self._meter.ended()
            self._queue.wake()

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
            self.stop(error.error_class, _until(error))
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
            work.entry(EntryKind.ANSWER, body=raw.body, latency_s=raw.latency_s, detail=self._parts.paid_at)
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
        if self._budget.is_capped:
            work.slice_work.note(work.entry(EntryKind.UNBILLED))
        self._budget.release(hold)

    # -- what follows ----------------------------------------------------------------------------------------------

    def _next_step(
        self, work: Work, error_class: ErrorClass, message: str, *, retry_after_s: float | None = None, text: str = ""
    ) -> None:
        """Apply the retry table: hand the row out again, or end it as failed."""
        work.attempt += 1
        delay_s: float | None = None
        action = RULES[error_class].action
        work.throttles = work.throttles + 1 if action is Action.WAIT else 0
        match action:
            case Action.WAIT:
                work.attempt -= 1  # a rejected call is not an attempt
                delay_s = throttled_wait_s(work.throttles, retry_after_s)
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
        self._queue.again(work, delay_s)

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


def _until(error: StopRun) -> str:
    """The message, and until when it holds if that is known and not said."""
    until = error.until if isinstance(error, QuotaExhausted) else None
    if until is None:
        return str(error)
    said = f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return str(error) if said in str(error) else f"{error} (until {said})"


def _told(work: Work, text: str, message: str) -> Request:
    """The request once more, with the answer that broke the schema and what was wrong with it."""
    asked = work.request.messages[: work.first_messages]
    complaint = f"Your answer does not fit the required JSON schema: {message}. Answer again with JSON that does."
    messages = (*asked, Message("assistant", text), Message("user", complaint))
    return replace(work.request, messages=messages, attempt=work.attempt)
