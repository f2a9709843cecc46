"""The simulator as Azure OpenAI, judged by the vendor's own client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest

from batch_llm.clock import ManualClock
from batch_llm.simulator import Simulator, SimulatorConfig
from tests.contract.simulator_lab import messages

DATED = "2024-10-21"
DEPLOYMENT = "simulator-small"
Client = openai.AsyncAzureOpenAI | openai.AsyncOpenAI
Open = Callable[..., Awaitable[tuple[Simulator, Any]]]


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens simulators with the SDK's client for Azure, which does not retry; ``v1``: with its plain one."""
    async with AsyncExitStack() as stack:

        async def opened(
            *,
            clock: ManualClock | None = None,
            client: dict[str, Any] | None = None,
            v1: bool = False,
            **config: Any,
        ) -> tuple[Simulator, Client]:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=clock))
            made: Client
            if v1:
                made = openai.AsyncOpenAI(
                    **{"api_key": "key", **(client or {})},
                    base_url=f"{simulator.origin}/openai/v1/",
                    max_retries=0,
                )
            else:
                settings = {"api_version": DATED, "azure_endpoint": simulator.origin, **(client or {})}
                if "azure_ad_token" not in settings:
                    settings.setdefault("api_key", "key")
                made = openai.AsyncAzureOpenAI(**settings, max_retries=0)
            return simulator, await stack.enter_async_context(made)

        yield opened


async def ask(client: Client, text: str = "hello", **params: Any) -> Any:
    return await client.chat.completions.create(**({"model": DEPLOYMENT, "messages": messages(text)} | params))


async def headers_of(client: Client, text: str = "hello") -> Any:
    raw = await client.chat.completions.with_raw_response.create(model=DEPLOYMENT, messages=messages(text))
    return raw.headers


@pytest.mark.parametrize("v1", [False, True])
async def test_both_forms_of_address_answer_a_deployment(open_simulator: Open, *, v1: bool) -> None:
    simulator, client = await open_simulator(v1=v1)
    completion = await ask(client)
    assert completion.model == "simulator/small"  # the model behind it
    assert completion.choices[0].message.content.startswith("[simulated")
    vectors = await client.embeddings.create(model=DEPLOYMENT, input=["a", "b"], dimensions=4)
    assert [len(each.embedding) for each in vectors.data] == [4, 4]
    assert simulator.stats()["accepted"] == 2


async def test_prompt_and_completion_carry_the_filters_verdict(open_simulator: Open) -> None:
    _, client = await open_simulator()
    body = (await ask(client)).model_dump()
    safe = {"filtered": False, "severity": "safe"}
    assert body["prompt_filter_results"][0]["content_filter_results"]["violence"] == safe
    assert body["choices"][0]["content_filter_results"]["hate"] == safe


@pytest.mark.parametrize("version", ["", "latest", "2024"])
async def test_without_a_dated_version_the_address_is_not_there(open_simulator: Open, version: str) -> None:
    _, client = await open_simulator()
    with pytest.raises(openai.NotFoundError) as error:
        await ask(client.with_options(default_query={}), extra_query={"api-version": version})
    assert error.value.body == {"code": "404", "message": "Resource not found"}


async def test_an_unknown_address_is_not_there(open_simulator: Open) -> None:
    _, client = await open_simulator(v1=True)
    with pytest.raises(openai.NotFoundError, match="Resource not found"):
        await client.responses.create(model=DEPLOYMENT, input="hello")


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("name", ["gpt-4.1-mini", "simulator-"])
async def test_a_deployment_that_does_not_exist_has_azures_own_code(
    open_simulator: Open, name: str, *, v1: bool
) -> None:
    _, client = await open_simulator(v1=v1)
    with pytest.raises(openai.NotFoundError) as error:
        await ask(client, model=name)
    assert error.value.code == "DeploymentNotFound"


async def test_only_the_accounts_key_is_taken_and_it_is_not_repeated(open_simulator: Open) -> None:
    _, client = await open_simulator(api_key="right-key-0123456789", client={"api_key": "wrong-key-0123456789"})
    with pytest.raises(openai.AuthenticationError) as error:
        await ask(client)
    assert error.value.code == "401"
    assert "Access denied due to invalid subscription key" in str(error.value)
    assert "wrong-key" not in str(error.value)
    await ask(client.with_options(api_key="right-key-0123456789"))


async def test_a_bearer_token_is_taken_and_a_request_without_either_is_not(open_simulator: Open) -> None:
    _, client = await open_simulator(client={"azure_ad_token": "a token of Entra ID"})
    await ask(client)
    with pytest.raises(openai.AuthenticationError) as error:
        await ask(client, extra_headers={"Authorization": ""})
    assert error.value.response.json() == {
        "statusCode": 401,
        "message": (
            "Unauthorized. Access token is missing, invalid, audience is incorrect "
            "(https://cognitiveservices.azure.com), or have expired."
        ),
    }


async def test_a_key_is_a_bearer_token_for_the_v1_api_only(open_simulator: Open) -> None:
    key = "right-key-0123456789"
    _, client = await open_simulator(v1=True, api_key=key, client={"api_key": key})
    await ask(client)
    _, dated = await open_simulator(api_key=key, client={"azure_ad_token": key})
    with pytest.raises(openai.AuthenticationError, match="Access token is missing"):
        await ask(dated)


async def test_an_old_version_does_not_know_the_new_name_of_the_cap(open_simulator: Open) -> None:
    _, client = await open_simulator(client={"api_version": "2024-08-01-preview"})
    await ask(client, max_tokens=5)
    with pytest.raises(openai.BadRequestError, match="Unrecognized request argument supplied: max_completion_tokens"):
        await ask(client, max_completion_tokens=5)
    _, newer = await open_simulator()
    await ask(newer, max_completion_tokens=5)


async def test_the_content_filter_stops_a_prompt_with_azures_error(open_simulator: Open) -> None:
    simulator, client = await open_simulator(filtered_words=["poison"])
    await ask(client)
    with pytest.raises(openai.BadRequestError) as error:
        await ask(client, "how to poison a well")
    assert (error.value.code, error.value.param) == ("content_filter", "prompt")
    body: Any = error.value.body
    assert body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    assert body["innererror"]["content_filter_result"]["violence"] == {"filtered": True, "severity": "high"}
    assert simulator.stats()["rejected"] == {"content_filter": 1}


@pytest.mark.parametrize("window_s", [1, 10])
async def test_requests_are_counted_in_short_windows_and_tokens_by_the_minute(
    open_simulator: Open, window_s: int
) -> None:
    """Of 120 requests per minute, 2 per second or 20 per 10 seconds; the rest of the minute's are not there yet."""
    clock = ManualClock()
    _, client = await open_simulator(
        clock=clock, requests_per_minute=120, tokens_per_minute=60_000, window_s=window_s, token_window_s=60
    )
    await clock.advance(window_s * 0.75)
    for left in range(2 * window_s - 1, -1, -1):
        headers = await headers_of(client)
        assert headers["x-ratelimit-limit-requests"] == str(2 * window_s)
        assert headers["x-ratelimit-remaining-requests"] == str(left)
        assert headers["x-ratelimit-limit-tokens"] == "60000"
        assert "x-ratelimit-reset-requests" not in headers
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client)
    assert error.value.code == "429"
    assert (
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded"
        in (str(error.value))
    )
    assert "exceeded call rate limit" in str(error.value)
    assert error.value.response.headers["retry-after-ms"] == str(window_s * 250)
    await clock.advance(window_s * 0.25)
    await ask(client)


async def test_a_minutes_tokens_are_there_again_in_the_next_minute(open_simulator: Open) -> None:
    """Although the requests are counted by the second."""
    clock = ManualClock()
    _, client = await open_simulator(
        clock=clock,
        tokens_per_minute=1_000,
        window_s=1,
        token_window_s=60,
        debit="input_plus_max_tokens",
        answer_tokens_median=5,
    )
    await ask(client, "x" * 400, max_tokens=800)  # 100 + 800, though the answer has 5
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client, "x" * 400, max_tokens=800)
    assert "exceeded token rate limit" in str(error.value)
    assert "Please retry after 60 seconds" in str(error.value)
    assert error.value.response.headers["retry-after"] == "60"
    await clock.advance(60)
    await ask(client, "x" * 400, max_tokens=800)


async def test_embeddings_are_named_in_their_refusals(open_simulator: Open) -> None:
    _, client = await open_simulator(clock=ManualClock(), requests_per_minute=60, window_s=1)
    await client.embeddings.create(model=DEPLOYMENT, input="a")
    with pytest.raises(openai.RateLimitError, match="Embeddings_Create"):
        await client.embeddings.create(model=DEPLOYMENT, input="a")


async def test_the_openai_routes_stay_as_they_are(open_simulator: Open) -> None:
    """One account, two dialects: what was used by one is used for the other."""
    simulator, client = await open_simulator(clock=ManualClock(), requests_per_minute=60, window_s=1)
    await ask(client)
    async with openai.AsyncOpenAI(api_key="any", base_url=simulator.base_url, max_retries=0) as plain:
        with pytest.raises(openai.RateLimitError) as error:
            await plain.chat.completions.create(model="simulator/small", messages=messages())
    assert error.value.code == "rate_limit_exceeded"
