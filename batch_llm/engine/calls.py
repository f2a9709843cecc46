"""The calls in flight: send one, store its answer, decide what follows for its row.

Belongs here: one attempt from sending to its end: journal, limiter, budget, retry table. Not here: which row goes next
and with what (pipeline.py), how long a call may take (deadlines.py), how many at once (window.py).
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from batch_llm.config.secrets import scrub
from batch_llm.engine.caps import Cut, after_cut
from batch_llm.engine.deadlines import Call
from batch_llm.engine.events import FirstFailure
from batch_llm.engine.meter import Meter
from batch_llm.engine.money import held
from batch_llm.engine.parts import Calling, JobParts, with_max_tokens
from batch_llm.engine.retry import RULES, Action, Eases, throttled_wait_s, wait_s
from batch_llm.engine.route import Route
from batch_llm.engine.window import OUTAGE_ATTEMPT_S, Failure
from batch_llm.engine.work import Work
from batch_llm.errors import ErrorClass, JournalError, LimiterError, ProviderError, StopRun
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.base import Budget, Cost, Throttle
from batch_llm.providers.base import Message, Phase, RawAnswer, Request, Usage

__all__ = ["Calls", "Outcomes"]


class Outcomes(Protocol):
    """Who hears how calls end."""

    def again(self, work: Work, delay_s: float) -> None:
        """The row is to be sent again, so many seconds from now at the earliest."""
        ...

    def ended(self, work: Work) -> None:
        """The row has its result."""
        ...

    def came_back(self) -> None:
        """A call is not in flight any more; what it means was told before."""
        ...

    def paid(self) -> None:
        """Money was spent."""
        ...

    def stop_for(self, call: Call, error: StopRun) -> None:
        """The pool that this call went to cannot go on; its row has no result yet."""
        ...

    def has_room_elsewhere(self, route: Route) -> bool:
        """Whether another pool takes rows now."""
        ...

    def broken(self, error: JournalError) -> None:
        """Answers cannot be stored any more."""
        ...


class Calls:
    """The calls in flight of one pipeline."""

    def __init__(self, parts: JobParts, calling: Calling, budget: Budget, meter: Meter) -> None:
        """``meter`` counts what all pools do; each call's route hears of overloads and outages."""
        self._parts = parts
        self._tell_first = calling.tell_first
        self._budget = budget
        self._meter = meter
        self._clock = parts.clock
        self.in_flight: set[Call] = set()
        self.outcomes: Outcomes

    def start(self, call: Call) -> None:
        """Send it; `outcomes` hears how it ends."""
        work = call.work
        self.in_flight.add(call)
        tokens, rows = work.cost.input_tokens + work.cost.output_tokens, work.count
        for meter in call.route.meters:
            meter.sent(call.sent_at_s, tokens, work.held_bytes, rows)
        call.task = asyncio.create_task(self._run(call))

    async def drop(self) -> None:
        """Cancel what is in flight; its outcome is journalled as lost."""
        tasks = [call.task for call in self.in_flight if call.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _run(self, call: Call) -> None:
        try:
            await self._attempt(call)
        except JournalError as error:
            self.outcomes.broken(error)
        finally:
            self.in_flight.discard(call)
            for meter in call.route.meters:
                meter.ended(self._clock.monotonic())
            self.outcomes.came_back()

    async def _attempt(self, call: Call) -> None:
        """One call and what it means; raises only `JournalError` and cancellation."""
        try:
            raw = await call.route.send(call.work.to_send(), sending=call.sending)  # type: ignore[arg-type]
            self._store(call, raw)
        except ProviderError as error:
            self._failed(call, error)
        except StopRun as error:
            call.route.limiter.release(call.reservation)
            self._unbilled(call)
            self.outcomes.stop_for(call, error)
        except asyncio.CancelledError:
            task, sent = asyncio.current_task(), call.sending.phase is not Phase.SIGN_IN
            if call.expired is not None and task is not None and task.uncancel() == 0:
                error_class = ErrorClass.TIMEOUT if sent else ErrorClass.CONNECTION
                self._failed(call, ProviderError(error_class, call.expired, maybe_paid=sent, outline=call.expired))
                return
            if sent:
                call.route.limiter.settle(call.reservation, call.work.cost)
                self._lost(call)
            else:
                call.route.limiter.release(call.reservation)
                self._unbilled(call)
            raise
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001  the per-request boundary: a defect costs one row, never the run
            with suppress(LimiterError):  # ended before the defect showed
                call.route.limiter.settle(call.reservation, call.work.cost)
            with suppress(LimiterError):
                self._budget.settle(call.hold, None)
            call.work.note(EntryKind.LOST, detail=held(call.hold))
            message = f"{type(error).__name__} in batch_llm; please report it"
            self._end_failed(call.work, ProviderError(ErrorClass.INTERNAL, message, outline=message))

    def _store(self, call: Call, raw: RawAnswer) -> None:
        """The answer is in the journal before anybody looks into it."""
        work, route = call.work, call.route
        verdict = work.note(EntryKind.ANSWER, body=raw.body, latency_s=raw.latency_s, detail=route.paid_at)
        assert verdict is not None  # noqa: S101  an ANSWER always gets one
        usage, error_class = verdict.usage, verdict.error_class
        actual = work.cost
        if usage is not None:
            actual = Cost(usage.input_tokens, usage.output_tokens, work.cost.max_output_tokens)
            self._learn(call, usage, good=error_class is None)
        route.limiter.settle(call.reservation, actual)
        route.limiter.observe(raw.headers)
        self._budget.settle_nano(call.hold, work.slice_work.rows.last_cost_nano)
        self.outcomes.paid()
        start_share = raw.first_byte_s / raw.latency_s if raw.first_byte_s and raw.latency_s else 1.0
        for meter in route.meters:
            meter.answered(self._clock.monotonic() - call.sent_at_s, start_share)
        route.window.answered()
        if error_class is None:
            self.outcomes.ended(work)
        else:
            work.failure = None
            self._meter.errors[error_class.value] += 1
            is_ones_fault = error_class is ErrorClass.TOO_LARGE
            if not (is_ones_fault and self._asked_in_halves(work, error_class)):
                self._next_step(call, ProviderError(error_class, verdict.message), text=verdict.text)

    def _failed(self, call: Call, error: ProviderError) -> None:
        """No answer: what it does to limit and money, and what follows for the row."""
        work, error_class = call.work, error.error_class
        self._meter.errors[error_class.value] += 1
        if error_class is ErrorClass.RATE_LIMITED:
            call.route.limiter.throttled(call.reservation, Throttle(error.retry_after_s, error.scope))
        elif error.maybe_paid:
            call.route.limiter.settle(call.reservation, work.cost)
        else:
            call.route.limiter.settle(call.reservation, Cost(0, 0, work.cost.max_output_tokens))
        if error.maybe_paid:
            self._lost(call, error_class)
        else:
            self._unbilled(call)
        self._hear(call, error)
        if not self._asked_in_halves(work, error_class):
            self._next_step(call, error)

    def _asked_in_halves(self, work: Work, error_class: ErrorClass) -> bool:
        """One row's fault must not be that of the others."""
        halves = work.halves(error_class)
        for half in halves:
            half.attempt += 1
            self.outcomes.again(half, 0.0)
        return bool(halves)

    def _hear(self, call: Call, error: ProviderError) -> None:
        """What a failure says of the provider, and of the row."""
        error_class, work, window = error.error_class, call.work, call.route.window
        work.timeouts += error_class is ErrorClass.TIMEOUT and not call.hurried
        rule = RULES[error_class]
        if rule.eases is Eases.CONCURRENCY:
            window.overloaded()
        if not rule.may_be_outage:
            work.failure = None
            window.answered()
            return
        unreachable = error_class is ErrorClass.CONNECTION and not error.maybe_paid
        before, work.failure = work.failure, None
        if not unreachable:
            is_rows = before is not None and before.blames_the_row
            used_up_at_s = -math.inf if before is None else before.used_up_at_s
            what = (error_class, scrub(str(error)), error.maybe_paid)
            work.failure = Failure(*what, window, self._clock.monotonic(), window.outages, is_rows, used_up_at_s)
        if _is_probe(call) or (window.outage is None and not (work.failure and work.failure.is_rows)):
            answered = not unreachable and not error.maybe_paid
            window.failed(str(error), (work.slice_work.number, work.row), answered=answered, unreachable=unreachable)

    def _lost(self, call: Call, error_class: ErrorClass | None = None) -> None:
        """The outcome is unknown: it counts as paid, also in a budget that is given later."""
        why = {"error_class": error_class.value} if error_class else {}
        call.work.note(EntryKind.LOST, detail={**why, **held(call.hold)})
        self._budget.settle(call.hold, None)

    def _unbilled(self, call: Call) -> None:
        if self._budget.is_capped:
            call.work.note(EntryKind.UNBILLED)
        self._budget.release(call.hold)

    # -- what follows ----------------------------------------------------------------------------------------------

    def _next_step(self, call: Call, error: ProviderError, *, text: str = "") -> None:
        """Apply the retry table: hand the row out again, or end it as failed. ``text``: of an answer that came."""
        work, error_class = call.work, error.error_class
        action = RULES[error_class].action
        work.throttles = work.throttles + 1 if action is Action.WAIT else 0
        delay_s = self._delay_s(call, error_class, error.retry_after_s)
        if delay_s is None:
            self._end_failed(work, error)
            return
        if error_class is ErrorClass.SCHEMA_MISMATCH:
            self._tell_mistake(call, text, str(error))
        self._meter.retries += 1
        self.outcomes.again(work, delay_s)

    def _delay_s(self, call: Call, error_class: ErrorClass, retry_after_s: float | None) -> float | None:
        """Seconds until the row's next call, None: it gets none; counts what is used up by that."""
        rule, retries = RULES[error_class], self._parts.declared.job.retries
        action, work = rule.action, call.work
        if action is Action.WAIT:  # a rejected call is not an attempt
            asked_s = None if self.outcomes.has_room_elsewhere(call.route) else retry_after_s  # it goes there
            return throttled_wait_s(work.throttles, asked_s)
        if rule.may_be_outage and call.route.window.outage is not None and not self._uses_up(call):
            work.attempt += work.failure is not None  # the call was made
            return 0.0
        if action is Action.AGAIN and work.tries + 1 < retries.attempts:
            work.tries += 1
            work.attempt += 1
            if work.failure is not None:
                work.failure = work.failure._replace(used_up_at_s=self._clock.monotonic())
            return wait_s(work.tries, retry_after_s)
        if action is Action.RE_ASK and self._may_re_ask(call, error_class):
            work.attempt += 1
            return 0.0
        return None

    def _uses_up(self, call: Call) -> bool:
        """Whether a failure while nobody is answered uses up an attempt all the same: it may be the row's own.

        One that may have been paid does, and any other that was answered once in a while; not those that were in flight
        when the outage began, nor where nobody was reached.
        """
        outage, failure = call.route.window.outage, call.work.failure
        if outage is None or failure is None or not _is_probe(call):
            return False
        since_s = self._clock.monotonic() - max(failure.used_up_at_s, outage.opened_at_s)
        return failure.maybe_paid or since_s >= OUTAGE_ATTEMPT_S

    def _may_re_ask(self, call: Call, error_class: ErrorClass) -> bool:
        """Whether a paid answer that was not good is asked for once more; under another cap, if that spoiled it."""
        work = call.work
        state = work.slice_work.rows.open_state(work.row)
        if state is None:
            return False
        job = self._parts.declared.job
        if error_class is not ErrorClass.TRUNCATED:
            return state.re_asks_used <= job.retries.re_asks
        cap, is_learned = work.cost.max_output_tokens, job.params.learns_cap
        cut = Cut(cap, is_learned, state.last_output_tokens, state.cuts, state.re_asks_used, job.retries.re_asks)
        following = after_cut(cut)
        if following is not None and following.cap != cap and isinstance(work.request, Request):
            work.request = with_max_tokens(work.request, following.cap)
            work.cost = call.route.parts.predicted_cost(work.request)
        return following is not None

    @staticmethod
    def _tell_mistake(call: Call, text: str, message: str) -> None:
        """Only a chat can be told."""
        work, parts = call.work, call.route.parts
        if not isinstance(work.request, Request):
            return
        work.request = _told(work.request, work.first_messages, text, message)
        work.input_bytes = parts.input_bytes(work.request)
        work.cost = parts.predicted_cost(work.request)

    def fail(self, work: Work, error_class: ErrorClass, message: str, *, outline: str = "") -> None:
        """A row that waits is not sent any more; a call for many rows is tried in halves. ``outline``: of the error."""
        work.attempt -= 1  # the next call never comes
        if not self._asked_in_halves(work, error_class):
            self._end_failed(work, ProviderError(error_class, message, outline=outline))

    def _end_failed(self, work: Work, error: ProviderError) -> None:
        error_class, message = error.error_class, scrub(str(error))
        for row in work.rows():
            row.note(EntryKind.FAILED, detail={"error_class": error_class.value, "message": message})
        shown = message if self._parts.declared.job.samples == "rows" else _without_text(work, error)
        self._tell_first(FirstFailure(error_class.value, shown, work.slice_work.number, work.row))
        self.outcomes.ended(work)

    # -- learning --------------------------------------------------------------------------------------------------

    def _learn(self, call: Call, usage: Usage, *, good: bool) -> None:
        expected = call.work.cost.input_tokens + call.work.cost.output_tokens
        for meter in call.route.meters:
            meter.input_tokens += usage.input_tokens
            meter.output_tokens += usage.output_tokens
            meter.corrected(usage.input_tokens + usage.output_tokens - expected)
        self._learn_prompt(call, usage)
        call.route.parts.output_length.learn(usage.output_tokens, good=good)

    @staticmethod
    def _learn_prompt(call: Call, usage: Usage) -> None:
        """Of its text: an image's tokens follow from its size; how many one has that is somewhere else is unknown."""
        work, tokens, sent = call.work, call.route.parts.tokens, call.work.request
        if work.image_tokens and isinstance(sent, Request) and any(image.url for image in sent.images):
            return
        billed, images = usage.input_tokens, work.image_tokens
        cached = min(usage.cached_input_tokens, billed - images) if images else usage.cached_input_tokens
        counted = work.cost.input_tokens - images if tokens.exact else None
        tokens.learn(work.input_bytes, billed - images, cached_tokens=cached, counted_tokens=counted)


def _without_text(work: Work, error: ProviderError) -> str:
    """What is known of a failure beside the row's own text: the error's outline, the row's size, the class."""
    said = [error.outline] if error.outline else []
    if error.error_class is ErrorClass.TOO_LARGE:
        said.append(f"about {work.input_tokens:,} input tokens")
    return "; ".join([*said, RULES[error.error_class].reason])


def _is_probe(call: Call) -> bool:
    """Whether it was sent to a pool that was away by then, and still is."""
    outage = call.route.window.outage
    return outage is not None and call.sent_at_s >= outage.opened_at_s


def _told(request: Request, first_messages: int, text: str, message: str) -> Request:
    """The request once more, with the answer that broke the schema and what was wrong with it."""
    asked = request.messages[:first_messages]
    complaint = f"Your answer does not fit the required JSON schema: {message}. Answer again with JSON that does."
    messages = (*asked, Message("assistant", text), Message("user", complaint))
    return replace(request, messages=messages)
