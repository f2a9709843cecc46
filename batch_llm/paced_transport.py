"""The openai SDK behind our limiter: an HTTP transport that reserves before it sends and settles after.

Belongs here: what the SDK's requests take from the limits, and where they are sent. Not here: pacing, money
(paced_client.py), what an error answer means (providers/openai/refusals.py). The SDK sees neither the provider's
address nor its key: both are put in here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
from openai import AsyncOpenAI

from batch_llm.errors import ConfigurationError, ErrorClass, NotYetAvailable, ProviderError
from batch_llm.providers.base import Usage
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.refusals import refusal
from batch_llm.wiring import PacedProvider

if TYPE_CHECKING:
    from batch_llm.paced_client import Opening, PacedCalls

__all__ = ["PacedTransport", "openai_client"]

RATE_LIMITED_ATTEMPTS = 5  # a 429 despite pacing is waited out, but not for ever
CALL_S = 600.0  # the longest call
PLACEHOLDER_URL = "https://paced.invalid/v1"
PLACEHOLDER_KEY = "kept-by-batch-llm"
DROPPED_HEADERS = {"content-encoding", "content-length", "transfer-encoding"}  # the body is handed on whole and plain


def openai_client(calls: PacedCalls) -> AsyncOpenAI:
    """An openai SDK client whose every request passes ``calls``; closing it is optional."""
    return AsyncOpenAI(
        api_key=PLACEHOLDER_KEY,
        base_url=PLACEHOLDER_URL,
        max_retries=0,
        timeout=CALL_S,
        http_client=httpx2.AsyncClient(transport=PacedTransport(calls), timeout=CALL_S),
    )


class PacedTransport(httpx2.AsyncBaseTransport):
    """Sends the SDK's requests at the speed of the limit."""

    def __init__(self, calls: PacedCalls) -> None:
        """``calls``: the limiter, the budget, and where to send."""
        self._calls = calls

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; a 429 about a rate or a day's limit is waited out and sent again.

        Raises `ConfigurationError` for another model than the limiter's, `NotYetAvailable` for embeddings.
        """
        path = request.url.path.removeprefix("/v1")
        body = _body(await request.aread(), path)
        async with self._calls.opened() as opening:
            paced = opening.paced
            endpoint = _endpoint(paced)
            wire = httpx2.Request(
                request.method,
                endpoint.url(path),
                content=_for_endpoint(body, paced, endpoint),
                headers={"content-type": "application/json", **await endpoint.auth_headers()},
            )
            if opening.http is None:
                opening.http = await opening.stack.enter_async_context(httpx2.AsyncClient(timeout=CALL_S))
            answer = await self._send(opening, wire, body)
        return _plain(answer, request)

    async def _send(self, opening: Opening, wire: httpx2.Request, body: Mapping[str, Any]) -> httpx2.Response:
        assert opening.http is not None  # noqa: S101  the caller opened it
        for attempt in range(1, RATE_LIMITED_ATTEMPTS + 1):
            call = await self._calls.begin(opening, _text(body), _cap(body))
            try:
                answer = await opening.http.send(wire)
            except (asyncio.CancelledError, httpx2.HTTPError):  # whether it is billed is not known
                call.refused(maybe_paid=True)
                raise
            headers = {name.lower(): value for name, value in answer.headers.items()}
            if answer.status_code < 300:
                call.answered(_usage(answer.content), headers)
                return answer
            failure = refusal(answer.status_code, headers, answer.content)
            if not isinstance(failure, ProviderError) or failure.error_class is not ErrorClass.RATE_LIMITED:
                call.refused(maybe_paid=False)
                return answer
            call.throttled(failure.retry_after_s, failure.scope)
            if attempt == RATE_LIMITED_ATTEMPTS:
                return answer
        raise AssertionError("unreachable: the last attempt returns")


def _body(content: bytes, path: str) -> dict[str, Any]:
    if path.startswith("/embeddings"):
        raise NotYetAvailable("embeddings are not yet available")
    if not content:
        return {}
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise NotYetAvailable(f"{path}: only requests with a JSON body can be paced (no uploads)") from None
    return body if isinstance(body, dict) else {}


def _endpoint(paced: PacedProvider) -> OpenAIEndpoint:
    if paced.endpoint is None:
        raise ConfigurationError(f"{paced.model_name} does not speak as OpenAI does: use `complete`, not its SDK")
    return paced.endpoint


def _for_endpoint(body: Mapping[str, Any], paced: PacedProvider, endpoint: OpenAIEndpoint) -> bytes:
    """The body with the model's name as the endpoint wants it."""
    if not body:
        return b""
    model = body.get("model")
    wire_name = endpoint.wire_model(paced.model_name)
    if model not in (None, paced.model_name, wire_name):
        raise ConfigurationError(
            f"this client is paced for the model {paced.model_name!r}, not {model!r}: make an LLMResource of its own "
            "for that one"
        )
    return orjson.dumps({**body, "model": wire_name})


def _text(body: Mapping[str, Any]) -> str:
    """What becomes input tokens, roughly: the texts of the request."""
    found: list[str] = []
    todo: list[Any] = [body.get(name) for name in ("messages", "input", "instructions", "prompt", "tools")]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return " ".join(found)


def _cap(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if isinstance(body.get(name), int):
            return int(body[name])
    return None


def _usage(content: bytes) -> Usage | None:
    """The usage of an answer of the chat or responses API; None when it states none (a streamed one)."""
    try:
        usage = orjson.loads(content)["usage"]
        names = (
            ("prompt_tokens", "completion_tokens") if "prompt_tokens" in usage else ("input_tokens", "output_tokens")
        )
        return Usage(int(usage[names[0]]), int(usage[names[1]]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _plain(answer: httpx2.Response, request: httpx2.Request) -> httpx2.Response:
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in DROPPED_HEADERS]
    return httpx2.Response(answer.status_code, headers=headers, content=answer.content, request=request)
