"""A bearer token that is kept, and fetched again before it expires.

Belongs here: when to fetch it, what happens while that fails or hangs. Not here: where it comes from (azure/entra.py,
google/token.py), putting it on a request (transport.py).

At most one fetch runs, in a task of its own: it does not end with the call that began it. Nobody waits for it while the
old token is good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from batch_llm.config.secrets import register_secret
from batch_llm.errors import ErrorClass, ProviderError

__all__ = ["BearerToken", "KeptToken"]

REFRESH_S = 300.0  # so long before it expires a new one is fetched
SHORT_SHARE = 0.5  # of the life of a token that has less: after it a new one is fetched
AGAIN_S = 30.0  # after a fetch that failed while the old token is good
WAIT_S = 15.0  # the longest that a call waits for a fetch: less than the least that a call may take
FIRST_WAIT_S = 60.0  # likewise for the first one, which looks for a way in


class BearerToken(NamedTuple):
    """What a sign-in gives out."""

    text: str
    expires_at_s: float  # Unix time


class KeptToken:
    """The header that carries a token."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[BearerToken]],
        unix_s: Callable[[], float],
        waits_s: tuple[float, float] = (FIRST_WAIT_S, WAIT_S),
    ) -> None:
        """Nothing is fetched yet.

        Args:
            fetch: One sign-in, which ends by itself.
            unix_s: The clock that the expiry is compared with.
            waits_s: The longest wait for the first token, and for each that follows.
        """
        self._fetch = fetch
        self._unix_s = unix_s
        self._waits_s = waits_s
        self._fetching: asyncio.Task[None] | None = None
        self._headers: Mapping[str, str] = {}
        self._fetch_at_s = self._expires_at_s = 0.0

    async def headers(self) -> Mapping[str, str]:
        """A token that is good now.

        Raises what ``fetch`` raises, or `ProviderError` when it does not end; not while the old token is still good.
        """
        now_s = self._unix_s()
        if now_s >= self._fetch_at_s:
            fetching = self._fetching or self._begun()
            if now_s >= self._expires_at_s:
                await self._ended(fetching)
        return self._headers

    def _begun(self) -> asyncio.Task[None]:
        fetching = self._fetching = asyncio.create_task(self._refresh())
        fetching.add_done_callback(_seen)
        return fetching

    async def _ended(self, fetching: asyncio.Task[None]) -> None:
        wait_s = self._waits_s[bool(self._headers)]
        done, _ = await asyncio.wait({fetching}, timeout=wait_s)
        if not done:
            raise ProviderError(ErrorClass.CONNECTION, f"the sign-in did not answer within {wait_s:.0f} s")
        fetching.result()

    async def _refresh(self) -> None:
        try:
            token = await self._fetch()
        finally:
            self._fetching = None
            self._fetch_at_s = min(self._unix_s() + AGAIN_S, self._expires_at_s)
        register_secret(token.text)
        now_s = self._unix_s()
        self._headers = {"Authorization": f"Bearer {token.text}"}
        self._expires_at_s = token.expires_at_s
        self._fetch_at_s = token.expires_at_s - min(REFRESH_S, (token.expires_at_s - now_s) * SHORT_SHARE)


def _seen(fetching: asyncio.Task[None]) -> None:
    """Nobody may have waited for it: its failure is told to the first call that has no good token."""
    if not fetching.cancelled():
        fetching.exception()
