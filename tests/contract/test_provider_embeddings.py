"""The embeddings adapter on the simulator: vectors, usage, and each refusal over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from batch_llm.clock import ManualClock
from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.base import EmbeddingRequest, Embeddings
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.simulator.vectors import unit_vector

Open = Callable[..., Awaitable[OpenAIEmbeddingProvider]]


@pytest.fixture
async def open_provider() -> AsyncIterator[Open]:
    """Opens our adapter on a simulator with these settings; its clock stands still."""
    async with AsyncExitStack() as stack:

        async def opened(**config: Any) -> OpenAIEmbeddingProvider:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=ManualClock()))
            endpoint = OpenAIEndpoint(simulator.base_url, SecretStr("any"), model_prefix="simulator/")
            return await stack.enter_async_context(OpenAIEmbeddingProvider("simulator", endpoint))

        yield opened


async def embed(provider: OpenAIEmbeddingProvider, *texts: str, total_s: float = 10, **params: Any) -> Embeddings:
    """One call, read from its stored body."""
    return provider.read((await provider.send(EmbeddingRequest("r-0-1", "small", texts, params), total_s=total_s)).body)


async def test_every_text_gets_its_own_vector_and_the_call_one_usage(open_provider: Open) -> None:
    provider = await open_provider(seed=3)
    texts = [f"text {number}" for number in range(300)] + ["中 “ü”", "\n"]
    answer = await embed(provider, *texts)
    assert answer.vectors == tuple(unit_vector(text.encode(), "simulator/small", 3, 1536) for text in texts)
    assert answer.usage is not None
    assert answer.usage.input_tokens == sum(-(-len(text.encode()) // 4) for text in texts)
    assert answer.model == "simulator/small"


async def test_dimensions_are_asked_for(open_provider: Open) -> None:
    provider = await open_provider()
    assert [len(each) for each in (await embed(provider, "a", "b", dimensions=32)).vectors] == [128, 128]


async def test_the_largest_call_is_answered(open_provider: Open) -> None:
    provider = await open_provider(embedding_dimensions=4)
    assert len((await embed(provider, *("x" * 580 for _ in range(2048)))).vectors) == 2048


@pytest.mark.parametrize(
    ("texts", "params", "expected"),
    [
        (("a", ""), {}, ErrorClass.INVALID_REQUEST),
        (("a",) * 2049, {}, ErrorClass.INVALID_REQUEST),
        (("a",), {"dimensions": 9999}, ErrorClass.INVALID_REQUEST),
        (("a", "x" * 40_000), {}, ErrorClass.TOO_LARGE),
        (("x" * 20_000,) * 61, {}, ErrorClass.TOO_LARGE),
    ],
)
async def test_a_refused_request_is_classed_and_not_billed(
    open_provider: Open, texts: tuple[str, ...], params: dict[str, Any], expected: ErrorClass
) -> None:
    provider = await open_provider()
    with pytest.raises(ProviderError) as caught:
        await embed(provider, *texts, **params)
    assert (caught.value.error_class, caught.value.maybe_paid) == (expected, False)


@pytest.mark.parametrize(
    ("config", "expected", "scope"),
    [
        ({"tokens_per_minute": 2}, ErrorClass.TOO_LARGE, None),
        ({"faults": {"rate_limit": 1}}, ErrorClass.RATE_LIMITED, "requests"),
        ({"faults": {"overloaded": 1}}, ErrorClass.OVERLOADED, None),
        ({"faults": {"server_error": 1}}, ErrorClass.SERVER_ERROR, None),
        ({"faults": {"reset": 1}}, ErrorClass.CONNECTION, None),
        ({"faults": {"truncated": 1}}, ErrorClass.CONNECTION, None),
        ({"faults": {"hang": 1}}, ErrorClass.TIMEOUT, None),
        ({"faults": {"malformed": 1}}, ErrorClass.MALFORMED, None),
    ],
)
async def test_what_goes_wrong_is_told_by_its_class(
    open_provider: Open, config: dict[str, Any], expected: ErrorClass, scope: str | None
) -> None:
    provider = await open_provider(**config)
    with pytest.raises(ProviderError) as caught:
        await embed(provider, "text one", "two", total_s=0.3 if "hang" in str(config) else 10)
    assert (caught.value.error_class, caught.value.scope) == (expected, scope)


@pytest.mark.parametrize("limit", ["requests", "tokens"])
async def test_a_limit_that_is_met_is_told_by_its_name_and_its_wait(open_provider: Open, limit: str) -> None:
    provider = await open_provider(**{f"{limit}_per_minute": {"requests": 1, "tokens": 3}[limit], "burst_s": 60})
    await embed(provider, "text one", "two")
    with pytest.raises(ProviderError) as caught:
        await embed(provider, "text one", "two")
    assert (caught.value.error_class, caught.value.scope) == (ErrorClass.RATE_LIMITED, limit)
    assert caught.value.retry_after_s == 60


async def test_stops_of_the_run_are_told_as_such(open_provider: Open) -> None:
    with pytest.raises(QuotaExhausted):
        await embed(await open_provider(quota_requests=0), "a")
    with pytest.raises(AuthenticationFailed):
        await embed(await open_provider(api_key="another key than any"), "a")


async def test_vectors_that_are_missing_show_in_their_number(open_provider: Open) -> None:
    assert len((await embed(await open_provider(faults={"length": 1}), "a", "b", "c", "d")).vectors) == 2
    assert (await embed(await open_provider(faults={"empty": 1}), "a")).vectors == ()


async def test_a_usage_that_is_nonsense_is_unknown_and_the_vectors_are_good(open_provider: Open) -> None:
    provider = await open_provider(faults={"usage": 1})
    answers = [await embed(provider, f"row {number}") for number in range(20)]
    assert {answer.usage for answer in answers} == {None}
    assert all(len(answer.vectors) == 1 for answer in answers)
