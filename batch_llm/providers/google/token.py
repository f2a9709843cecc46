"""Application-default credentials of Google Cloud, which give out tokens that are good for an hour.

Belongs here: getting a token, what it means when there is none. Not here: keeping it (kept_token.py), whom it is for
(kinds/google.py).

google-auth looks for them: GOOGLE_APPLICATION_CREDENTIALS, then `gcloud auth application-default login`, then the
machine's own account.
Source: https://cloud.google.com/docs/authentication/application-default-credentials (read 2026-11-29).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from functools import partial
from typing import Any

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError
from batch_llm.providers.kept_token import BearerToken, KeptToken

__all__ = ["GoogleToken"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ANSWER_S = 10.0  # for one answer of the sign-in: a thread cannot be cancelled, so it must end by itself


class GoogleToken:
    """The bearer token of whoever runs this process."""

    def __init__(self, unix_s: Callable[[], float] = time.time) -> None:
        """Nothing is asked yet. ``unix_s``: the clock that the token's expiry is compared with."""
        self._credentials: Any = None
        self._kept = KeptToken(lambda: asyncio.to_thread(self._fetched), unix_s)

    async def headers(self) -> Mapping[str, str]:
        """See `KeptToken.headers`.

        Raises `AuthenticationFailed` (nobody is signed in), `ProviderError` (Google does not answer). The token is in
        none of their messages.
        """
        return await self._kept.headers()

    def _fetched(self) -> BearerToken:
        import google.auth  # takes 0.2 s
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[SCOPE])
            self._credentials.refresh(partial(Request(), timeout=ANSWER_S))
        except GoogleAuthError as error:
            # A machine's own account wraps what the network did; a server's error is retryable.
            # Source: google-auth 2.62, compute_engine/credentials.py, oauth2/_client.py (read 2026-11-29).
            if error.retryable or isinstance(error, TransportError) or isinstance(error.__cause__, TransportError):
                name = type(error).__name__
                raise ProviderError(ErrorClass.CONNECTION, f"Google's sign-in did not answer: {name}") from None
            found = "there are none" if isinstance(error, DefaultCredentialsError) else "they are not accepted"
            raise AuthenticationFailed(
                f"Google's application-default credentials: {found} ({type(error).__name__}); run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's file"
            ) from None
        expires_at = self._credentials.expiry.replace(tzinfo=UTC)
        return BearerToken(self._credentials.token, expires_at.timestamp())
