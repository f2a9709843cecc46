"""Application-default credentials of Google Cloud: a token that is good for an hour, asked for again before it expires.

Belongs here: getting a token, keeping it, what it means when there is none. Not here: whom it is for (kinds/google.py),
putting it on a request (transport.py).

google-auth looks for them: GOOGLE_APPLICATION_CREDENTIALS, then `gcloud auth application-default login`, then the
machine's own account.
Source: https://cloud.google.com/docs/authentication/application-default-credentials (read 2026-11-29).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from batch_llm.config.secrets import register_secret
from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError

__all__ = ["GoogleToken"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
REFRESH_S = 300.0  # so long before it expires a new one is fetched


class GoogleToken:
    """The bearer token of whoever runs this process."""

    def __init__(self, unix_s: Callable[[], float] = time.time) -> None:
        """Nothing is asked yet. ``unix_s``: the clock that the token's expiry is compared with."""
        self._unix_s = unix_s
        self._turn = asyncio.Lock()
        self._credentials: Any = None
        self._headers: Mapping[str, str] = {}
        self._refresh_at_s = 0.0

    async def headers(self) -> Mapping[str, str]:
        """The header that carries the token; one of many callers fetches it, the others wait.

        Raises `AuthenticationFailed` (nobody is signed in), `ProviderError` (Google does not answer). The token is in
        none of their messages.
        """
        if self._unix_s() < self._refresh_at_s:
            return self._headers
        async with self._turn:
            if self._unix_s() >= self._refresh_at_s:
                token, expires_at = await asyncio.to_thread(self._fetched)
                register_secret(token)
                self._headers = {"Authorization": f"Bearer {token}"}
                self._refresh_at_s = expires_at.timestamp() - REFRESH_S
            return self._headers

    def _fetched(self) -> tuple[str, datetime]:
        import google.auth  # takes 0.2 s
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[SCOPE])
            self._credentials.refresh(Request())
        except TransportError as error:
            raise ProviderError(
                ErrorClass.CONNECTION, f"Google's sign-in did not answer: {type(error).__name__}"
            ) from None
        except GoogleAuthError as error:
            found = "there are none" if isinstance(error, DefaultCredentialsError) else "they are not accepted"
            raise AuthenticationFailed(
                f"Google's application-default credentials: {found} ({type(error).__name__}); run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's file"
            ) from None
        return self._credentials.token, self._credentials.expiry.replace(tzinfo=UTC)
