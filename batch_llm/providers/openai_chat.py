"""OpenAI's chat completions over aiohttp, for OpenAI itself, everything compatible with it, and the simulator.

Belongs here: the request's and answer's JSON, sending. Not here: what an error answer means (openai_refusals.py),
trying again (engine/retry.py), pacing (limiter).
Source: https://platform.openai.com/docs/api-reference/chat (read 2026-11-21).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from pydantic import SecretStr

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Completion, Phase, RawAnswer, Request, Sending, Usage
from batch_llm.providers.openai_refusals import refusal
from batch_llm.providers.structured_output import StructureMode, instructed, response_format

__all__ = ["OpenAIChatProvider", "OpenAIEndpoint"]

CONNECT_S = 30.0  # for a connection to stand
DNS_S = 30  # a looked-up address is used so long: a provider that moved is found again soon
ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense
FINISH_REASONS = {"stop", "length", "content_filter"}


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where to send, and how this endpoint differs from OpenAI's own."""

    base_url: str  # ends in /v1
    api_key: SecretStr | None
    cap_parameter: str = "max_completion_tokens"  # older servers know only max_tokens
    model_prefix: str = ""  # put before the model's name on the wire
    structure: StructureMode = StructureMode.JSON_SCHEMA  # how it is told the answer's schema
    idempotency_header: str | None = None  # which header names an attempt, so that it is billed once; None: none does


class OpenAIChatProvider:
    """One endpoint, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: OpenAIEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        self._url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._session: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)

    @property
    def endpoint(self) -> OpenAIEndpoint:
        """Where this provider sends."""
        return self._endpoint

    async def __aenter__(self) -> OpenAIChatProvider:
        """Open the connection pool; calls in flight are bounded by the engine, not here."""
        headers = {"Content-Type": "application/json"}
        if self._endpoint.api_key is not None:
            headers["Authorization"] = f"Bearer {self._endpoint.api_key.get_secret_value()}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_S),
            cookie_jar=aiohttp.DummyCookieJar(),  # an API that sets cookies would have them looked up for every call
            headers=headers,
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self, request: Request, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `Provider.send`."""
        if self._session is None:
            raise RuntimeError("open the provider with `async with` first")
        began = time.monotonic()
        timeout = self._timeout if total_s is None else aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S)
        try:
            async with self._session.post(
                self._url,
                data=self._body(request),
                headers=self._headers(request),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                began_to_answer = time.monotonic()
                if sending is not None:
                    sending.phase = Phase.BODY
                body = await response.read()
        except aiohttp.ConnectionTimeoutError:
            raise ProviderError(ErrorClass.CONNECTION, f"cannot connect: no connection in {CONNECT_S:.0f} s") from None
        except TimeoutError:
            raise ProviderError(
                ErrorClass.TIMEOUT, f"no whole answer within {total_s or 0:.0f} s", maybe_paid=True
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise ProviderError(ErrorClass.CONNECTION, f"cannot connect: {error.os_error.strerror or error}") from None
        except aiohttp.ClientError as error:
            message = f"the connection broke: {type(error).__name__}"
            raise ProviderError(ErrorClass.CONNECTION, message, maybe_paid=True) from None
        if response.status >= 300:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise refusal(response.status, headers, body)
        return RawAnswer(body, response.headers, time.monotonic() - began, began_to_answer - began)

    def read(self, body: bytes) -> Completion:
        """See `Provider.read`."""
        try:
            data = orjson.loads(body)
            choice = data["choices"][0]
            message = choice["message"]
            text = message.get("content")
            refusal = message.get("refusal")
            reason = choice.get("finish_reason")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            raise ProviderError(ErrorClass.MALFORMED, "the answer is not a chat completion", maybe_paid=True) from None
        if refusal:
            reason = "refusal"
        elif reason not in FINISH_REASONS:
            reason = "other"
        return Completion(
            text=text if isinstance(text, str) else "",
            finish_reason=reason,
            usage=_usage(data.get("usage")),
            model=str(data.get("model") or ""),
        )

    def _headers(self, request: Request) -> dict[str, str] | None:
        """The attempt's name where the endpoint honours one: the same again when it is repeated after a crash."""
        header = self._endpoint.idempotency_header
        return None if header is None else {header: f"{request.custom_id}-{request.attempt}"}

    def _body(self, request: Request) -> bytes:
        mode = self._endpoint.structure
        messages = instructed(request.messages, request.json_schema, mode)
        body: dict[str, Any] = {
            "model": self._endpoint.model_prefix + request.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
        }
        for name, value in request.params.items():
            body[self._endpoint.cap_parameter if name == "max_output_tokens" else name] = value
        form = response_format(request.json_schema, mode)
        if form is not None:
            body["response_format"] = form
        return orjson.dumps(body)


def _usage(data: object) -> Usage | None:
    """The usage an answer states; None when it is absent or cannot be true."""
    if not isinstance(data, dict):
        return None
    given, made = data.get("prompt_tokens"), data.get("completion_tokens")
    if not (
        isinstance(given, int) and isinstance(made, int) and 0 <= given < ABSURD_TOKENS and 0 <= made < ABSURD_TOKENS
    ):
        return None
    if isinstance(data.get("total_tokens"), int) and data["total_tokens"] != given + made:
        return None
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cached_input_tokens=_detail(data, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(data, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(usage: dict[str, Any], part: str, name: str) -> int:
    """A number inside a part of the usage; 0 where it is absent or nonsense, for the total is what is billed."""
    details = usage.get(part)
    value = details.get(name) if isinstance(details, dict) else None
    return value if isinstance(value, int) and 0 <= value < ABSURD_TOKENS else 0
