"""The chat completions endpoint: key, request, limits, fault, answer, in this order.

Belongs here: the way of one request through the simulator. Not here: each step's rules (their own modules), other
endpoints and the life of the server (server.py).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from batch_llm.clock import Clock
from batch_llm.simulator.answers import Answer, halved, write_answer
from batch_llm.simulator.bodies import Completed, usage_of
from batch_llm.simulator.chat_request import ChatRequest, read_chat
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.delivery import DRIP_PIECES, Outgoing, deliver
from batch_llm.simulator.draws import Draw, lognormal
from batch_llm.simulator.faults import CLOSES, FaultKind, FaultPlan
from batch_llm.simulator.idempotency import HEADER, StoredAnswers
from batch_llm.simulator.limits import LIMIT_NAMES, Gate, Use
from batch_llm.simulator.refusals import (
    INJECTED,
    injected_rate_limit,
    insufficient_quota,
    missing_key,
    over_limit,
    overloaded,
    server_error,
    wrong_key,
)
from batch_llm.simulator.stats import Stats

__all__ = ["ChatEndpoint"]

UNBILLED = frozenset({FaultKind.SERVER_ERROR, FaultKind.OVERLOADED, FaultKind.RESET, FaultKind.HANG})
# The client gets the whole good text: with a usage it must not believe, or late.
STILL_GOOD = frozenset({None, FaultKind.USAGE, FaultKind.DRIP})


class _Fate(NamedTuple):
    """What becomes of an attempt that was admitted."""

    fault: FaultKind | None
    variant: int
    attempt: int
    request_id: str
    keep: Callable[[list[bytes]], None] | None  # remembers the billed answer under the request's key


class ChatEndpoint:
    """One simulated account: its limits, its faults, its statistics."""

    def __init__(self, config: SimulatorConfig, clock: Clock) -> None:
        """Everything unused, counted from now on."""
        self.config = config
        self.stats = Stats(clock.monotonic())
        self.gate = Gate(config, clock.monotonic(), unix_s=clock.now().timestamp())
        self._clock = clock
        self._plan = FaultPlan(config.seed, config.faults)
        self._credit_used = 0
        self._stored = StoredAnswers()

    def configure(self, config: SimulatorConfig) -> None:
        """Behave like this from the next request on; what is used of a limit stays used."""
        plan = FaultPlan(config.seed, config.faults)
        watched = (*LIMIT_NAMES, "burst_s", "window_s", "day_resets_s", "count_rejected")
        if any(getattr(config, name) != getattr(self.config, name) for name in watched):
            unix_s = self._clock.now().timestamp()
            self.gate = Gate(config, self._clock.monotonic(), before=self.gate, unix_s=unix_s)
        self._plan = plan
        self.config = config

    def reset(self) -> None:
        """Forget statistics, attempts and spent credit; the limits keep what is used of them."""
        self.stats.restart(self._clock.monotonic())
        self.gate.count_anew()
        self._credit_used = 0

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise `Refused` (401) unless the request carries an acceptable key."""
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise missing_key()
        wanted = self.config.api_key
        if wanted is not None and not hmac.compare_digest(key.encode(), wanted.get_secret_value().encode()):
            raise wrong_key(key)

    async def answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Answer one request; raises `Refused` for everything that is not a 200."""
        self.check_key(request.headers)
        raw = await request.read()
        key = request.headers.get(HEADER, "") if self.config.idempotency else ""
        if not key:
            return await self._answer(request, raw, request_id)
        stored = self._stored.begin(key, raw)
        if stored is not None:
            self.stats.replay()
            outgoing = Outgoing(list(stored.pieces), {"x-request-id": request_id}, len(stored.pieces) > 1)
            try:
                return await deliver(request, outgoing, self._clock)
            except ConnectionError:
                return web.Response()  # nobody is there to read it
        try:
            return await self._answer(request, raw, request_id, lambda pieces: self._stored.keep(key, pieces))
        finally:
            self._stored.end(key)

    async def _answer(
        self,
        request: web.BaseRequest,
        raw: bytes,
        request_id: str,
        keep: Callable[[list[bytes]], None] | None = None,
    ) -> web.StreamResponse:
        config = self.config
        chat = read_chat(raw, config)
        answer = write_answer(chat, config)
        attempt = self.stats.next_attempt(chat.prompt)
        fault, variant = self._plan.draw(chat.prompt, attempt)
        reserved = self._admit(chat, answer, fault)
        self.stats.begin()
        try:
            fate = _Fate(fault, variant, attempt, request_id, keep)
            return await self._answer_admitted(request, chat, answer, fate)
        except asyncio.CancelledError:
            if fault not in CLOSES:
                self.stats.closed(chat.prompt)
            raise
        except ConnectionError:
            self.stats.closed(chat.prompt)
            return web.Response()  # nobody is there to read it; aiohttp drops it quietly
        finally:
            self.stats.end()
            if config.debit == "input_plus_max_tokens_then_corrected" or config.debit_at == "end":
                self.gate.correct(answer.tokens - reserved, self._clock.monotonic())

    def _admit(self, chat: ChatRequest, answer: Answer, fault: FaultKind | None) -> int:
        """Count the request against every limit; returns the output tokens debited.

        Source: OpenAI: "the maximum of max_tokens and the estimated number of tokens based on the character count of
        your request" (its rate limits guide, public copies, read 2026-11-21), stricter than which is the sum; Bedrock
        reserves input + max_tokens (unset: the model's maximum) and corrects at the end (its quotas page); Anthropic:
        output "estimated based on max_tokens at the beginning of each request, adjusted at the end",
        https://docs.anthropic.com/en/api/rate-limits (older versions, read 2026-11-21). Debited at the end: "it being
        the responses that count against you", so that parallel calls "vastly exceed your per-minute rate, and then you
        are blocked", https://community.openai.com/t/534923 (read 2026-11-21).
        """
        config, stats, now_s = self.config, self.stats, self._clock.monotonic()
        if config.max_concurrency is not None and stats.in_flight >= config.max_concurrency:
            raise overloaded("max_concurrency")
        if config.quota_requests is not None and self._credit_used >= config.quota_requests:
            raise insufficient_quota()
        if fault is FaultKind.RATE_LIMIT:
            stats.attempt(chat.prompt)
            stats.fault(fault)
            refused = injected_rate_limit(chat.model, config.fault_retry_after_s)
            refused.headers.update(self.gate.headers(now_s))
            raise refused
        if config.debit == "actual":
            output_tokens = answer.tokens if config.debit_at == "admission" else 0
        else:
            output_tokens = chat.max_tokens or config.max_output_tokens
        overrun = self.gate.admit(Use(chat.prompt_tokens, output_tokens), now_s)
        if overrun is not None:
            refused = over_limit(chat.model, overrun)
            refused.headers.update(self.gate.headers(now_s))
            raise refused
        self._credit_used += 1
        stats.attempt(chat.prompt)
        stats.accept(now_s)
        return output_tokens

    async def _answer_admitted(
        self, request: web.BaseRequest, chat: ChatRequest, answer: Answer, fate: _Fate
    ) -> web.StreamResponse:
        fault, variant, attempt, request_id, keep = fate
        config = self.config
        headers = self.gate.headers(self._clock.monotonic())
        headers["x-request-id"] = request_id
        if fault is not None:
            self.stats.fault(fault)
            answer = _spoil(answer, fault, config)
        wait_s = self._latency_s(chat, attempt) + (0.0 if chat.stream else config.token_s * answer.tokens)
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        if fault in (FaultKind.SERVER_ERROR, FaultKind.OVERLOADED):
            refused = server_error() if fault is FaultKind.SERVER_ERROR else overloaded(INJECTED)
            refused.headers.update(headers)
            raise refused
        if fault not in UNBILLED:
            self.stats.bill(chat.prompt_tokens, answer.tokens)
        pieces = self._pieces(chat, answer, fault, variant, attempt)
        if keep is not None and fault not in UNBILLED:
            keep(pieces)
        slow_s = config.drip_s if fault is FaultKind.DRIP else config.token_s * answer.tokens if chat.stream else 0.0
        gap_s = slow_s / (len(pieces) if chat.stream else DRIP_PIECES)
        outgoing = Outgoing(pieces, headers, chat.stream, gap_s, fault, variant)
        response = await deliver(request, outgoing, self._clock)
        if fault in STILL_GOOD and answer.finish_reason == "stop":
            self.stats.answer(chat.prompt)
        return response

    def _latency_s(self, chat: ChatRequest, attempt: int) -> float:
        if self.config.latency_median_s <= 0:
            return 0.0
        draw = Draw(int.from_bytes(chat.entropy[16:24], "big") + attempt)
        return lognormal(draw, self.config.latency_median_s, self.config.latency_sigma)

    def _pieces(
        self, chat: ChatRequest, answer: Answer, fault: FaultKind | None, variant: int, attempt: int
    ) -> list[bytes]:
        completed = Completed(
            completion_id=f"chatcmpl-{chat.prompt:016x}{attempt:04x}",
            created=int(self._clock.now().timestamp()),
            model=chat.model,
            answer=answer,
            usage=usage_of(chat.prompt_tokens, answer, fault, variant),
        )
        return completed.chunks(include_usage=chat.include_usage) if chat.stream else [completed.whole()]


def _spoil(answer: Answer, fault: FaultKind, config: SimulatorConfig) -> Answer:
    if fault is FaultKind.LENGTH:
        return halved(answer, config)
    if fault is FaultKind.EMPTY:
        return Answer("", 0, "stop")
    return answer
