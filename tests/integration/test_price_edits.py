"""Prices that change while a run goes on: what was paid before stays what it cost then.

Belongs here: edits of the providers file between two parts of a run, judged by its stored rows. Not here: pools with
several prices at once (test_several_accounts.py), a run of another model (test_takeover.py).
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.engine.engine import Engine
from tests.integration.engine_lab import killed_before_publishing
from tests.integration.lab import SCHEMA, Lab

LATER = {"input": "10.00", "output": "20.00"}  # ten times as much as before


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path)
    made.table(30)
    return made


def costs(lab: Lab) -> dict[int, tuple[Decimal | None, str | None]]:
    """id: what the output says that the row cost, and by which prices."""
    return {row["id"]: (row["llm_cost_usd"], row["llm_price_version"]) for row in lab.rows()}


def versions(paid: dict[int, tuple[Any, str | None]]) -> Counter[str | None]:
    return Counter(version for _, version in paid.values())


async def spent_usd(engine: Engine, lab: Lab) -> Decimal:
    """What a budget that is given now would know of."""
    record = wiring.open_store(lab.settings).runs.latest("lab")
    assert record is not None
    return sum((await engine._spent_usd(record, frozenset())).values(), Decimal(0))


async def test_rows_that_were_paid_keep_their_cost_and_its_version(lab: Lab) -> None:
    async with lab.simulator() as simulator:
        await lab.run(limit=12)
        asked = {row: paid for row, paid in costs(lab).items() if paid[1]}
        lab.providers(simulator.base_url, prices=LATER)
        summary = await lab.run()
        now = costs(lab)
        assert {row: now[row] for row in asked} == asked
        assert sorted(versions(now).values()) == [12, 18]
        assert summary.cost_usd == sum(cost or 0 for cost, _ in now.values())
        async with lab.engine() as engine:
            assert await spent_usd(engine, lab) == summary.cost_usd


async def test_reparse_changes_no_cost(lab: Lab) -> None:
    async with lab.simulator() as simulator:
        summary = await lab.run()
        before = costs(lab)
        lab.providers(simulator.base_url, prices=LATER)
        changed = lab.job(output={"table": "out", "schema": {"tone": SCHEMA["tone"]}, "keep": ["extra"]})
        again = (await wiring.reparser(lab.settings, changed).reparse()).summary
    assert costs(lab) == before and again.cost_usd == summary.cost_usd


async def test_what_a_killed_process_paid_is_published_at_the_price_of_then(lab: Lab) -> None:
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        lab.providers(simulator.base_url, prices=LATER)
        async with lab.engine() as engine:
            spent = await spent_usd(engine, lab)
        summary = await lab.run()
    rows = lab.rows()
    tokens = [sum(row[f"llm_{of}_tokens"] for row in rows) for of in ("input", "output")]
    assert summary.cost_usd == spent == (tokens[0] + 2 * tokens[1]) / Decimal(1_000_000)


async def test_a_run_of_an_earlier_version_that_kept_no_prices_is_counted_at_those_of_today(lab: Lab) -> None:
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        runs = wiring.open_store(lab.settings).runs
        record = runs.latest("lab")
        assert record is not None
        runs.change(record.run_id, prices={})
        lab.providers(simulator.base_url, prices=LATER)
        summary = await lab.run()
    rows = lab.rows()
    tokens = [sum(row[f"llm_{of}_tokens"] for row in rows) for of in ("input", "output")]
    assert summary.cost_usd == (10 * tokens[0] + 20 * tokens[1]) / Decimal(1_000_000)
    assert len(versions(costs(lab))) == 1
