"""One OpenAI-compatible endpoint over aiohttp: connections, one POST, what went wrong with it.

Belongs here: sending bytes and getting bytes, whatever they say. Not here: any request's or answer's JSON
(openai_chat.py, openai_embeddings.py), what an error answer means (openai_refusals.py), trying again
(engine/retry.py), pacing (limiter).
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import RawAnswer
from batch_llm.providers.openai_refusals import refusal

__all__ = ["ABSURD_TOKENS", "OpenAIConnection", "OpenAIEndpoint"]

LARGE_BYTES = 1 << 20  # aiohttp writes larger bodies in one go, which holds everybody up; a file it writes in pieces
ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where to send, and how this endpoint differs from OpenAI's own."""

    base_url: str  # ends in /v1
    api_key: SecretStr | None
    cap_parameter: str = "max_completion_tokens"  # older servers know only max_tokens
    model_prefix: str = ""  # put before the model's name on the wire

    def url(self, path: str) -> str:
        """The address of ``path``, which begins with a slash."""
        return self.base_url.rstrip("/") + path


class OpenAIConnection:
    """Kept connections to one endpoint, for many concurrent calls. Open it with ``async with``."""

    def __init__(self, endpoint: OpenAIEndpoint) -> None:
        """Nothing is opened yet."""
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> OpenAIConnection:
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

    async def post(self, url: str, body: bytes, *, total_s: float) -> RawAnswer:
        """Send once, never retry; any complete 2xx answer. Raises as `Provider.send`."""
        if self._session is None:
            raise RuntimeError("open the provider with `async with` first")
        began = time.monotonic()
        data = body if len(body) < LARGE_BYTES else io.BytesIO(body)
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=min(30.0, total_s))
        try:
            async with self._session.post(url, data=data, timeout=timeout, allow_redirects=False) as response:
                answer = await response.read()
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
            raise refusal(status, headers, answer)
        return RawAnswer(body=answer, headers=headers, latency_s=time.monotonic() - began)
