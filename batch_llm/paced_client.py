"""Calls that are no job, paced by the same limiter and capped by a budget: for assets that users write.

Belongs here: one completion, and an openai SDK client whose requests pass the limiter. Not here: jobs, journals, resume
(the engine): what a call answers here is the caller's to keep. The openai SDK is imported where it is asked for.

The provider and the limiter are opened by the first call that is under way and closed by the last one, so that nobody
has to open or close anything and nothing is held while nothing is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from batch_llm.engine.context import framing_allowance
from batch_llm.errors import BatchLLMError, ConfigurationError, ErrorClass, NotYetAvailable, ProviderError, StopRun
from batch_llm.limiter.base import Budget, Cost, Hold, RateLimiter, Reservation, Tenant, Throttle
from batch_llm.paced_pools import CallPools, OpenCallPool
from batch_llm.providers.base import Completion, Message, Phase, Request, Sending, Usage
from batch_llm.providers.structured_output import billed_text
from batch_llm.wiring import PacedProvider

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

__all__ = ["Asking", "Opening", "PacedCall", "PacedCalls", "is_rate"]

RATE_LIMITED_ATTEMPTS = 5  # a 429 despite pacing is waited out, but not for ever
CALL_S = 600.0  # the longest call
UNKNOWN_OUTPUT_CAP = 131_072  # tokens; the dearest answer where the caller sets no cap

Opener = Callable[[], AbstractAsyncContextManager[PacedProvider]]


@dataclass(slots=True)
class Opening:
    """What is open while calls are under way."""

    paced: PacedProvider
    pools: CallPools
    budget: Budget
    stack: AsyncExitStack  # closed when the last call has ended
    http: httpx2.AsyncClient | None = None  # the openai SDK's connections, when it is used


@dataclass(frozen=True, slots=True)
class Asking:
    """What one request may be billed as."""

    text: str  # what becomes input tokens
    max_output_tokens: int | None = None  # of each answer; None: the request sets no cap
    answers: int = 1  # asked for at once
    image_tokens: int = 0  # beside the text
    unbounded: str | None = None  # what in it may be billed as nobody knows how many tokens


@dataclass(frozen=True, slots=True)
class PacedCall:
    """One request that may be sent now. End it with exactly one of `answered`, `refused`, `throttled`."""

    opening: Opening
    pool: OpenCallPool
    reservation: Reservation
    hold: Hold
    asking: Asking
    sent_at_s: float

    def answered(self, usage: Usage | None, headers: Mapping[str, str]) -> None:
        """The provider answered; without a usage the whole hold counts as spent."""
        cost, cost_usd, paced = self.reservation.cost, None, self.opening.paced
        if usage is not None:
            cost = Cost(usage.input_tokens, usage.output_tokens, cost.max_output_tokens)
            if not (self.asking.image_tokens or self.asking.unbounded):
                paced.tokens.learn(len(self.asking.text.encode()), usage.input_tokens)
            paced.output_length.learn(usage.output_tokens // self.asking.answers)
            cost_usd = self._cost_usd(usage)
        self._limiter.settle(self.reservation, cost)
        self._limiter.observe(headers)
        self.opening.budget.settle(self.hold, cost_usd)
        self.pool.meter.answered(paced.clock.monotonic() - self.sent_at_s)
        self.pool.window.answered()
        self.opening.pools.ended(self.pool)

    def refused(self, failure: BaseException, *, maybe_paid: bool) -> None:
        """The provider gave no answer; the limits count it all the same."""
        self._limiter.settle(self.reservation, self.reservation.cost if maybe_paid else Cost(0, 0))
        if maybe_paid:
            self.opening.budget.settle(self.hold, None)
        else:
            self.opening.budget.release(self.hold)
        self.pool.failed(failure)
        self.opening.pools.ended(self.pool)

    def throttled(self, retry_after_s: float | None, scope: str | None) -> None:
        """The provider said 429: everybody pauses at this pool."""
        self._limiter.throttled(self.reservation, Throttle(retry_after_s, scope))
        self.opening.budget.release(self.hold)
        self.opening.pools.ended(self.pool)

    def can_go_elsewhere(self, failure: Exception) -> bool:
        """See `CallPools.can_go_elsewhere`."""
        return self.opening.pools.can_go_elsewhere(self.pool, failure)

    @property
    def _limiter(self) -> RateLimiter:
        return self.pool.pool.limiter

    def _cost_usd(self, usage: Usage) -> Decimal:
        price = self.pool.pool.price
        if price is None:
            return Decimal(0)  # without a price there is no cap: `PacedCalls` refuses one
        return price.cost(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)


class PacedCalls:
    """Completions of one model, for one user. Any number of calls at once, from one event loop at a time.

    Of several pools, each call goes to the one whose limit lets it go first (paced_pools.py).
    """

    def __init__(self, opener: Opener, tenant: Tenant) -> None:
        """``opener`` opens the provider behind its limiter (`wiring.paced_provider`); nothing is opened yet."""
        self._opener = opener
        self._tenant = tenant
        self._name = f"calls:{uuid4().hex}"  # one for all openings: the cap is on their sum
        self._spent_usd = Decimal(0)  # by what is closed
        self._opening: Opening | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        self._users = 0

    @property
    def spent_usd(self) -> Decimal:
        """What all calls so far have cost, US dollars; 0 without a known price."""
        if self._opening is None:
            return self._spent_usd
        return max(self._spent_usd, self._opening.budget.spent_usd)

    async def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        json_schema: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Completion:
        """Ask once and return the answer; waits for the limit, and for it again after a 429.

        What a pool cannot do that is closed or away by that, is asked at another one.

        ``params`` as in a job file (temperature, max_output_tokens, ..). A failure is the caller's to judge: raises
        `ProviderError`, `BudgetExhausted`, `NeverFits` and kin. A completion whose finish is not ``stop`` is returned.
        """
        messages = (*((Message("system", system),) if system else ()), Message("user", prompt))
        async with self.opened() as opening:
            paced = opening.paced
            told = billed_text(json_schema, paced.structure)
            text = "".join([*(message.content for message in messages), told])
            request = Request(f"call-{uuid4().hex}", paced.model_name, messages, params, json_schema)
            asking = Asking(text, params.get("max_output_tokens"))
            not_to: OpenCallPool | None = None
            for attempt in range(1, RATE_LIMITED_ATTEMPTS + 1):
                call = await self.begin(opening, asking, not_to)
                try:
                    return await self._send(request, call)
                except (ProviderError, StopRun) as error:
                    again = is_rate(error) or call.can_go_elsewhere(error)
                    if not again or attempt == RATE_LIMITED_ATTEMPTS:
                        raise
                    not_to = call.pool
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Not yet available. Raises `NotYetAvailable`."""
        raise NotYetAvailable(f"embed of {len(texts)} texts: embeddings are not yet available")

    def openai_client(self) -> AsyncOpenAI:
        """The openai SDK, sending through the same limiter and budget.

        Its own retries are off: a 429 is waited out here, every other failure is the caller's. Streamed answers come
        whole. Give it the resource's own model name; another one would be another limit and is refused.
        """
        from batch_llm.paced_transport import openai_client

        return openai_client(self)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Opening]:
        """The provider, opened by the first that comes and closed by the last that goes."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # an earlier loop closed what it had opened when it ended
            self._spent_usd = self.spent_usd
            self._loop, self._turn, self._users, self._opening = loop, asyncio.Lock(), 0, None
        async with self._turn:
            if self._opening is None:
                self._opening = await self._open()
            self._users += 1
            opening = self._opening
        try:
            yield opening
        finally:
            async with self._turn:
                self._users -= 1
                if not self._users:
                    try:
                        await opening.stack.aclose()
                    finally:
                        self._spent_usd = self.spent_usd
                        self._opening = None

    async def _open(self) -> Opening:
        async with AsyncExitStack() as stack:
            paced = await stack.enter_async_context(self._opener())
            budget_of = paced.budget_of(self._name, self._tenant.user, self._spent_usd)
            budget = await stack.enter_async_context(budget_of)
            budget.begin(0, self._spent_usd)
            pools = CallPools(paced.pools, self._tenant, paced.clock)
            stack.push_async_callback(pools.aclose)
            return Opening(paced, pools, budget, stack.pop_all())

    async def begin(self, opening: Opening, asking: Asking, not_to: OpenCallPool | None = None) -> PacedCall:
        """Set the money aside, then wait for the limit; ``not_to``: see `CallPools.reserve`.

        Raises `BudgetExhausted`, `NeverFits`, `ConfigurationError`.
        """
        paced, budget = opening.paced, opening.budget
        if budget.cap_usd is not None and paced.price is None:
            raise ConfigurationError(f"the price of {paced.model_name} is unknown, so a budget cannot be kept")
        predicted, most = paced.output_length.predicted(), asking.max_output_tokens
        cost = Cost(
            paced.tokens.count(asking.text) + asking.image_tokens,
            (min(predicted, most) if most else predicted) * asking.answers,
            most and most * asking.answers,
        )
        hold = await budget.hold(_dearest_usd(paced, asking, cost.input_tokens))
        try:
            if budget.is_capped and asking.unbounded:  # by now it has heard of every cap
                raise ConfigurationError(
                    f"{asking.unbounded}: what it costs is not known before, so no budget and no cap can be kept; "
                    "leave it out, or ask without them"
                )
            pool, reservation = await opening.pools.reserve(cost, not_to)
        except (asyncio.CancelledError, BatchLLMError):
            budget.release(hold)
            raise
        return PacedCall(opening, pool, reservation, hold, asking, paced.clock.monotonic())

    async def _send(self, request: Request, call: PacedCall) -> Completion:
        provider, sending = call.pool.pool.provider, Sending()
        try:
            raw = await provider.send(request, total_s=CALL_S, sending=sending)
        except ProviderError as error:
            if error.error_class is ErrorClass.RATE_LIMITED:
                call.throttled(error.retry_after_s, error.scope)
            else:
                call.refused(error, maybe_paid=error.maybe_paid)
            raise
        except (StopRun, ConfigurationError) as error:  # the key or the quota, or a schema: refused before any work
            call.refused(error, maybe_paid=False)
            raise
        except asyncio.CancelledError as error:  # whether it is billed is not known, once it was sent
            call.refused(error, maybe_paid=sending.phase is not Phase.SIGN_IN)
            raise
        try:
            completion = provider.read(raw.body)
        except ProviderError:
            call.answered(None, raw.headers)
            raise
        call.answered(completion.usage, raw.headers)
        return completion


def is_rate(error: Exception) -> bool:
    """A 429 about a rate or a day's limit."""
    return isinstance(error, ProviderError) and error.error_class is ErrorClass.RATE_LIMITED


def _dearest_usd(paced: PacedProvider, asking: Asking, input_tokens: int) -> Decimal | None:
    """The most that the request can cost; None without a price."""
    if paced.price is None:
        return None
    size_bytes = len(asking.text.encode()) + asking.image_tokens
    input_tokens = paced.tokens.most(input_tokens, size_bytes, framing_allowance(1))
    return paced.price.cost(input_tokens, (asking.max_output_tokens or UNKNOWN_OUTPUT_CAP) * asking.answers, 0)
