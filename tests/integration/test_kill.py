"""kill -9, then the same command: nothing lost, nothing doubled, paid twice at most what was in flight."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from batch_llm import wiring
from batch_llm.limiter.control import look
from tests.integration.engine_lab import answers_journalled, killed_after
from tests.integration.lab import Lab

ROWS = 400
DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.lab import Lab
lab = Lab(Path(sys.argv[1]))
print(asyncio.run(lab.run(lab.job(slices={"rows": 150}))).ok)
"""


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_runs_go_on_where_they_stopped(lab: Lab, seed: int) -> None:
    """Three kills at random moments of one job of three slices."""
    lab.table(ROWS)
    draw = random.Random(seed)
    async with lab.simulator(latency_median_s=0.05, seed=seed) as simulator:
        at_kills = 0
        answers = 0
        for _ in range(3):
            answers += draw.randrange(20, 110)
            at_kills += await killed_after(lab, simulator, answers, DRIVER)
        summary = await lab.run(lab.job(slices={"rows": 150}))
        stats = simulator.stats()
    rows = lab.rows()
    assert (summary.rows, summary.ok, summary.pending) == (ROWS, ROWS, 0)
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert stats["duplicates"]["prompts"] == ROWS
    paid_twice = stats["answered"] - ROWS
    assert 0 <= paid_twice <= at_kills


async def test_what_a_killed_process_held_is_not_reserved_any_more(lab: Lab) -> None:
    """Without a budget too: the run that goes on reads its journals, and `limits` tells the truth at its end."""
    lab.table(ROWS)
    async with (
        lab.simulator({"requests_per_minute": 600_000, "max_concurrency": 30}, latency_median_s=1.5) as simulator,
        lab.engine(lab.job(name="other")),
    ):  # whoever is there keeps the private Redis up
        await killed_after(lab, simulator, 20, DRIVER)
        held = {view.scope: view for view in (await look(lab.settings)).budgets}
        (run,) = (scope for scope in held if scope.startswith("run:"))
        assert held[run].reserved_usd > 0
        simulator.configure(latency_median_s=0.01)
        summary = await lab.run(lab.job(slices={"rows": 150}))
        left = {view.scope: view for view in (await look(lab.settings)).budgets}
    assert summary.ok == ROWS and f"run:{summary.run_id}" == run
    assert run not in left and {view.reserved_usd for view in left.values()} == {0}
    assert {view.spent_usd for scope, view in left.items() if scope.startswith("user:")} == {summary.cost_usd}


async def test_a_killed_run_has_kept_what_it_learned(lab: Lab, root: Path) -> None:
    """But for its last second."""
    lab.table(ROWS)
    learned = lab.settings.home / "learned" / "lab.json"
    async with lab.simulator(limits={"requests_per_minute": 1_200}):
        process = subprocess.Popen([sys.executable, "-c", DRIVER, str(lab.folder)], cwd=root)
        while not learned.exists() and process.poll() is None:
            await asyncio.sleep(0.005)
        process.kill()
        assert process.wait() == -9
        plan = wiring.planner(lab.settings, lab.job(slices={"rows": 150})).plan()
    assert 0 < plan.done < ROWS
    assert plan.output_from.endswith("answers of this job")


async def test_a_run_killed_while_it_publishes_is_published_by_the_next(lab: Lab, root: Path) -> None:
    """All rows are answered; the kill falls between journal and output table."""
    lab.table(ROWS)
    async with lab.simulator() as simulator:
        process = subprocess.Popen([sys.executable, "-c", DRIVER, str(lab.folder)], cwd=root)
        while answers_journalled(lab) < ROWS and process.poll() is None:
            await asyncio.sleep(0.005)
        process.kill()
        process.wait()
        again = await lab.run(lab.job(slices={"rows": 150}))
        assert simulator.stats()["answered"] == ROWS
    assert (again.ok, len(lab.rows())) == (ROWS, ROWS)
