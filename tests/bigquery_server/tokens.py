"""OAuth tokens: given at /token for a service account's assertion, good for a time.

Belongs here: giving and judging tokens. Not here: permissions (permissions.py).
Source: https://developers.google.com/identity/protocols/oauth2/service-account (read 2026-11-28).
"""

from __future__ import annotations

import uuid

from tests.bigquery_server.clock import Clock
from tests.bigquery_server.errors import ApiError

__all__ = ["Tokens"]


class Tokens:
    """Those that were given, with the time when each ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ms: dict[str, int] = {}

    def give(self, token_s: float) -> str:
        """A new one."""
        token = f"fake-{uuid.uuid4().hex}"
        self._until_ms[token] = self._clock.now_ms() + round(token_s * 1000)
        return token

    def end_all(self) -> None:
        """Every token given so far has expired."""
        self._until_ms.clear()

    def check(self, authorization: str | None, *, required: bool) -> None:
        """401 for a token that was never given or has expired; without any, only when one is required."""
        if authorization is None and not required:
            return
        token = (authorization or "").removeprefix("Bearer ").strip()
        if self._until_ms.get(token, 0) <= self._clock.now_ms():
            raise ApiError(
                "authError",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
                status=401,
                location="Authorization",
            )
