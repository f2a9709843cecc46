"""A run that another one takes over: what was paid there stays what it was, and whose it was.

Belongs here: an unfinished run that a changed job ends, judged by its stored rows. Not here: resuming the same run
(test_engine.py), rows that a model of `fallback` answered (test_fallback.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_llm import wiring
from batch_llm.journal.base import RunState
from tests.integration.engine_lab import killed_before_publishing
from tests.integration.lab import FAST, SCHEMA, Lab

CHEAP = {"input": "1.00", "output": "2.00"}  # `Lab.providers` says so of the killed run's model
ANTHROPIC = "other/claude-x"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("OTHER_KEY", "any")
    made = Lab(tmp_path)
    made.table(12)
    return made


def declares(lab: Lab, url: str, **models: dict[str, str]) -> None:
    """Write the providers file: the simulator with a pool per model and its prices; and a provider of another kind."""
    pools = [
        {"name": name, "models": [name], "limits": FAST, "prices": prices, "base_url": url}
        for name, prices in models.items()
    ]
    own: dict[str, Any] = {"simulator": {"kind": "simulator", "pools": pools}} if models else {}
    pool = {"name": "main", "models": ["claude-x"], "limits": FAST, "prices": {"input": "3", "output": "15"}}
    address = {"kind": "anthropic", "base_url": "http://127.0.0.1:9", "api_key": "${env:OTHER_KEY}"}
    other = {"other": {**address, "pools": [pool]}}
    (lab.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {**own, **other}}))


async def started(lab: Lab, **changes: Any) -> str:
    """A run of the changed job, planned but not asked; its id."""
    planner = wiring.planner(lab.settings, lab.job(**changes))
    return (await asyncio.to_thread(planner.start)).record.run_id


def bill(rows: list[dict[str, Any]], prices: dict[str, str]) -> Decimal:
    """What the tokens of these rows cost."""
    given, made = (sum(row[f"llm_{of}_tokens"] for row in rows) for of in ("input", "output"))
    return (given * Decimal(prices["input"]) + made * Decimal(prices["output"])) / 1_000_000


def said(rows: list[dict[str, Any]], *names: str) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row[f"llm_{name}"] for name in names) for row in rows)


def killed_run(lab: Lab) -> str:
    latest = wiring.open_store(lab.settings).runs.latest("lab")
    assert latest is not None
    return latest.run_id


def state_of(lab: Lab, run_id: str) -> RunState:
    return wiring.open_store(lab.settings).runs.get(run_id).state


async def test_what_was_paid_is_stored_at_its_own_models_price(lab: Lab) -> None:
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        killed = killed_run(lab)
        declares(lab, simulator.base_url, small=CHEAP, dear={"input": "100", "output": "100"})
        await started(lab, model="simulator/dear")
    rows = lab.rows(f"run:{killed}")
    assert said(rows, "status", "model") == {("ok", "small"): 12}
    assert sum(row["llm_cost_usd"] for row in rows) == bill(rows, CHEAP) > 0


async def test_what_was_paid_is_read_as_its_own_provider_writes(lab: Lab) -> None:
    """And is there when the job names its first model again, whatever was planned between."""
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        killed = killed_run(lab)
        declares(lab, simulator.base_url, small=CHEAP)
        await started(lab, model=ANTHROPIC)
        assert said(lab.rows(f"run:{killed}"), "status", "provider") == {("ok", "simulator"): 12}
        summary = await lab.run(lab.job(cache="off"))
        assert (summary.ok, summary.requests, simulator.stats()["answered"]) == (12, 0, 12)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_model_that_no_pool_has_any_more_has_no_other_models_price(lab: Lab, kept: bool) -> None:
    """It has that of its run's record; where that keeps none (of an earlier batch_llm) the cost is not known."""
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        killed = killed_run(lab)
        if not kept:
            wiring.open_store(lab.settings).runs.change(killed, prices={})
        declares(lab, simulator.base_url, dear={"input": "100", "output": "100"})
        await started(lab, model="simulator/dear")
    rows = lab.rows(f"run:{killed}")
    assert said(rows, "status", "model") == {("ok", "small"): 12}
    if kept:
        assert sum(row["llm_cost_usd"] for row in rows) == bill(rows, CHEAP)
    else:
        assert said(rows, "cost_usd", "price_version") == {(None, None): 12}


async def test_a_provider_that_is_gone_keeps_its_run_open_and_says_so(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can read its answers: they wait in the journal, and count again once it is declared again."""
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        killed = killed_run(lab)
        declares(lab, simulator.base_url)
        following = await started(lab, model=ANTHROPIC)
        assert following != killed and state_of(lab, killed) is RunState.PLANNED
        (told,) = caplog.messages
        assert killed in told and "simulator/small" in told and "there is no provider 'simulator'" in told
        lab.providers(simulator.base_url)
        assert await started(lab, model="simulator/small", prompt={"user": "Another: {{ text }}"}) != killed
        assert state_of(lab, killed) is RunState.SUPERSEDED
        assert said(lab.rows(f"run:{killed}"), "status", "model") == {("ok", "small"): 12}


async def cached_for(lab: Lab, user: str) -> int:
    """How many rows of another job of this user, which asks the same, need not be asked."""
    output = {"table": f"of_{user}", "schema": SCHEMA}
    return (await lab.run(lab.job(name=f"other_{user}", user=user, output=output))).cached


async def test_what_was_paid_is_nobody_elses_answer(lab: Lab) -> None:
    """Who takes the run over pays for what she asks herself."""
    async with lab.simulator():
        await killed_before_publishing(lab, "run")
        own = lab.job().job.user
        await started(lab, user="bob", prompt={"user": "Another: {{ text }}"})
        assert await cached_for(lab, "bob") == 0
        assert await cached_for(lab, own) == 12


async def test_a_run_that_two_users_paid_gives_each_what_that_one_paid(lab: Lab) -> None:
    """One began it, the other went on; also when the index has to learn it from the journal."""
    async with lab.simulator():
        own = lab.job().job.user
        await lab.run(limit=5)
        await lab.run(lab.job(user="bob"), limit=4)
        for lost in lab.settings.home.glob("answers.sqlite*"):
            lost.unlink()
        summary = await lab.run(lab.job(user="carol"), limit=1)
        assert (summary.ok, summary.pending) == (10, 2)
        await lab.run(lab.job(user="bob"), limit=1)
        await lab.run()
        assert [await cached_for(lab, user) for user in (own, "bob", "carol", "dave")] == [6, 5, 1, 0]
