"""A budget in front of an endpoint whose bills are not what the text lets expect.

Belongs here: what is set aside against what is billed, judged by the endpoint's own count. Not here: several processes
(test_shared_budget.py), several prices (test_several_accounts.py).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.errors import ConfigurationError
from batch_llm.journal.base import EntryKind
from tests.integration.engine_lab import answered_body, compatible_server, journalled, write_input
from tests.integration.lab import Lab

USD_PER_TOKEN = Decimal(10) / 1_000_000
PRICES = {"input": "10", "output": "10"}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


def short(lab: Lab, budget_usd: str) -> Any:
    """Prompts of a few bytes, answers of one token."""
    changes = {"prompt": {"user": "{{ text }}"}, "params": {"max_output_tokens": 1}, "output": {"table": "out"}}
    return lab.job(budget_usd=budget_usd, **changes)


@pytest.mark.parametrize("framing", [35, 530])
async def test_what_a_chat_template_adds_is_set_aside_before_any_bill(lab: Lab, framing: int) -> None:
    """All calls are sent before the first answer comes."""
    write_input(lab, id=list(range(60)), text=[str(i) for i in range(60)], extra=[0] * 60)
    bills: list[int] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        bills.append(len(prompt) + framing + 1)
        await asyncio.sleep(0.3)
        given = len(prompt) + framing
        return 200, answered_body("y", prompt_tokens=given, completion_tokens=1, total_tokens=given + 1)

    async with compatible_server(lab, answer, prices=PRICES) as model:
        job = short(lab, "0.05")
        summary = await lab.run(lab.job(**{**job.job_data(), "model": model}))
    assert summary.stopped == "budget" or summary.ok == 60
    assert sum(bills) * USD_PER_TOKEN == summary.cost_usd <= Decimal("0.05")
    assert len(bills) > 6


async def test_a_budget_that_pays_for_the_framing_of_no_row_is_refused(lab: Lab) -> None:
    write_input(lab, id=[1], text=["a"], extra=[0])

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered_body("y")

    async with compatible_server(lab, answer, prices=PRICES) as model:
        data = short(lab, "0.005").job_data()
        planner = wiring.planner(lab.settings, lab.job(**{**data, "model": model}))
        with pytest.raises(ConfigurationError, match=r"budget_usd 0\.005 pays for no row"):
            await asyncio.to_thread(planner.start)


async def test_calls_of_unknown_outcome_count_in_a_budget_that_is_given_later(lab: Lab) -> None:
    """They may be billed: what was held for them is in the journals, whoever reads these."""
    write_input(lab, id=list(range(8)), text=[str(i) for i in range(8)], extra=[0] * 8)
    came: list[str] = []
    all_came = asyncio.Event()

    async def silent(prompt: str) -> tuple[int, dict[str, Any]]:
        came.append(prompt)
        if len(came) == 8:
            all_came.set()
        await asyncio.sleep(60)
        return 500, {}

    async with compatible_server(lab, silent, prices=PRICES) as model:
        data = {**short(lab, "1").job_data(), "model": model}
        async with lab.engine(lab.job(**{**data, "budget_usd": None})) as engine:
            asked = asyncio.create_task(engine.run())
            await all_came.wait()
            asked.cancel()
            with suppress(asyncio.CancelledError):
                await asked
        lost = [entry for entry in journalled(lab, 0) if entry.kind is EntryKind.LOST]
        held = sum(Decimal(entry.detail["held_usd"]) for entry in lost)
        assert len(lost) == 8 and held > 8 * 640 * USD_PER_TOKEN
        record = wiring.open_store(lab.settings).runs.latest("lab")
        assert record is not None
        async with lab.engine(lab.job(**{**data, "budget_usd": str(held)})) as engine:
            assert sum((await engine._spent_usd(record, frozenset())).values()) == held
            summary = await engine.run()
    assert (summary.stopped, summary.requests, len(came)) == ("budget", 0, 8)
