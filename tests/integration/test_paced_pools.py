"""Calls of a user's own code over two accounts of one model: both limits, both prices, and one that cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from batch_llm import wiring
from batch_llm.errors import AuthenticationFailed, ProviderError
from batch_llm.limiter.base import Tenant
from batch_llm.paced_client import PacedCalls
from batch_llm.simulator import Simulator, SimulatorConfig
from tests.integration.lab import Lab
from tests.ports import own_port

Ask = Callable[[PacedCalls, str], Coroutine[Any, Any, str]]


async def by_complete(calls: PacedCalls, text: str) -> str:
    return (await calls.complete(text, max_output_tokens=2_000)).text


async def by_sdk(calls: PacedCalls, text: str) -> str:
    messages: Any = [{"role": "user", "content": text}]
    client = calls.openai_client()
    answer = await client.chat.completions.create(model="small", messages=messages, max_completion_tokens=2_000)
    return answer.choices[0].message.content or ""


BOTH_WAYS = pytest.mark.parametrize("ask", [by_complete, by_sdk])


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def calls_of(lab: Lab, budget_usd: Decimal | None = None) -> PacedCalls:
    opener = lambda: wiring.paced_provider(lab.settings, "simulator/small", budget_usd=budget_usd)  # noqa: E731
    return PacedCalls(opener, Tenant("me", "notebook"))


@BOTH_WAYS
async def test_both_limits_are_used(lab: Lab, ask: Ask) -> None:
    """300 calls at once: each account has its share, as the limits are, and rejects none."""
    rates = {"east": 1_200, "west": 2_400}
    configs = [SimulatorConfig(requests_per_minute=rate, latency_median_s=0.05) for rate in rates.values()]
    async with Simulator(configs[0]) as east, Simulator(configs[1]) as west:
        pools = zip(rates.items(), (east, west), strict=True)
        lab.accounts(
            **{name: {"base_url": at.base_url, "limits": {"requests_per_minute": rate}} for (name, rate), at in pools}
        )
        calls = calls_of(lab)
        answers = await asyncio.gather(*(ask(calls, f"Say {number}") for number in range(300)))
        told = east.stats(), west.stats()
    assert all(answers)
    for stats, rate in zip(told, rates.values(), strict=True):
        assert stats["rejected_total"] == 0
        assert stats["accepted"] >= 0.8 * 300 * rate / sum(rates.values())
    assert told[0]["answered"] + told[1]["answered"] == 300


@BOTH_WAYS
async def test_an_account_whose_key_is_refused_hands_its_calls_over(lab: Lab, ask: Ask) -> None:
    limits = {"requests_per_minute": 6_000}
    async with Simulator(SimulatorConfig(api_key="another")) as east, Simulator() as west:
        lab.accounts(
            east={"base_url": east.base_url, "limits": limits}, west={"base_url": west.base_url, "limits": limits}
        )
        calls = calls_of(lab)
        assert all(await asyncio.gather(*(ask(calls, f"Say {number}") for number in range(20))))
        assert west.stats()["answered"] == 20
        west.configure(api_key="another as well")
        with pytest.raises((AuthenticationFailed, openai.AuthenticationError)):
            await ask(calls, "Say more")


@BOTH_WAYS
async def test_an_account_that_is_not_there_costs_no_call(lab: Lab, ask: Ask) -> None:
    """What nobody received is asked at the other one; with no other one it is the caller's."""
    limits = {"requests_per_minute": 6_000}
    nowhere = {"base_url": f"http://127.0.0.1:{own_port()}/v1", "limits": limits}
    async with Simulator() as west:
        lab.accounts(east=nowhere, west={"base_url": west.base_url, "limits": limits})
        calls = calls_of(lab)
        assert all(await asyncio.gather(*(ask(calls, f"Say {number}") for number in range(40))))
        assert west.stats()["answered"] == 40
    with pytest.raises((ProviderError, openai.APIConnectionError)):
        await ask(calls, "Say more")


async def test_each_call_is_paid_at_its_pools_price_and_the_dearest_is_set_aside(lab: Lab) -> None:
    limits = {"requests_per_minute": 1_200}
    dear = {"input": "10.00", "output": "20.00"}
    async with Simulator() as east, Simulator() as west:
        lab.accounts(
            east={"base_url": east.base_url, "limits": limits},
            west={"base_url": west.base_url, "limits": limits, "prices": dear},
        )
        calls = calls_of(lab, Decimal(1))
        await asyncio.gather(*(by_complete(calls, f"Say {number}") for number in range(40)))
        told = east.stats(), west.stats()
    assert all(stats["answered"] > 5 for stats in told)
    billed = sum(
        Decimal(stats["input_tokens"] + 2 * stats["output_tokens"]) * times / 1_000_000
        for stats, times in zip(told, (1, 10), strict=True)
    )
    assert calls.spent_usd == billed
