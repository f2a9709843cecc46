"""One API over aiohttp: kept connections, one POST, what went wrong with it.

Belongs here: sending bytes and getting bytes, whatever they say. Not here: any request's or answer's JSON, what an
error answer means (openai/refusals.py), trying again (engine/retry.py), pacing (limiter).
"""

from __future__ import annotations

import io
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Self

import aiohttp

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Phase, RawAnswer, Sending
from batch_llm.providers.refused import Refusal, refused

__all__ = ["Connected", "Connection", "Refusal", "Signing"]

CONNECT_S = 30.0  # for a connection to stand
DNS_S = 30  # a looked-up address is used so long: a provider that moved is found again soon
LARGE_BYTES = 1 << 20  # aiohttp writes larger bodies in one go, which holds everybody up; a file it writes in pieces
# Of one answer, as it is unpacked: a few MB of gzip can be gigabytes. Four times what the largest call for vectors
# (engine/packing.py) is answered with, where they come as plain numbers.
MOST_ANSWER_BYTES = 64 << 20
MOST_REFUSAL_BYTES = 1 << 20  # what an error says stands at its beginning

Signing = Callable[[], Awaitable[Mapping[str, str]]]
"""Headers that say who asks, made for each request, where they change while connections live. Never logged."""


class Connection:
    """Kept connections to one API, for many concurrent calls. Open it with ``async with``."""

    def __init__(self, headers: Mapping[str, str], refusal: Refusal, signing: Signing | None = None) -> None:
        """``headers`` go with every request. Nothing is opened yet."""
        self._headers = {"Content-Type": "application/json", **headers}
        self._refusal = refusal
        self._signing = signing
        self._session: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)

    async def __aenter__(self) -> Connection:
        """Open the connection pool; calls in flight are bounded by the engine, not here.

        Where requests are signed it signs once, so that a sign-in that fails is told before anything is asked; one that
        does not answer is an outage like any other, which calls meet and probe.
        """
        if self._signing is not None:
            with suppress(ProviderError):
                await self._signing()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_S),
            cookie_jar=aiohttp.DummyCookieJar(),  # an API that sets cookies would have them looked up for every call
            headers=self._headers,
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
        if self._signing is not None:
            headers = {**(headers or {}), **await self._signed(self._signing, sending)}
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
                answer = await _body(response)
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
            lower = {name.lower(): value for name, value in response.headers.items()}
            raise refused(self._refusal, response.status, lower, answer)
        return RawAnswer(answer, response.headers, time.monotonic() - began, began_to_answer - began)

    @staticmethod
    async def _signed(signing: Signing, sending: Sending | None) -> Mapping[str, str]:
        """The headers that say who asks; a call that ends meanwhile was not sent, as ``sending`` then says."""
        if sending is None:
            return await signing()
        sending.phase = Phase.SIGN_IN
        headers = await signing()
        sending.phase = Phase.ANSWER
        return headers


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """All of an answer; of a refusal what it begins with. Raises `ProviderError` for an answer that is too large."""
    is_answer = response.status < 300
    most = MOST_ANSWER_BYTES if is_answer else MOST_REFUSAL_BYTES
    pieces, size = [], 0
    while piece := await response.content.readany():  # as `response.read` does, which has no bound
        pieces.append(piece)
        size += len(piece)
        if size > most:
            response.close()  # the rest is still to come: the connection is of no use to another call
            if not is_answer:
                break
            message = f"the answer is larger than {most >> 20} MiB, the most that is read"
            raise ProviderError(ErrorClass.MALFORMED, message, maybe_paid=True, outline=message)
    return b"".join(pieces)


class Connected:
    """What is open while its connection is: a provider over one API. Open it with ``async with``."""

    def __init__(self, connection: Connection) -> None:
        """``connection`` is this one's own: it opens and closes it."""
        self._connection = connection

    async def __aenter__(self) -> Self:
        """Open the connections."""
        await self._connection.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        await self._connection.__aexit__(*exc)
