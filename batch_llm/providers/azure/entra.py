"""Signing in with Microsoft Entra ID, which gives out tokens that are good for an hour or so.

Belongs here: getting a token, what it means when there is none. Not here: keeping it (kept_token.py), whom it is for
(kinds/azure.py). azure-identity is an extra, imported when the first token is wanted.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (bearer tokens of azure-identity),
https://github.com/Azure-Samples/azure-search-openai-demo/issues/458 (the audience, in the service's own refusal) (read
2026-11-28).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping

from batch_llm.errors import AuthenticationFailed, ConfigurationError, ErrorClass, ProviderError
from batch_llm.providers.kept_token import BearerToken, KeptToken

__all__ = ["EntraToken"]

SCOPE = "https://cognitiveservices.azure.com/.default"
SIGN_IN_S = 60.0  # the longest one sign-in
# What the last way in that was tried says when the network is at fault: DefaultAzureCredential turns every failure into
# ClientAuthenticationError, without a cause. Source: azure-identity 1.27, aio/_credentials/chained.py; aiohttp's and
# azure-core's words, aio/_pipeline_client_async.py (read 2026-11-29).
_NETWORK = re.compile(
    r"cannot connect to host|connection (?:timeout|refused|reset|aborted)|timed? ?out|name resolution|not known|"
    r"server disconnected|network is unreachable",
    re.IGNORECASE,
)
_NEXT_WAY = "\n\t"  # before each way in that was tried
AWAY = "Entra ID did not answer"


class EntraToken:
    """The bearer token of whoever runs this process: its environment, its managed identity, its `az login`."""

    def __init__(self, unix_s: Callable[[], float] = time.time) -> None:
        """Nothing is asked yet. ``unix_s``: the clock that the token's expiry is compared with."""
        self._kept = KeptToken(self._fetched, unix_s)
        self._was_let_in = False

    async def headers(self) -> Mapping[str, str]:
        """See `KeptToken.headers`.

        Raises `AuthenticationFailed` (nobody is signed in), `ConfigurationError` (the extra is missing),
        `ProviderError` (Entra ID does not answer; after a first token whatever fails). The token is in none of their
        messages.
        """
        return await self._kept.headers()

    async def _fetched(self) -> BearerToken:
        try:
            from azure.core.exceptions import AzureError, ClientAuthenticationError
            from azure.identity.aio import DefaultAzureCredential
        except ImportError:
            raise ConfigurationError(
                "kind azure without an api_key signs in with Entra ID, which needs azure-identity: install "
                "batch-llm[azure], or give api_key: ${env:AZURE_OPENAI_API_KEY}"
            ) from None
        try:
            async with asyncio.timeout(SIGN_IN_S), DefaultAzureCredential() as credential:
                token = await credential.get_token(SCOPE)
        except TimeoutError:
            raise ProviderError(ErrorClass.CONNECTION, f"{AWAY} within {SIGN_IN_S:.0f} s") from None
        except ClientAuthenticationError as error:
            if self._was_let_in:  # whoever was let in an hour ago is rather cut off than gone; it is probed
                message = f"Entra ID gave no new token ({type(error).__name__})"
                raise ProviderError(ErrorClass.CONNECTION, message) from None
            if _NETWORK.search(str(error.message).rsplit(_NEXT_WAY, 1)[-1]):
                raise ProviderError(ErrorClass.CONNECTION, f"{AWAY}: {type(error).__name__}") from None
            raise AuthenticationFailed(
                f"Entra ID gave no token ({type(error).__name__}): run `az login`, or set AZURE_CLIENT_ID, "
                "AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or give the pool an api_key"
            ) from None
        except AzureError as error:
            raise ProviderError(ErrorClass.CONNECTION, f"{AWAY}: {type(error).__name__}") from None
        self._was_let_in = True
        return BearerToken(token.token, token.expires_on)
