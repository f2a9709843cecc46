"""A bearer token that is kept, and fetched again before it expires.

Belongs here: when to fetch it, what happens while that fails. Not here: where it comes from (azure/entra.py,
google/token.py), putting it on a request (transport.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from batch_llm.config.secrets import register_secret
from batch_llm.errors import AuthenticationFailed, ProviderError

__all__ = ["BearerToken", "KeptToken"]

REFRESH_S = 300.0  # so long before it expires a new one is fetched
SHORT_SHARE = 0.5  # of the life of a token that has less: after it a new one is fetched
AGAIN_S = 30.0  # after a fetch that failed while the old token is good


class BearerToken(NamedTuple):
    """What a sign-in gives out."""

    text: str
    expires_at_s: float  # Unix time


class KeptToken:
    """The header that carries a token; one of many callers fetches it, the others wait."""

    def __init__(self, fetch: Callable[[], Awaitable[BearerToken]], unix_s: Callable[[], float]) -> None:
        """Nothing is fetched yet. ``unix_s``: the clock that the expiry is compared with."""
        self._fetch = fetch
        self._unix_s = unix_s
        self._turn = asyncio.Lock()
        self._headers: Mapping[str, str] = {}
        self._fetch_at_s = self._expires_at_s = 0.0

    async def headers(self) -> Mapping[str, str]:
        """A token that is good now. Raises what ``fetch`` raises, but not while the old token is still good."""
        if self._unix_s() < self._fetch_at_s:
            return self._headers
        async with self._turn:
            if self._unix_s() >= self._fetch_at_s:
                await self._refresh()
            return self._headers

    async def _refresh(self) -> None:
        try:
            token = await self._fetch()
        except (ProviderError, AuthenticationFailed):
            now_s = self._unix_s()
            if now_s >= self._expires_at_s:
                raise
            self._fetch_at_s = min(now_s + AGAIN_S, self._expires_at_s)
            return
        register_secret(token.text)
        now_s = self._unix_s()
        self._headers = {"Authorization": f"Bearer {token.text}"}
        self._expires_at_s = token.expires_at_s
        self._fetch_at_s = token.expires_at_s - min(REFRESH_S, (token.expires_at_s - now_s) * SHORT_SHARE)
