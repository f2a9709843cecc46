"""`LLMResource`: anybody's asset, behind the same limiter and budget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from batch_llm.errors import BudgetExhausted, ConfigurationError, NotYetAvailable
from resources.llm import LLMResource
from tests.integration.dagster_lab import Account, CodeLocation

# Dagster 1.13.27 calls its own deprecated property when a resource stands inside another
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning")

LIMITS = {"requests_per_minute": 1200}  # 20 per second


@pytest.fixture
def account() -> Iterator[Account]:
    with Account(**LIMITS, burst_s=0.1) as opened:
        yield opened


@pytest.fixture
def location(tmp_path: Path, account: Account) -> CodeLocation:
    made = CodeLocation(tmp_path, account.base_url)
    made.limits(LIMITS)
    return made


@dg.asset
def titles(llm: LLMResource) -> dg.MaterializeResult:  # anybody's ten lines, the docs show them
    async def ask(number: int) -> int:
        client = llm.openai_client()
        messages: Any = [{"role": "user", "content": f"A title for chapter {number}"}]
        answer = await client.chat.completions.create(model=llm.model_name, messages=messages)
        return len(answer.choices[0].message.content or "")

    async def all_titles() -> list[int]:
        return list(await asyncio.gather(*(ask(number) for number in range(40))))

    return dg.MaterializeResult(metadata={"characters": sum(asyncio.run(all_titles()))})


def llm(location: CodeLocation, **fields: Any) -> LLMResource:
    return LLMResource(settings=location.settings_resource, model="simulator/small", **fields)


def test_a_foreign_asset_is_paced_by_the_same_limiter(location: CodeLocation, account: Account) -> None:
    """40 calls at once against a strict account of 20 per second: none is rejected, no second sees more than 21."""
    result = dg.materialize([titles], resources={"llm": llm(location)})
    assert result.success
    stats = account.stats()
    assert stats["accepted"] == 40
    assert stats["rejected_total"] == 0
    assert max(stats["per_second"]) <= 21


def test_complete_asks_once_and_counts_the_cost(location: CodeLocation, account: Account) -> None:
    resource = llm(location, budget_usd=1)

    async def ask() -> list[str]:
        answers = await asyncio.gather(
            *(resource.complete(f"Say {number}", max_output_tokens=50) for number in range(5))
        )
        return [answer.text for answer in answers]

    assert all(asyncio.run(ask()))
    first = resource.create().spent_usd
    assert first > 0
    asyncio.run(resource.complete("Say more", max_output_tokens=50))
    assert resource.create().spent_usd > first, "one budget for all loops of a Dagster run"
    assert account.stats()["accepted"] == 6


def test_a_budget_that_is_used_up_refuses_before_sending(location: CodeLocation, account: Account) -> None:
    resource = llm(location, budget_usd=0.00001)
    with pytest.raises(BudgetExhausted):
        asyncio.run(resource.complete("Say it", max_output_tokens=5000))
    assert account.stats()["accepted"] == 0


def test_another_model_is_another_limit_and_refused(location: CodeLocation) -> None:
    async def ask() -> None:
        messages: Any = [{"role": "user", "content": "Hello"}]
        await llm(location).openai_client().chat.completions.create(model="other", messages=messages)

    with pytest.raises(ConfigurationError, match="LLMResource of its own"):
        asyncio.run(ask())


def test_embeddings_are_not_yet_available(location: CodeLocation) -> None:
    with pytest.raises(NotYetAvailable):
        asyncio.run(llm(location).embed(["text"]))


def test_rejections_are_waited_out(location: CodeLocation, account: Account) -> None:
    """A 429 despite pacing (somebody else uses the account) pauses and asks again."""
    account.configure(faults={"rate_limit": 0.3}, fault_retry_after_s=0.1)
    resource = llm(location)

    async def ask() -> None:
        client = resource.openai_client()
        messages: Any = [{"role": "user", "content": "Hello"}]
        for _ in range(6):
            await client.chat.completions.create(model="small", messages=messages)

    asyncio.run(ask())
    stats = account.stats()
    assert stats["answered"] == 6 and stats["rejected_total"] + sum(stats["faults"].values()) > 0


def test_the_client_holds_no_secret(location: CodeLocation) -> None:
    assert llm(location).openai_client().api_key == "kept-by-batch-llm"
