"""Two accounts behind one model name: both limits are used, and one that dies costs no row.

Belongs here: a job over several pools, judged by the accounts' own counts. Not here: which pool takes which row
(tests/unit/engine/test_pipeline_pools.py), an outage of the only one (test_engine_outage.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batch_llm.simulator import Simulator, SimulatorConfig
from tests.integration.engine_lab import killed_after
from tests.integration.lab import Lab
from tests.ports import own_port

EAST_RPM, WEST_RPM = 1_200, 2_400
DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.lab import Lab
lab = Lab(Path(sys.argv[1]))
print(asyncio.run(lab.run(lab.job(slices={"rows": 150}))).ok)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@asynccontextmanager
async def accounts(lab: Lab, east: dict[str, Any], west: dict[str, Any]) -> AsyncIterator[tuple[Simulator, Simulator]]:
    """Two simulators, and a providers file with a pool for each; their dicts are the pools' own keys."""
    async with AsyncExitStack() as stack:
        both = []
        for keys in (east, west):
            config = SimulatorConfig(latency_median_s=0.05, **keys.get("limits", {}))
            both.append(await stack.enter_async_context(Simulator(config)))
        lab.accounts(east={**east, "base_url": both[0].base_url}, west={**west, "base_url": both[1].base_url})
        yield both[0], both[1]


async def test_both_limits_are_used(lab: Lab) -> None:
    """Each account has its share, as the limits are, and rejects none."""
    lab.table(900)
    east, west = {"limits": {"requests_per_minute": EAST_RPM}}, {"limits": {"requests_per_minute": WEST_RPM}}
    async with accounts(lab, east, west) as (first, second):
        summary = await lab.run()
        stats = first.stats(), second.stats()
    assert (summary.rows, summary.ok) == (900, 900)
    for told, per_minute in zip(stats, (EAST_RPM, WEST_RPM), strict=True):
        assert told["rejected_total"] == 0
        assert told["accepted"] >= 0.9 * 900 * per_minute / (EAST_RPM + WEST_RPM)
    assert stats[0]["answered"] + stats[1]["answered"] == 900
    assert all(told["duplicates"]["answered_twice"] == 0 for told in stats)
    assert {(row["llm_provider"], row["llm_model"]) for row in lab.rows()} == {("simulator", "small")}


async def test_an_account_that_dies_costs_no_row_and_is_used_again(lab: Lab) -> None:
    """The other one goes on at its own limit meanwhile."""
    lab.table(1_000)
    port, per_second = own_port(), 30
    config = SimulatorConfig(latency_median_s=0.05, requests_per_minute=per_second * 60)
    limits = {"requests_per_minute": per_second * 60}
    async with Simulator(config) as west:
        lab.accounts(
            east={"base_url": f"http://127.0.0.1:{port}/v1", "limits": limits},
            west={"base_url": west.base_url, "limits": limits},
        )
        async with Simulator(config, port=port) as east:
            running = asyncio.create_task(lab.run())
            while east.stats()["answered"] < 100:
                await asyncio.sleep(0.02)
        await asyncio.sleep(2)
        before = west.stats()["answered"]
        await asyncio.sleep(5)
        meanwhile = west.stats()["answered"] - before
        async with Simulator(config, port=port) as again:
            summary = await running
            returned = again.stats()["answered"]
    assert (summary.rows, summary.ok, summary.failed) == (1_000, 1_000, 0)
    assert meanwhile >= 5 * per_second * 0.8
    assert returned > per_second


async def test_an_account_that_takes_calls_and_answers_none_costs_no_row_and_is_used_again(lab: Lab) -> None:
    """The other one never slows down; what the silent one holds is asked there after seconds, once each."""
    lab.table(1_100)
    per_second, hangs_s = 30, 14
    keys = {"limits": {"requests_per_minute": per_second * 60}}
    async with accounts(lab, keys, keys) as (east, west):
        running = asyncio.create_task(lab.run())
        while east.stats()["answered"] < 100:
            await asyncio.sleep(0.02)
        east.configure(faults={"hang": 1.0})
        answered = [west.stats()["answered"]]
        for _ in range(hangs_s // 2):
            await asyncio.sleep(2)
            answered.append(west.stats()["answered"])
        east.configure(faults={})
        before = east.stats()["answered"]
        summary = await running
        told = east.stats(), west.stats()
    in_two_s = [after - before for before, after in pairwise(answered)]
    assert (summary.rows, summary.ok, summary.failed) == (1_100, 1_100, 0)
    assert min(in_two_s) >= 2 * per_second * 0.8
    assert told[0]["answered"] - before > per_second
    assert told[0]["answered"] + told[1]["answered"] == 1_100
    assert told[0]["faults"]["hang"] <= 25  # the window, and a few probes
    assert sum(row["llm_attempts"] for row in lab.rows()) == 1_100 + told[0]["faults"]["hang"]  # each call is told


async def test_each_answer_is_paid_at_its_pools_price_and_the_budget_holds(lab: Lab) -> None:
    """What is set aside is the dearest bill of both, so the cap holds whichever answers."""
    lab.table(600)
    west = {"prices": {"input": "10.00", "output": "20.00"}, "limits": {"requests_per_minute": 6_000}}
    budget = Decimal("0.06")
    async with accounts(lab, {"limits": {"requests_per_minute": 6_000}}, west) as (first, second):
        summary = await lab.run(lab.job(budget_usd=str(budget)))
        stats = first.stats(), second.stats()
    billed = sum(
        Decimal(told["input_tokens"] + 2 * told["output_tokens"]) * times / 1_000_000
        for told, times in zip(stats, (1, 10), strict=True)
    )
    paid = [row for row in lab.rows() if row["llm_cost_usd"]]
    assert summary.stopped == "budget" and summary.pending > 0
    assert sum(row["llm_cost_usd"] for row in paid) == billed <= budget
    assert len({row["llm_price_version"] for row in paid}) == 2


async def test_a_killed_run_over_two_accounts_goes_on(lab: Lab) -> None:
    """Nothing lost, nothing doubled, paid twice at most what was in flight."""
    lab.table(400)
    async with accounts(lab, {}, {"prices": {"input": "10.00", "output": "20.00"}}) as both:
        in_flight = await killed_after(lab, Both(*both), 120, DRIVER)  # type: ignore[arg-type]
        summary = await lab.run(lab.job(slices={"rows": 150}))
        answered = sum(one.stats()["answered"] for one in both)
        shares = [one.stats()["answered"] for one in both]
        assert min(shares) > 0, shares  # neither has a limit: how they share is a matter of moments
    assert (summary.rows, summary.ok, summary.pending) == (400, 400, 0)
    assert [row["id"] for row in lab.rows()] == list(range(400))
    assert 0 <= answered - 400 <= in_flight
    assert len({row["llm_price_version"] for row in lab.rows()}) == 2


class Both:
    """Two accounts counted as one."""

    def __init__(self, *accounts: Simulator) -> None:
        self._accounts = accounts

    def stats(self) -> dict[str, int]:
        every = [account.stats() for account in self._accounts]
        return {name: sum(told[name] for told in every) for name in ("accepted", "answered")}
