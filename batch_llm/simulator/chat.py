"""The chat completions endpoint: key, request, limits, fault, answer, in this order.

Belongs here: the way of one request through the simulator. Not here: each step's rules (their own modules), other
endpoints and the life of the server (server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from batch_llm.simulator.account import UNBILLED, Account, Asked
from batch_llm.simulator.answers import Answer, halved, write_answer
from batch_llm.simulator.bodies import Completed, usage_of
from batch_llm.simulator.chat_request import ChatRequest, read_chat
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.delivery import DRIP_PIECES, Outgoing, deliver
from batch_llm.simulator.dialect import OPENAI, Dialect
from batch_llm.simulator.faults import FaultKind
from batch_llm.simulator.idempotency import HEADER, StoredAnswers
from batch_llm.simulator.limits import Use
from batch_llm.simulator.refusals import INJECTED, overloaded, server_error

__all__ = ["ChatEndpoint"]

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
    """POST /v1/chat/completions of one account."""

    def __init__(self, account: Account, dialect: Dialect = OPENAI) -> None:
        """``account``: whose limits, faults and statistics hold."""
        self._account = account
        self._dialect = dialect
        self._stored = StoredAnswers()

    async def answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Answer one request; raises `Refused` for everything that is not a 200."""
        self._account.check_key(request.headers)
        return await self.answer_body(request, await request.read(), request_id)

    async def answer_body(self, request: web.BaseRequest, raw: bytes, request_id: str) -> web.StreamResponse:
        """As `answer`, for a body that was read and a key that was checked."""
        account = self._account
        key = request.headers.get(HEADER, "") if account.config.idempotency else ""
        if not key:
            return await self._answer(request, raw, request_id)
        stored = self._stored.begin(key, raw)
        if stored is not None:
            account.stats.replay()
            outgoing = Outgoing(list(stored.pieces), {"x-request-id": request_id}, len(stored.pieces) > 1)
            try:
                return await deliver(request, outgoing, account.clock)
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
        account = self._account
        config = account.config
        chat = read_chat(raw, config, self._dialect.count_image)
        answer = write_answer(chat, config)
        attempt = account.stats.next_attempt(chat.prompt)
        fault, variant = account.fate(chat.prompt, attempt)
        reserved = _debited(chat, answer, config)
        asked = Asked(chat.model, (chat.prompt,), Use(chat.prompt_tokens, reserved))
        account.admit(asked, fault)
        fate = _Fate(fault, variant, attempt, request_id, keep)
        try:
            return await account.in_flight(asked, fault, self._answer_admitted(request, chat, answer, fate))
        finally:
            if config.debit == "input_plus_max_tokens_then_corrected" or config.debit_at == "end":
                account.gate.correct(answer.tokens - reserved, account.clock.monotonic())

    async def _answer_admitted(
        self, request: web.BaseRequest, chat: ChatRequest, answer: Answer, fate: _Fate
    ) -> web.StreamResponse:
        fault, variant, attempt, request_id, keep = fate
        account, config = self._account, self._account.config
        headers = self._dialect.headers(account.gate, account.clock.monotonic())
        headers["x-request-id"] = request_id
        if fault is not None:
            account.stats.fault(fault)
            answer = _spoil(answer, fault, config)
        latency_s = account.latency_s(int.from_bytes(chat.entropy[16:24], "big") + attempt)
        wait_s = latency_s + (0.0 if chat.stream else config.token_s * answer.tokens)
        if wait_s > 0:
            await account.clock.sleep(wait_s)
        if fault in (FaultKind.SERVER_ERROR, FaultKind.OVERLOADED):
            refused = server_error() if fault is FaultKind.SERVER_ERROR else overloaded(INJECTED)
            refused.headers.update(headers)
            raise refused
        if fault not in UNBILLED:
            account.stats.bill(chat.prompt_tokens, answer.tokens)
        pieces = self._pieces(chat, answer, fault, variant, attempt)
        if keep is not None and fault not in UNBILLED:
            keep(pieces)
        slow_s = config.drip_s if fault is FaultKind.DRIP else config.token_s * answer.tokens if chat.stream else 0.0
        gap_s = slow_s / (len(pieces) if chat.stream else DRIP_PIECES)
        outgoing = Outgoing(pieces, headers, chat.stream, gap_s, fault, variant)
        response = await deliver(request, outgoing, account.clock)
        if fault in STILL_GOOD and answer.finish_reason == "stop":
            account.stats.answer(chat.prompt)
        return response

    def _pieces(
        self, chat: ChatRequest, answer: Answer, fault: FaultKind | None, variant: int, attempt: int
    ) -> list[bytes]:
        completed = Completed(
            completion_id=f"chatcmpl-{chat.prompt:016x}{attempt:04x}",
            created=int(self._account.clock.now().timestamp()),
            model=chat.model,
            answer=answer,
            usage=usage_of(chat.prompt_tokens, answer, fault, variant),
            dialect=self._dialect,
        )
        whole = self._dialect.whole or Completed.whole
        return completed.chunks(include_usage=chat.include_usage) if chat.stream else [whole(completed)]


def _debited(chat: ChatRequest, answer: Answer, config: SimulatorConfig) -> int:
    """The output tokens taken at admission.

    Source: OpenAI: "the maximum of max_tokens and the estimated number of tokens based on the character count of
    your request" (its rate limits guide, public copies, read 2026-11-21), stricter than which is the sum; Bedrock
    reserves input + max_tokens (unset: the model's maximum) and corrects at the end (its quotas page); Anthropic:
    output "estimated based on max_tokens at the beginning of each request, adjusted at the end",
    https://docs.anthropic.com/en/api/rate-limits (older versions, read 2026-11-21). Debited at the end: "it being
    the responses that count against you", so that parallel calls "vastly exceed your per-minute rate, and then you
    are blocked", https://community.openai.com/t/534923 (read 2026-11-21).
    """
    if config.debit == "actual":
        return answer.tokens if config.debit_at == "admission" else 0
    return chat.max_tokens or config.max_output_tokens


def _spoil(answer: Answer, fault: FaultKind, config: SimulatorConfig) -> Answer:
    if fault is FaultKind.LENGTH:
        return halved(answer, config)
    if fault is FaultKind.EMPTY:
        return Answer("", 0, "stop")
    return answer
