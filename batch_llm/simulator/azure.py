"""The same account, spoken to as Azure OpenAI is: deployments, api-version, api-key, refusals and headers of its own.

Belongs here: what Azure does otherwise than OpenAI, each rule with its source. Not here: what both do alike (chat.py,
embeddings.py), how a limit counts (meters.py). Tokens of Entra ID are taken as they come: nobody here can check one.
"""

from __future__ import annotations

import hmac
import math
import re
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from batch_llm.simulator.account import Account
from batch_llm.simulator.azure_refusals import (
    content_filter,
    deployment_not_found,
    no_token,
    over_limit,
    resource_not_found,
    unrecognized,
    wrong_key,
)
from batch_llm.simulator.chat import ChatEndpoint
from batch_llm.simulator.dialect import Dialect
from batch_llm.simulator.embeddings import EmbeddingsEndpoint
from batch_llm.simulator.limits import Gate
from batch_llm.simulator.meters import SLACK
from batch_llm.simulator.refusals import Refused

__all__ = ["ROOT", "AzureEndpoints"]

ROOT = "/openai/"
PREFIX = "simulator-"  # of deployments; a slash cannot stand in an address
_PATH = re.compile(r"/openai/(?:v1|deployments/(?P<deployment>[^/]+))/(?P<operation>chat/completions|embeddings)")
_DATED = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview)?")
_SAFE = {"filtered": False, "severity": "safe"}
_VERDICT = dict.fromkeys(("hate", "self_harm", "sexual", "violence"), _SAFE)
CAP_RENAMED = "2024-09-01"


def _headers(gate: Gate, now_s: float) -> dict[str, str]:
    """What is left of one window: requests of 1 or 10 seconds, tokens of a minute. No reset is told.

    Source: https://github.com/microsoft/copilot-camp/issues/551 (8,000 tokens per minute, so 48 requests: limit 8,
    remaining 7), https://learn.microsoft.com/answers/questions/2156987 (300 requests per minute: limit 50) (read
    2026-11-28).
    """
    headers = {}
    for scope in ("requests", "tokens"):
        left = gate.left(f"{scope}_per_minute", now_s)
        if left is not None:
            headers[f"x-ratelimit-limit-{scope}"] = f"{left.window:.0f}"
            headers[f"x-ratelimit-remaining-{scope}"] = f"{math.floor(left.free + SLACK)}"
    return headers


# Source: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (annotations of prompts and of
# completions), the categories as in https://github.com/openai/openai-dotnet/issues/55 (read 2026-11-28).
AZURE = Dialect(
    headers=_headers,
    completion={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _VERDICT}]},
    choice={"content_filter_results": _VERDICT},
)


@dataclass(frozen=True, slots=True)
class _Called:
    """What the address of a request says."""

    operation: str  # chat/completions | embeddings
    version: str  # a date, or v1
    deployment: str | None  # None: the body's model says it

    @property
    def name(self) -> str:
        """What refusals call the operation."""
        return "Embeddings_Create" if self.operation == "embeddings" else "ChatCompletions_Create"


class AzureEndpoints:
    """Both forms of address of one account: `/openai/deployments/<name>/..?api-version=` and `/openai/v1/..`."""

    def __init__(self, account: Account) -> None:
        """``account``: whose limits, faults and statistics hold."""
        self._account = account
        self._chat = ChatEndpoint(account, AZURE)
        self._embeddings = EmbeddingsEndpoint(account, AZURE)

    async def answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Answer one request; raises `Refused` for everything that is not a 200."""
        called = _called(request)
        self._check_key(request, called)
        raw = self._for_model(await request.read(), called)
        answering = self._embeddings if called.operation == "embeddings" else self._chat
        try:
            return await answering.answer_body(request, raw, request_id)
        except Refused as refused:
            if refused.status != 429 or refused.code == "insufficient_quota":
                raise
            said = over_limit(refused, called.name, called.version)
            said.headers.update(_headers(self._account.gate, self._account.clock.monotonic()))
            raise said from None

    def _check_key(self, request: web.BaseRequest, called: _Called) -> None:
        """The header api-key; else a bearer token, which the v1 API takes a key for as well.

        Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (v1: the key as the openai
        SDK's api_key, which sends it as a bearer token); the refusals: azure_refusals.py (read 2026-11-28).
        """
        wanted = self._account.config.api_key
        key = request.headers.get("api-key", "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        has_token = scheme.lower() == "bearer" and bool(token.strip())
        if not key and not has_token:
            raise no_token()
        if wanted is None:
            return
        if not key and called.version != "v1":
            raise no_token()
        if not hmac.compare_digest((key or token).encode(), wanted.get_secret_value().encode()):
            raise wrong_key()

    def _for_model(self, raw: bytes, called: _Called) -> bytes:
        """The body as OpenAI would get it: with the model behind the deployment."""
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
        if not isinstance(body, dict):
            return raw
        deployment = body.get("model") if called.deployment is None else called.deployment
        if not isinstance(deployment, str) or not deployment.removeprefix(PREFIX) or not deployment.startswith(PREFIX):
            raise deployment_not_found()
        if called.version < CAP_RENAMED and "max_completion_tokens" in body:
            raise unrecognized("max_completion_tokens")
        self._filter(body)
        return orjson.dumps({**body, "model": f"simulator/{deployment.removeprefix(PREFIX)}"})

    def _filter(self, body: dict[str, Any]) -> None:
        words = self._account.config.filtered_words
        if words:
            text = orjson.dumps([body.get("messages"), body.get("input")]).decode()
            if any(word in text for word in words):
                raise content_filter()


def _called(request: web.BaseRequest) -> _Called:
    """What is asked for; a path, method or api-version that is unknown is a resource that is not there.

    Source: https://github.com/MicrosoftDocs/azure-docs/issues/114602, https://github.com/ThinkInAIXYZ/deepchat/issues/262
    (no api-version), https://github.com/langchain-ai/langchain/issues/13284 (one that is none) (read 2026-11-28).
    """
    found = _PATH.fullmatch(request.path)
    if found is None or request.method != "POST":
        raise resource_not_found()
    if found["deployment"] is None:
        return _Called(found["operation"], "v1", None)
    version = request.query.get("api-version", "")
    if not _DATED.fullmatch(version):
        raise resource_not_found()
    return _Called(found["operation"], version, found["deployment"])
