"""Signing in with Microsoft Entra ID, which gives out tokens that are good for an hour or so.

Belongs here: getting a token, what it means when there is none. Not here: keeping it (kept_token.py), whom it is for
(kinds/azure.py). azure-identity is an extra, imported when the first token is wanted.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (bearer tokens of azure-identity),
https://github.com/Azure-Samples/azure-search-openai-demo/issues/458 (the audience, in the service's own refusal) (read
2026-11-28).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from batch_llm.errors import AuthenticationFailed, ConfigurationError, ErrorClass, ProviderError
from batch_llm.providers.kept_token import BearerToken, KeptToken

__all__ = ["EntraToken"]

SCOPE = "https://cognitiveservices.azure.com/.default"


class EntraToken:
    """The bearer token of whoever runs this process: its environment, its managed identity, its `az login`."""

    def __init__(self, unix_s: Callable[[], float] = time.time) -> None:
        """Nothing is asked yet. ``unix_s``: the clock that the token's expiry is compared with."""
        self._kept = KeptToken(_fetched, unix_s)

    async def headers(self) -> Mapping[str, str]:
        """See `KeptToken.headers`.

        Raises `AuthenticationFailed` (nobody is signed in), `ConfigurationError` (the extra is missing),
        `ProviderError` (Entra ID does not answer). The token is in none of their messages.
        """
        return await self._kept.headers()


async def _fetched() -> BearerToken:
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
            token = await credential.get_token(SCOPE)
    except ClientAuthenticationError as error:
        raise AuthenticationFailed(
            f"Entra ID gave no token ({type(error).__name__}): run `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID "
            "and AZURE_CLIENT_SECRET, or give the pool an api_key"
        ) from None
    except AzureError as error:
        raise ProviderError(ErrorClass.CONNECTION, f"Entra ID did not answer: {type(error).__name__}") from None
    return BearerToken(token.token, token.expires_on)
