"""One OpenAI-compatible endpoint over aiohttp: connections, one POST, what went wrong with it.

Belongs here: sending bytes and getting bytes, whatever they say. Not here: any request's or answer's JSON
(openai_chat.py, openai_embeddings.py), what an error answer means (openai_refusals.py), trying again
(engine/retry.py), pacing (limiter).
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Phase, RawAnswer, Sending
from batch_llm.providers.openai_refusals import refusal
from batch_llm.providers.structured_output import StructureMode

__all__ = ["ABSURD_TOKENS", "OpenAIConnection", "OpenAIEndpoint"]

CONNECT_S = 30.0  # for a connection to stand
DNS_S = 30  # a looked-up address is used so long: a provider that moved is found again soon
LARGE_BYTES = 1 << 20  # aiohttp writes larger bodies in one go, which holds everybody up; a file it writes in pieces
ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where to send, and how this endpoint differs from OpenAI's own."""

    base_url: str  # ends in /v1
    api_key: SecretStr | None
    cap_parameter: str = "max_completion_tokens"  # older servers know only max_tokens
    model_prefix: str = ""  # put before the model's name on the wire
    structure: StructureMode = StructureMode.JSON_SCHEMA  # how it is told the answer's schema
    idempotency_header: str | None = None  # which header names an attempt, so that it is billed once; None: none does

    def url(self, path: str) -> str:
        """The address of ``path``, which begins with a slash."""
        return self.base_url.rstrip("/") + path

    def attempt_headers(self, custom_id: str, attempt: int) -> dict[str, str] | None:
        """The attempt's name where the endpoint honours one: the same again when it is repeated after a crash."""
        return None if self.idempotency_header is None else {self.idempotency_header: f"{custom_id}-{attempt}"}


class OpenAIConnection:
    """Kept connections to one endpoint, for many concurrent calls. Open it with ``async with``."""

    def __init__(self, endpoint: OpenAIEndpoint) -> None:
        """Nothing is opened yet."""
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)

    async def __aenter__(self) -> OpenAIConnection:
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

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        total_s: float | None = None,
        sending: Sending | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RawAnswer:
        """Send once, never retry; any complete 2xx answer. Arguments and errors as `Provider.send`."""
        if self._session is None:
            raise RuntimeError("open the provider with `async with` first")
        began = time.monotonic()
        data = body if len(body) < LARGE_BYTES else io.BytesIO(body)
        timeout = self._timeout if total_s is None else aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S)
        try:
            async with self._session.post(
                url, data=data, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                began_to_answer = time.monotonic()
                if sending is not None:
                    sending.phase = Phase.BODY
                answer = await response.read()
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
            raise refusal(response.status, {name.lower(): value for name, value in response.headers.items()}, answer)
        return RawAnswer(answer, response.headers, time.monotonic() - began, began_to_answer - began)
