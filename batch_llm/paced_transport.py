"""The openai SDK behind our limiter: an HTTP transport that reserves before it sends and settles after.

Belongs here: what the SDK's requests take from the limits, and where they are sent. Not here: pacing, money
(paced_client.py), what an error answer means (providers/openai/refusals.py). The SDK sees neither the provider's
address nor its key: both are put in here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
from openai import AsyncOpenAI

from batch_llm.errors import BatchLLMError, ConfigurationError, ErrorClass, NotYetAvailable, ProviderError, StopRun
from batch_llm.paced_client import Asking, is_rate
from batch_llm.paced_pools import OpenCallPool
from batch_llm.providers.openai import sdk_request
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.refusals import refusal
from batch_llm.providers.openai.usage import usage_in
from batch_llm.providers.refused import refused, scrubbed
from batch_llm.wiring import PacedPool, PacedProvider

if TYPE_CHECKING:
    from batch_llm.paced_client import Opening, PacedCall, PacedCalls

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
            _check(body, opening.paced)
            if opening.http is None:
                opening.http = await opening.stack.enter_async_context(httpx2.AsyncClient(timeout=CALL_S))
            answer = await self._send(opening, _Asked(request.method, path, body))
        return _plain(answer, request)

    async def _send(self, opening: Opening, asked: _Asked) -> httpx2.Response:
        """Send until the answer is the caller's: not a 429, and of no pool that cannot go on while another can."""
        asking = _asking(asked.body, opening.paced.model_name)
        not_to: OpenCallPool | None = None
        for attempt in range(1, RATE_LIMITED_ATTEMPTS + 1):
            call = await self._calls.begin(opening, asking, not_to)
            not_to = call.pool
            try:
                answer, failure = await _attempt(opening, call, asked)
            except (ProviderError, StopRun, httpx2.HTTPError) as error:
                failure = _failure(error) if isinstance(error, httpx2.HTTPError) else error
                if attempt == RATE_LIMITED_ATTEMPTS or not call.can_go_elsewhere(failure):
                    raise
                continue
            again = failure is not None and (is_rate(failure) or call.can_go_elsewhere(failure))
            if not again or attempt == RATE_LIMITED_ATTEMPTS:
                return answer
        raise AssertionError("unreachable: the last attempt returns")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the SDK asks."""

    method: str
    path: str  # behind the address of the API
    body: dict[str, Any]


async def _attempt(opening: Opening, call: PacedCall, asked: _Asked) -> tuple[httpx2.Response, Exception | None]:
    """Ask the call's pool once, and end the call: the answer, and what it means if it is not a good one."""
    assert opening.http is not None  # noqa: S101  the caller opened it
    try:
        endpoint = _endpoint(call.pool.pool, opening.paced)
        headers = {"content-type": "application/json", **await endpoint.auth_headers()}
        content = orjson.dumps({**asked.body, "model": _wire_model(opening.paced, endpoint)}) if asked.body else b""
    except (asyncio.CancelledError, BatchLLMError) as error:  # nobody is signed in (yet): nothing was sent
        call.refused(error, maybe_paid=False)
        raise
    wire = httpx2.Request(asked.method, endpoint.url(asked.path), content=content, headers=headers)
    try:
        answer = await opening.http.send(wire)
    except asyncio.CancelledError as error:  # whether it is billed is not known
        call.refused(error, maybe_paid=True)
        raise
    except httpx2.HTTPError as error:  # likewise, unless nobody was reached
        lost = _failure(error)
        call.refused(lost, maybe_paid=lost.maybe_paid)
        raise
    told = {name.lower(): value for name, value in answer.headers.items()}
    if answer.status_code < 300:
        call.answered(usage_in(answer.content), told)
        return answer, None
    failure = refused(refusal, answer.status_code, told, answer.content)
    if isinstance(failure, ProviderError) and failure.error_class is ErrorClass.RATE_LIMITED:
        call.throttled(failure.retry_after_s, failure.scope)
    else:
        call.refused(failure, maybe_paid=False)
    return answer, failure


def _failure(error: httpx2.HTTPError) -> ProviderError:
    """What an exchange means that did not come to an answer."""
    unreached = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
    return ProviderError(ErrorClass.CONNECTION, f"{type(error).__name__}: {error}", maybe_paid=not unreached)


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


def _endpoint(pool: PacedPool, paced: PacedProvider) -> OpenAIEndpoint:
    if pool.endpoint is None:
        raise ConfigurationError(f"{paced.model_name} does not speak as OpenAI does: use `complete`, not its SDK")
    return pool.endpoint


def _wire_model(paced: PacedProvider, endpoint: OpenAIEndpoint) -> str:
    """The model's name as the endpoint wants it."""
    return endpoint.wire_model(paced.model_name)


def _check(body: Mapping[str, Any], paced: PacedProvider) -> None:
    """Raise `ConfigurationError` for another model than the limiters', before anything is reserved."""
    names = {paced.model_name, *(_wire_model(paced, _endpoint(pool, paced)) for pool in paced.pools)}
    model = body.get("model")
    if model is not None and model not in names:
        raise ConfigurationError(
            f"this client is paced for the model {paced.model_name!r}, not {model!r}: make an LLMResource of its own "
            "for that one"
        )


def _asking(body: Mapping[str, Any], model: str) -> Asking:
    """What the request may be billed as."""
    return Asking(
        sdk_request.text(body),
        sdk_request.cap(body),
        sdk_request.answers(body),
        sdk_request.images_tokens(body, model),
        sdk_request.unbounded(body),
    )


def _plain(answer: httpx2.Response, request: httpx2.Request) -> httpx2.Response:
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in DROPPED_HEADERS]
    content = answer.content if answer.is_success else scrubbed(answer.content)
    return httpx2.Response(answer.status_code, headers=headers, content=content, request=request)
