"""The provider adapter and the header reader on the simulator: each kind of 429 and each header over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from batch_llm.clock import ManualClock
from batch_llm.errors import ErrorClass, ProviderError, QuotaExhausted
from batch_llm.limiter.headers import HeaderFact, HeaderReader
from batch_llm.providers.base import Message, RawAnswer, Request
from batch_llm.providers.openai.chat import OpenAIChatProvider, OpenAIEndpoint
from batch_llm.simulator import Simulator, SimulatorConfig

Open = Callable[..., Awaitable[OpenAIChatProvider]]


@pytest.fixture
async def open_provider() -> AsyncIterator[Open]:
    """Opens our adapter on a simulator with these settings; its clock stands still."""
    async with AsyncExitStack() as stack:

        async def opened(**config: Any) -> OpenAIChatProvider:
            settings = {"answer_tokens_median": 10, "answer_tokens_sigma": 0, **config}
            simulator = Simulator(SimulatorConfig(**settings), clock=ManualClock())
            await stack.enter_async_context(simulator)
            endpoint = OpenAIEndpoint(simulator.base_url, SecretStr("any"), "max_tokens", "simulator/")
            return await stack.enter_async_context(OpenAIChatProvider("simulator", endpoint))

        yield opened


async def send(provider: OpenAIChatProvider, characters: int = 40) -> RawAnswer:
    """One request; four characters are one token, the answer has ten."""
    request = Request("r-0-1", "small", (Message("user", "x" * characters),), {"max_output_tokens": 10}, None)
    return await provider.send(request, total_s=10)


@pytest.mark.parametrize(
    ("config", "scope", "wait_s"),
    [
        ({"requests_per_minute": 1, "burst_s": 60}, "requests", 60),
        ({"tokens_per_minute": 30, "burst_s": 60}, "tokens", 20),
        ({"input_tokens_per_minute": 15, "burst_s": 60}, "input_tokens", 20),
        ({"output_tokens_per_minute": 15, "burst_s": 60}, "output_tokens", 20),
        ({"requests_per_day": 1}, "requests_per_day", 86_400),
        ({"requests_per_day": 1, "day_resets_s": 3_600}, "requests_per_day", 3_600),
        ({"tokens_per_day": 30}, "tokens_per_day", 28_800),
        ({"faults": {"rate_limit": 1}, "fault_retry_after_s": 3}, "requests", 3),
    ],
)
async def test_each_limit_is_told_by_its_name_and_its_wait(
    open_provider: Open, config: dict[str, Any], scope: str, wait_s: float
) -> None:
    provider = await open_provider(**config)
    if "faults" not in config:
        await send(provider)
    with pytest.raises(ProviderError) as error:
        await send(provider)
    assert (error.value.error_class, error.value.scope) == (ErrorClass.RATE_LIMITED, scope)
    assert error.value.retry_after_s == pytest.approx(wait_s, abs=0.001)


@pytest.mark.parametrize("limit", ["tokens_per_minute", "input_tokens_per_minute", "tokens_per_day"])
async def test_what_can_never_fit_is_too_large(open_provider: Open, limit: str) -> None:
    provider = await open_provider(**{limit: 15})
    with pytest.raises(ProviderError) as error:
        await send(provider, 4_000)
    assert error.value.error_class is ErrorClass.TOO_LARGE


async def test_used_up_credit_and_overload_are_no_rate(open_provider: Open) -> None:
    with pytest.raises(QuotaExhausted):
        await send(await open_provider(quota_requests=0))
    with pytest.raises(ProviderError) as error:
        await send(await open_provider(faults={"overloaded": 1}))
    assert (error.value.error_class, error.value.scope) == (ErrorClass.OVERLOADED, None)


async def test_the_headers_of_an_answer_are_read_in_their_units(open_provider: Open) -> None:
    """Per minute; and per day where the account has such a limit."""
    provider = await open_provider(requests_per_minute=600, tokens_per_minute=6_000, burst_s=60)
    assert HeaderReader("openai").read((await send(provider)).headers) == [
        HeaderFact("requests", 10, 599),
        HeaderFact("tokens", 100, 5_980),
    ]
    provider = await open_provider(requests_per_minute=600, requests_per_day=8_640)
    reader = HeaderReader("openai")
    assert reader.read((await send(provider)).headers) == []  # one answer alone could be that of a minute
    assert reader.read((await send(provider)).headers) == [HeaderFact("requests_per_day", 0.1, 8_638)]


@pytest.mark.parametrize(
    "counting", [{"burst_s": 0}, {"burst_s": 1}, {"burst_s": 60}, {"window_s": 1}, {"window_s": 60}]
)
async def test_whatever_way_the_minute_is_counted_it_is_never_taken_for_a_day(
    open_provider: Open, counting: dict[str, float]
) -> None:
    provider = await open_provider(requests_per_minute=600, **counting)
    reader = HeaderReader("openai")
    seen = []
    for _ in range(1 if counting == {"burst_s": 0} else 8):
        seen += reader.read((await send(provider)).headers)
    assert {(fact.dimension, fact.limit_per_s) for fact in seen} <= {("requests", 10)}
    assert seen or counting == {"window_s": 60}  # there it shows once a tenth is used
