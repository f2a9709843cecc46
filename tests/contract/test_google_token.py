"""Application-default credentials through google-auth itself, with a token endpoint on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batch_llm.config.secrets import scrub
from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError
from batch_llm.providers.google.token import GoogleToken
from tests.bigquery_server.service_account import write_service_account
from tests.contract.google_lab import TokenEndpoint, metadata_server, token_endpoint


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[TokenEndpoint]:
    """A service account's file in the environment."""
    async with token_endpoint(tmp_path / "account.json") as served:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        yield served


async def test_the_token_is_kept_and_fetched_again_before_it_expires(endpoint: TokenEndpoint) -> None:
    now_s = began_s = time.time()
    token = GoogleToken(unix_s=lambda: now_s)
    assert await token.headers() == {"Authorization": "Bearer token-number-1"}
    now_s = began_s + 3_600 - 310
    assert await token.headers() == {"Authorization": "Bearer token-number-1"}
    now_s = began_s + 3_600 - 240  # google-auth's own clock goes on while this test runs
    while await token.headers() == {"Authorization": "Bearer token-number-1"}:
        await asyncio.sleep(0.01)
    assert await token.headers() == {"Authorization": "Bearer token-number-2"}


async def test_many_callers_at_once_fetch_one_token(endpoint: TokenEndpoint) -> None:
    token = GoogleToken()
    found = await asyncio.gather(*(token.headers() for _ in range(50)))
    assert endpoint.given == 1
    assert {headers["Authorization"] for headers in found} == {"Bearer token-number-1"}


async def test_a_token_is_hidden_in_messages_like_any_secret(endpoint: TokenEndpoint) -> None:
    await GoogleToken().headers()
    assert "token-number-1" not in scrub("the provider said: token-number-1 is not for you")


async def test_credentials_that_are_refused_stop_the_run_and_say_what_to_do(endpoint: TokenEndpoint) -> None:
    endpoint.refuses = True
    with pytest.raises(AuthenticationFailed, match=r"not accepted \(RefreshError\); run `gcloud auth") as error:
        await GoogleToken().headers()
    assert error.value.__cause__ is None


async def test_a_file_that_is_not_there_stops_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(AuthenticationFailed, match=r"there are none \(DefaultCredentialsError\)"):
        await GoogleToken().headers()


async def test_a_sign_in_that_does_not_answer_is_the_networks_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "account.json"
    write_service_account(path, "my-project", "http://127.0.0.1:9/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ProviderError) as error:
        await GoogleToken().headers()
    assert error.value.error_class is ErrorClass.CONNECTION


async def test_a_sign_in_that_fails_for_a_moment_stops_no_run(
    endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.fails = True
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    with pytest.raises(ProviderError, match=r"did not answer: RefreshError") as error:
        await GoogleToken().headers()
    assert error.value.error_class is ErrorClass.CONNECTION


async def test_a_machine_whose_own_account_fails_for_a_moment_stops_no_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))  # nobody is signed in but the machine
    async with metadata_server() as served:
        monkeypatch.setenv("GCE_METADATA_IP", served.host)
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", served.host)  # read at import
        monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
        token = GoogleToken()
        served.fails = True
        with pytest.raises(ProviderError, match=r"did not answer: RefreshError") as error:
            await token.headers()
        assert error.value.error_class is ErrorClass.CONNECTION
        served.fails = False
        assert await token.headers() == {"Authorization": "Bearer token-number-1"}
