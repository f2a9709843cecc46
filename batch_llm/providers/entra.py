"""Signing in with Microsoft Entra ID: a token that is good for an hour or so, asked for again before it expires.

Belongs here: getting a token, keeping it, what it means when there is none. Not here: whom it is for (kinds/azure.py),
putting it on a request (transport.py). azure-identity is an extra, imported when the first token is wanted.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (bearer tokens of azure-identity),
https://github.com/Azure-Samples/azure-search-openai-demo/issues/458 (the audience, in the service's own refusal) (read
2026-11-28).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from batch_llm.config.secrets import register_secret
from batch_llm.errors import AuthenticationFailed, ConfigurationError, ErrorClass, ProviderError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

__all__ = ["EntraToken"]

SCOPE = "https://cognitiveservices.azure.com/.default"
REFRESH_S = 300.0  # so long before it expires a new one is fetched


class EntraToken:
    """The bearer token of whoever runs this process: its environment, its managed identity, its `az login`."""

    def __init__(self, unix_s: Callable[[], float] = time.time) -> None:
        """Nothing is asked yet. ``unix_s``: the clock that the token's expiry is compared with."""
        self._unix_s = unix_s
        self._turn = asyncio.Lock()
        self._headers: Mapping[str, str] = {}
        self._refresh_at_s = 0.0

    async def headers(self) -> Mapping[str, str]:
        """The header that carries the token; one of many callers fetches it, the others wait.

        Raises `AuthenticationFailed` (nobody is signed in), `ConfigurationError` (the extra is missing),
        `ProviderError` (Entra ID does not answer). The token is in none of their messages.
        """
        if self._unix_s() < self._refresh_at_s:
            return self._headers
        async with self._turn:
            if self._unix_s() >= self._refresh_at_s:
                token = await _fetched()
                register_secret(token.token)
                self._headers = {"Authorization": f"Bearer {token.token}"}
                self._refresh_at_s = token.expires_on - REFRESH_S
            return self._headers


async def _fetched() -> AccessToken:
    try:
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity.aio import DefaultAzureCredential
    except ImportError:
        raise ConfigurationError(
            "kind azure without an api_key signs in with Entra ID, which needs azure-identity: install "
            "batch-llm[azure], or give api_key: ${env:AZURE_OPENAI_API_KEY}"
        ) from None
    try:
        async with DefaultAzureCredential() as credential:
            return await credential.get_token(SCOPE)
    except ClientAuthenticationError as error:
        raise AuthenticationFailed(
            f"Entra ID gave no token ({type(error).__name__}): run `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID "
            "and AZURE_CLIENT_SECRET, or give the pool an api_key"
        ) from None
    except AzureError as error:
        raise ProviderError(ErrorClass.CONNECTION, f"Entra ID did not answer: {type(error).__name__}") from None
