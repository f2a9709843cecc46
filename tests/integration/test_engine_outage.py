"""A provider that is away for a while: no row suffers, and the user is told.

Belongs here: what happens around the outage of a whole provider. Not here: errors of single calls (test_engine.py).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch_llm.engine.events import Progress
from batch_llm.simulator import Simulator, SimulatorConfig
from tests.integration.lab import Lab
from tests.ports import own_port

ROWS = 400


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def test_a_provider_that_is_away_costs_no_row(lab: Lab) -> None:
    """It dies under the calls and comes back; nobody guesses meanwhile how long the rest will take."""
    lab.table(ROWS)
    port = own_port()
    config = SimulatorConfig(latency_median_s=0.05, requests_per_minute=600_000)
    lab.providers(f"http://127.0.0.1:{port}/v1", {"requests_per_minute": 6_000})
    async with Simulator(config, port=port) as first:
        running = asyncio.create_task(lab.run())
        while first.stats()["answered"] < 50:
            await asyncio.sleep(0.02)
    while not (silent := [event for event in away(lab) if "it is probed" in event.holding_back]):
        await asyncio.sleep(0.1)
    async with Simulator(config, port=port):
        summary = await running
    assert (summary.ok, summary.failed) == (ROWS, 0)
    assert all(event.eta_s is None for event in silent)


def away(lab: Lab) -> list[Progress]:
    """What was told while nobody answered."""
    told = [event for event in lab.events if isinstance(event, Progress)]
    return [event for event in told if "answered nobody" in event.holding_back]
