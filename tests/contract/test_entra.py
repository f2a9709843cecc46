"""Signing in with Entra ID through azure-identity itself, with App Service's token endpoint on this machine.

Source: https://learn.microsoft.com/azure/app-service/overview-managed-identity (IDENTITY_ENDPOINT, IDENTITY_HEADER, the
answer's fields) (read 2026-11-28).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from batch_llm.config.secrets import scrub
from batch_llm.errors import AuthenticationFailed, ConfigurationError, ErrorClass, ProviderError
from batch_llm.providers.azure.entra import EntraToken
from tests.local_server import served

NOW_S = 1_800_000_000
SECRET = "header-of-this-machine"


class TokenEndpoint:
    """Gives out numbered tokens that are good for an hour, to whoever knows the header."""

    def __init__(self) -> None:
        self.given = 0
        self.asked_for: list[str] = []
        self.refuses = False

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("X-IDENTITY-HEADER") != SECRET or self.refuses:
            return web.json_response({"statusCode": 400, "message": "no identity"}, status=400)
        self.given += 1
        self.asked_for.append(request.query["resource"])
        expires = str(NOW_S + 3_600 * self.given)
        token = f"token-number-{self.given}"
        return web.json_response(
            {
                "access_token": token,
                "expires_on": expires,
                "resource": request.query["resource"],
                "token_type": "Bearer",
            }
        )


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TokenEndpoint]:
    """A machine in Azure: nobody is signed in but itself."""
    tokens, app = TokenEndpoint(), web.Application()
    app.router.add_get("/token", tokens.answer)
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")  # no other way in is looked for
    monkeypatch.setenv("IDENTITY_HEADER", SECRET)
    async with served(app) as host:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{host}/token")
        yield tokens


async def test_the_token_is_kept_and_fetched_again_before_it_expires(endpoint: TokenEndpoint) -> None:
    now_s = float(NOW_S)
    token = EntraToken(unix_s=lambda: now_s)
    assert await token.headers() == {"Authorization": "Bearer token-number-1"}
    now_s += 3_600 - 301
    assert await token.headers() == {"Authorization": "Bearer token-number-1"}
    now_s += 2
    while await token.headers() == {"Authorization": "Bearer token-number-1"}:
        await asyncio.sleep(0.01)
    assert await token.headers() == {"Authorization": "Bearer token-number-2"}
    assert endpoint.asked_for == ["https://cognitiveservices.azure.com"] * 2


async def test_many_callers_at_once_fetch_one_token(endpoint: TokenEndpoint) -> None:
    token = EntraToken(unix_s=lambda: NOW_S)
    found = await asyncio.gather(*(token.headers() for _ in range(50)))
    assert endpoint.given == 1
    assert {headers["Authorization"] for headers in found} == {"Bearer token-number-1"}


async def test_a_token_is_hidden_in_messages_like_any_secret(endpoint: TokenEndpoint) -> None:
    await EntraToken(unix_s=lambda: NOW_S).headers()
    assert "token-number-1" not in scrub("the provider said: token-number-1 is not for you")


async def test_nobody_signed_in_stops_the_run_and_says_what_to_do(endpoint: TokenEndpoint) -> None:
    endpoint.refuses = True
    with pytest.raises(AuthenticationFailed, match=r"Entra ID gave no token .*az login") as error:
        await EntraToken(unix_s=lambda: NOW_S).headers()
    assert SECRET not in str(error.value)


async def test_whoever_was_let_in_before_is_cut_off_and_not_gone(endpoint: TokenEndpoint) -> None:
    """An outage stops no run; it is probed."""
    now_s = float(NOW_S)
    token = EntraToken(unix_s=lambda: now_s)
    await token.headers()
    endpoint.refuses = True
    now_s += 3_600
    with pytest.raises(ProviderError, match="gave no new token") as error:
        await token.headers()
    assert (error.value.error_class, error.value.maybe_paid) == (ErrorClass.CONNECTION, False)
    endpoint.refuses = False
    assert await token.headers() == {"Authorization": "Bearer token-number-2"}


async def test_an_unreachable_sign_in_is_the_networks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first sign-in, too: `az login` would not help."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID"):
        monkeypatch.setenv(name, "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9")
    monkeypatch.setattr("azure.core.pipeline.policies.AsyncRetryPolicy.is_exhausted", lambda *_: True)
    with pytest.raises(ProviderError, match="did not answer") as error:
        await EntraToken(unix_s=lambda: NOW_S).headers()
    assert error.value.error_class is ErrorClass.CONNECTION


async def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity.aio", None)
    with pytest.raises(ConfigurationError, match=r"install batch-llm\[azure\]"):
        await EntraToken(unix_s=lambda: NOW_S).headers()
