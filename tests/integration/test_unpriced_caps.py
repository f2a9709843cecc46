"""Caps of `batch-llm limits budget` and a model whose price nobody knows: no call is sent that they might not cover.

Belongs here: every door of a run, and calls of one's own code. Not here: caps where prices are known
(tests/unit/limiter/test_budget.py, test_shared_budget.py), `budget_usd` without a price (test_engine.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import yaml

from batch_llm import wiring
from batch_llm.cli.exits import Exit, exit_for_summary
from batch_llm.config.settings import IN_PROCESS
from batch_llm.engine.events import Stopping
from batch_llm.errors import BudgetExhausted, ConfigurationError
from batch_llm.job.load import DeclaredJob
from batch_llm.limiter.base import Tenant
from batch_llm.limiter.control import change_caps
from batch_llm.limiter.ledger import DAY_CAP, user_cap, user_day_cap
from batch_llm.limiter.opening import limiter_store
from batch_llm.paced_client import Asking, PacedCalls
from batch_llm.simulator import Simulator
from tests.integration.cli_lab import CommandLine, ended
from tests.integration.lab import FAST, Lab

UNKNOWN = "the price of simulator/small is unknown, so no cap can be kept on "
CAPS = {
    DAY_CAP: ("what everybody together may spend per day", "--per-day none"),
    user_cap("alice b"): ("what user alice b may spend in total", "--user 'alice b=none'"),
    user_day_cap("alice b"): ("what user alice b may spend per day", "--user-per-day 'alice b=none'"),
}


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """Its limits and money are kept in this process, but where a test has commands."""
    lab.settings = replace(lab.settings, redis_url=IN_PROCESS)
    lab.table(20)
    return lab


def unpriced(lab: Lab, name: str = "simulator") -> None:
    """Take the prices out of the providers file."""
    path = lab.folder / "providers.yaml"
    data = yaml.safe_load(path.read_text())
    for pool in data["providers"][name]["pools"]:
        pool.pop("prices")
    path.write_text(yaml.safe_dump(data))


@asynccontextmanager
async def unpriced_account(lab: Lab, **config: Any) -> AsyncIterator[Simulator]:
    """An account whose prices nobody knows."""
    async with lab.simulator(**config) as simulator:
        unpriced(lab)
        yield simulator


async def cap(lab: Lab, **caps: Decimal | None) -> None:
    async with limiter_store(IN_PROCESS, lab.settings.home) as store:
        await store.ledger().set_caps(caps)


def alices(lab: Lab, **changes: Any) -> DeclaredJob:
    return lab.job(user="alice b", **changes)


@pytest.mark.parametrize("name", CAPS)
async def test_a_run_is_refused_before_its_first_call(lab: Lab, name: str) -> None:
    """By its plan as well; and nothing is frozen."""
    what, lifted = CAPS[name]
    async with unpriced_account(lab) as simulator:
        await cap(lab, **{name: Decimal(1000)})
        for refused in (lab.run(alices(lab)), asyncio.to_thread(wiring.planner(lab.settings, alices(lab)).plan)):
            with pytest.raises(ConfigurationError) as told:
                await refused
            assert f"{UNKNOWN}{what}; give `prices` to its pool in the providers file" in str(told.value)
            assert str(told.value).endswith(f"or lift the cap: batch-llm limits budget {lifted}")
        assert wiring.open_store(lab.settings).runs.all() == []
        assert simulator.stats()["accepted"] == 0
        await cap(lab, **{name: None})
        assert (await lab.run(alices(lab))).ok == 20


async def test_all_caps_that_apply_are_named_and_lifted_by_one_command(lab: Lab) -> None:
    async with unpriced_account(lab):
        await cap(lab, **dict.fromkeys(CAPS, Decimal(1)))
        with pytest.raises(ConfigurationError) as told:
            wiring.planner(lab.settings, alices(lab)).plan()
    assert " and on ".join(what for what, _ in CAPS.values()) in str(told.value)
    assert " ".join(["limits budget", *(lifted for _, lifted in CAPS.values())]) in str(told.value)


async def test_a_cap_of_another_user_binds_nobody_else(lab: Lab) -> None:
    async with unpriced_account(lab):
        await cap(lab, **{user_cap("bob"): Decimal(0), user_day_cap("bob"): Decimal(0)})
        assert wiring.planner(lab.settings, alices(lab)).plan().new == 20
        assert (await lab.run(alices(lab))).ok == 20


async def test_vectors_without_a_price_are_refused_too(lab: Lab) -> None:
    params = {"prompt": {"user": "{{ text }}"}, "params": {"dimensions": 8}, "output": {"table": "out"}}
    async with unpriced_account(lab) as simulator:
        await cap(lab, day=Decimal(1))
        with pytest.raises(ConfigurationError, match=UNKNOWN):
            await lab.run(lab.job(kind="embedding", **params))
        assert simulator.stats()["accepted"] == 0


async def test_one_model_without_a_price_among_the_fallbacks_is_enough(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARE_KEY", "sk-spare-abcdef123456")
    async with lab.simulator() as simulator:
        path = lab.folder / "providers.yaml"
        data = yaml.safe_load(path.read_text())
        pools = [{"name": "spare", "models": ["large"], "limits": FAST}]
        endpoint = {"kind": "openai_compatible", "base_url": simulator.base_url, "api_key": "${env:SPARE_KEY}"}
        data["providers"]["spare"] = {**endpoint, "pools": pools}
        path.write_text(yaml.safe_dump(data))
        await cap(lab, day=Decimal(1))
        with pytest.raises(ConfigurationError, match="the price of spare/large is unknown, so no cap can be kept"):
            await lab.run(lab.job(fallback=["spare/large"]))
        assert simulator.stats()["accepted"] == 0
        assert (await lab.run()).ok == 20


async def test_a_retry_and_a_slice_are_refused_before_any_call(lab: Lab) -> None:
    async with unpriced_account(lab) as simulator:
        record = wiring.planner(lab.settings, lab.job()).start().record
        await cap(lab, day=Decimal(1))
        async with lab.engine() as engine:
            with pytest.raises(ConfigurationError, match=UNKNOWN):
                await engine.run_slice(record, 0)
            with pytest.raises(ConfigurationError, match=UNKNOWN):
                await engine.retry()
        assert simulator.stats()["accepted"] == 0


async def test_a_cap_that_is_set_while_it_works_stops_the_run(lab: Lab) -> None:
    """Nothing more is sent; what is paid is kept, and the same command goes on when the cap is lifted."""
    lab.table(200)
    async with unpriced_account(lab, latency_median_s=0.05) as simulator:
        lab.providers(simulator.base_url, {"requests_per_minute": 1_200})
        unpriced(lab)
        running = asyncio.create_task(lab.run())
        while simulator.stats()["answered"] < 5:
            await asyncio.sleep(0.01)
        await cap(lab, day=Decimal(1000))
        stopped = await running
        assert (stopped.stopped, exit_for_summary(stopped)) == ("budget", Exit.STOPPED)
        assert stopped.ok == simulator.stats()["accepted"] and stopped.ok + stopped.pending == 200
        assert stopped.pending > 0
        (told,) = [event.reason for event in lab.events if isinstance(event, Stopping)]
        assert "simulator/small: what the next request may cost is not known" in told
        assert "a cap cannot be kept: what everybody together may spend per day (UTC), 1000 USD" in told
        with pytest.raises(ConfigurationError, match=UNKNOWN):
            await lab.run()
        await cap(lab, day=None)
        lab.providers(simulator.base_url)
        unpriced(lab)
        done = await lab.run()
        assert (done.ok, done.run_id, simulator.stats()["accepted"]) == (200, stopped.run_id, 200)


async def test_calls_of_ones_own_code_are_refused_too(lab: Lab) -> None:
    async with unpriced_account(lab) as simulator:
        await cap(lab, day=Decimal(1))
        opener = partial(wiring.paced_provider, lab.settings, "simulator/small")
        client = PacedCalls(opener, Tenant("alice", "asset"))
        with pytest.raises(BudgetExhausted, match="its model has no price, so a cap cannot be kept"):
            await client.complete("Say it", max_output_tokens=10)
        assert simulator.stats()["accepted"] == 0
        await cap(lab, day=None)
        assert (await client.complete("Say it", max_output_tokens=10)).text


async def test_what_may_cost_anything_is_not_asked_for_under_a_cap(lab: Lab) -> None:
    """Though the model has a price: a parameter of the SDK whose bill nobody can bound."""
    async with lab.simulator() as simulator:
        await cap(lab, day=Decimal(1))
        client = PacedCalls(partial(wiring.paced_provider, lab.settings, "simulator/small"), Tenant("alice", "asset"))
        async with client.opened() as opening:
            with pytest.raises(ConfigurationError, match="tools: what it costs is not known before"):
                await client.begin(opening, Asking("Say it", 10, unbounded="tools"))
            assert opening.budget.reserved_usd == 0
        assert simulator.stats()["accepted"] == 0


async def test_commands_know_the_caps_of_a_private_redis_that_nobody_uses(lab: Lab) -> None:
    """Exit 2 and the sentence, of `plan` and `run`; a run at work ends with what to do."""
    lab.settings = replace(lab.settings, redis_url=None)
    lab.table(200)
    cli = CommandLine(lab)
    job = cli.job_file()
    async with lab.simulator(latency_median_s=0.05) as simulator:
        lab.providers(simulator.base_url, {"requests_per_minute": 1_200})
        unpriced(lab)
        assert (await cli.run("limits", "budget", "--per-day", "50")).code == 0
        for command in (("plan", job), ("run", job, "--yes")):
            said = await cli.run(*command)
            assert (said.code, simulator.stats()["accepted"]) == (2, 0)
            assert UNKNOWN + "what everybody together may spend per day" in said.err
        assert (await cli.run("limits", "budget", "--per-day", "none")).code == 0
        run = await cli.start("run", job, "--yes")
        while simulator.stats()["answered"] < 5:
            await asyncio.sleep(0.01)
        await change_caps(lab.settings, {DAY_CAP: Decimal(50)})
        said = await ended(run)
    assert said.code == 3, said.err
    assert "Stopped early: budget. What the next row may cost is not known: do what is said above" in said.out
