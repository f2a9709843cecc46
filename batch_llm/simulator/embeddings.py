"""The embeddings endpoint: key, request, limits, fault, vectors, in this order.

Belongs here: the way of one request for vectors through the simulator, its JSON. Not here: reading it
(embedding_request.py), the numbers (vectors.py), what the account enforces (account.py).
Source: openai 3.54.0, types/create_embedding_response.py, types/embedding.py, lib/_parsing/_embeddings.py (base64 is
little-endian float32) (read 2026-11-28).
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
from aiohttp import web

from batch_llm.simulator.account import UNBILLED, Account, Asked
from batch_llm.simulator.delivery import DRIP_PIECES, Outgoing, deliver
from batch_llm.simulator.dialect import OPENAI, Dialect
from batch_llm.simulator.embedding_request import EmbeddingsRequest, read_embeddings
from batch_llm.simulator.faults import FaultKind
from batch_llm.simulator.limits import Use
from batch_llm.simulator.refusals import INJECTED, overloaded, server_error
from batch_llm.simulator.vectors import unit_vector

__all__ = ["EmbeddingsEndpoint"]

# The client gets every vector: with a usage it must not believe, or late.
STILL_GOOD = frozenset({None, FaultKind.USAGE, FaultKind.DRIP})


class EmbeddingsEndpoint:
    """POST /v1/embeddings of one account."""

    def __init__(self, account: Account, dialect: Dialect = OPENAI) -> None:
        """``account``: whose limits, faults and statistics hold."""
        self._account = account
        self._dialect = dialect

    async def answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Answer one request; raises `Refused` for everything that is not a 200."""
        self._account.check_key(request.headers)
        return await self.answer_body(request, await request.read(), request_id)

    async def answer_body(self, request: web.BaseRequest, raw: bytes, request_id: str) -> web.StreamResponse:
        """As `answer`, for a body that was read and a key that was checked."""
        account = self._account
        wanted = read_embeddings(raw, account.config)
        attempt = max(map(account.stats.next_attempt, wanted.prompts))
        fault, variant = account.fate(wanted.whole, attempt)
        requests = len(wanted.prompts) if self._dialect.text_is_request else 1
        asked = Asked(wanted.model, wanted.prompts, Use(wanted.tokens, requests=float(requests)))
        account.admit(asked, fault)
        answering = self._answer_admitted(request, wanted, (fault, variant, attempt), request_id)
        return await account.in_flight(asked, fault, answering)

    async def _answer_admitted(
        self,
        request: web.BaseRequest,
        wanted: EmbeddingsRequest,
        fate: tuple[FaultKind | None, int, int],
        request_id: str,
    ) -> web.StreamResponse:
        fault, variant, attempt = fate
        account = self._account
        headers = self._dialect.headers(account.gate, account.clock.monotonic())
        headers["x-request-id"] = request_id
        if fault is not None:
            account.stats.fault(fault)
        wait_s = account.latency_s(wanted.whole + attempt)
        if wait_s > 0:
            await account.clock.sleep(wait_s)
        if fault in (FaultKind.SERVER_ERROR, FaultKind.OVERLOADED):
            refused = server_error() if fault is FaultKind.SERVER_ERROR else overloaded(INJECTED)
            refused.headers.update(headers)
            raise refused
        if fault not in UNBILLED:
            account.stats.bill(wanted.tokens, 0)
        gap_s = account.config.drip_s / DRIP_PIECES if fault is FaultKind.DRIP else 0.0
        listed = _body(wanted, account.config.seed, fault, variant)
        body = listed if self._dialect.vectors is None else self._dialect.vectors(listed)
        written = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        outgoing = Outgoing([written], headers, streamed=False, gap_s=gap_s, fault=fault, variant=variant)
        response = await deliver(request, outgoing, account.clock)
        if fault in STILL_GOOD:
            for prompt in wanted.prompts:
                account.stats.answer(prompt)
        return response


def _body(wanted: EmbeddingsRequest, seed: int, fault: FaultKind | None, variant: int) -> dict[str, Any]:
    """The list of vectors; a fault that cuts or empties a chat's text leaves half of them, or none."""
    kept = {FaultKind.LENGTH: len(wanted.contents) // 2, FaultKind.EMPTY: 0}
    contents = wanted.contents[: kept[fault]] if fault in kept else wanted.contents
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": _written(content, wanted, seed)}
            for number, content in enumerate(contents)
        ],
        "model": wanted.model,
    }
    usage = _usage(wanted.tokens, fault, variant)
    if usage is not None:
        body["usage"] = usage
    return body


def _written(content: bytes, wanted: EmbeddingsRequest, seed: int) -> Any:
    vector = unit_vector(content, wanted.model, seed, wanted.dimensions)
    return base64.b64encode(vector).decode() if wanted.is_base64 else np.frombuffer(vector, dtype=np.float32)


def _usage(tokens: int, fault: FaultKind | None, variant: int) -> dict[str, int] | None:
    """The usage object; spoiled when the fault says so: negative, absurd or absent."""
    if fault is FaultKind.USAGE:
        if variant % 3 == 0:
            return None
        tokens = -tokens if variant % 3 == 1 else 10**12
    return {"prompt_tokens": tokens, "total_tokens": tokens}
