"""OpenAI's chat completions over aiohttp, for OpenAI itself, everything compatible with it, and the simulator.

Belongs here: the request's and answer's JSON, mapping what goes wrong onto our errors by status and code.
Not here: trying again (engine/retry.py), pacing (limiter).
Source: https://platform.openai.com/docs/api-reference/chat (read 2026-11-21),
https://platform.openai.com/docs/guides/error-codes (read 2026-11-21).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from pydantic import SecretStr

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.base import Completion, RawAnswer, Request, Usage

__all__ = ["OpenAIChatProvider", "OpenAIEndpoint"]

ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense
MESSAGE_CHARACTERS = 300  # of a provider's error text that is kept
QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
CONTEXT_CODES = {"context_length_exceeded", "string_above_max_length", "request_too_large"}
FINISH_REASONS = {"stop", "length", "content_filter"}


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where to send, and how this endpoint differs from OpenAI's own."""

    base_url: str  # ends in /v1
    api_key: SecretStr | None
    cap_parameter: str = "max_completion_tokens"  # older servers know only max_tokens
    model_prefix: str = ""  # put before the model's name on the wire


class OpenAIChatProvider:
    """One endpoint, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: OpenAIEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        self._url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._session: aiohttp.ClientSession | None = None

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
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300), headers=headers, auto_decompress=True
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request, *, total_s: float) -> RawAnswer:
        """See `Provider.send`."""
        if self._session is None:
            raise RuntimeError("open the provider with `async with` first")
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=min(30.0, total_s))
        try:
            async with self._session.post(
                self._url, data=self._body(request), timeout=timeout, allow_redirects=False
            ) as response:
                body = await response.read()
                headers = {name.lower(): value for name, value in response.headers.items()}
                status = response.status
        except TimeoutError:
            raise ProviderError(
                ErrorClass.TIMEOUT, f"no whole answer within {total_s:.0f} s", maybe_paid=True
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise ProviderError(ErrorClass.CONNECTION, f"cannot connect: {error.os_error.strerror or error}") from None
        except aiohttp.ClientError as error:
            message = f"the connection broke: {type(error).__name__}"
            raise ProviderError(ErrorClass.CONNECTION, message, maybe_paid=True) from None
        if status >= 300:
            raise _error(status, headers, body)
        return RawAnswer(body=body, headers=headers, latency_s=time.monotonic() - began)

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

    def _body(self, request: Request) -> bytes:
        body: dict[str, Any] = {
            "model": self._endpoint.model_prefix + request.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        }
        for name, value in request.params.items():
            body[self._endpoint.cap_parameter if name == "max_output_tokens" else name] = value
        if request.json_schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": request.json_schema},
            }
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


def _error(status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """What a status and code mean; texts are only shown, never decided upon."""
    code, kind, message = _error_fields(body)
    shown = f"HTTP {status}{f' {code}' if code else ''}: {message}" if message else f"HTTP {status}"
    if status == 429:
        return _too_many(code, kind, shown, headers)
    if status == 403 and b'"flagged_input"' in body:  # OpenRouter: moderation of this very prompt
        return ProviderError(ErrorClass.CONTENT_FILTER, shown)
    if status in (401, 403):
        return AuthenticationFailed(f"the provider refused the key (HTTP {status}{f' {code}' if code else ''})")
    if status == 402 or code in QUOTA_CODES:
        return QuotaExhausted(shown)
    if status in (503, 529):
        return ProviderError(ErrorClass.OVERLOADED, shown, retry_after_s=_retry_after_s(headers))
    if status in (408, 409) or status >= 500:
        return ProviderError(ErrorClass.SERVER_ERROR, shown, retry_after_s=_retry_after_s(headers))
    if status == 413 or code in CONTEXT_CODES:
        return ProviderError(ErrorClass.TOO_LARGE, shown)
    if code == "content_filter" or kind == "content_filter":
        return ProviderError(ErrorClass.CONTENT_FILTER, shown)
    return ProviderError(ErrorClass.INVALID_REQUEST, shown)


def _too_many(code: str, kind: str, shown: str, headers: Mapping[str, str]) -> Exception:
    """The kinds of 429 (DESIGN 3.4): rate, larger than the limit, quota or credit, per day."""
    if code in QUOTA_CODES or kind in QUOTA_CODES or "requests per day" in shown or "tokens per day" in shown:
        return QuotaExhausted(shown)
    if "Request too large" in shown:  # OpenAI gives this 429 the code of an ordinary one
        return ProviderError(ErrorClass.TOO_LARGE, shown)
    scope = kind if kind in ("requests", "tokens") else None
    return ProviderError(ErrorClass.RATE_LIMITED, shown, retry_after_s=_retry_after_s(headers), scope=scope)


def _error_fields(body: bytes) -> tuple[str, str, str]:
    try:
        data = orjson.loads(body)
        error = data["error"]
        fields = (error.get("code"), error.get("type"), error.get("message"))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", "", ""
    code, kind, message = (str(value) if value is not None else "" for value in fields)
    return code, kind, message[:MESSAGE_CHARACTERS]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    return None
