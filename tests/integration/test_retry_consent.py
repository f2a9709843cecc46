"""`retry` asks before it may cost much, as `run` does: by what the rows to ask may cost, not by what others did."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.engine.planning import Plan
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob
from tests.integration.cli_lab import CommandLine
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import Lab

GOOD = '{"tone": "calm", "score": 1}'
REFUSED = 400, {"error": {"message": "no", "type": "invalid_request_error"}}
DEAR = {"input": "1", "output": "100"}  # an answer of 200 tokens: 0.02


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty machine, with the key of `compatible_server`."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


def retried(lab: Lab, job: DeclaredJob) -> Plan:
    planner = wiring.planner(lab.settings, job)
    record = planner.latest_run()
    assert record is not None
    return planner.plan_retry(record)


async def test_rows_that_were_refused_for_nothing_are_not_taken_for_cheap(lab: Lab) -> None:
    """Few answered rows, many that cost nothing, and an answer of unknown cost: the price is known all the same."""
    rows, asked, refuses = 80, 0, True

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        nonlocal asked
        asked += 1
        if refuses and prompt not in {f"Grade: text {row}" for row in range(4)}:
            return REFUSED
        body = answered_body(GOOD)
        return 200, body if prompt != "Grade: text 0" else {**body, "usage": None}

    lab.table(rows)
    cli = CommandLine(lab)
    async with compatible_server(lab, answer, prices=DEAR) as model:
        job = cli.job_file(model=model)
        first = await cli.run("run", job, "--yes", "--json")
        assert (first.json["ok"], first.json["failed"], first.json["cost_unknown_rows"]) == (4, 76, 1)
        asked, refuses = 0, False
        refused = await cli.run("retry", job)
        assert (refused.code, asked) == (2, 0)
        assert "asking 76 rows; this costs up to $1.5" in refused.err and "price" not in refused.err
        agreed = await cli.run("retry", job, "--confirm-above", "1.60", "--json")
        assert (agreed.code, agreed.json["ok"], asked) == (0, rows, 76)


async def test_a_retry_is_planned_like_a_run(lab: Lab) -> None:
    """Over the rows that failed, in this run or in the one before, and those that a stopped retry did not come to."""
    refuses, asked, enough = True, 0, asyncio.Event()

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        nonlocal asked
        asked += 1
        if not refuses and asked == 3:
            enough.set()
            await asyncio.sleep(0.2)  # stopped meanwhile
        return REFUSED if refuses and prompt != "Grade: text 0" else (200, answered_body(GOOD))

    limits = {"requests_per_minute": 600_000, "max_concurrency": 1}
    async with compatible_server(lab, answer, prices=DEAR, limits=limits) as model:
        job = lab.job(model=model, slices={"rows": 4})
        lab.table(9)
        await lab.run(job)
        lab.table(10)
        whole = wiring.planner(lab.settings, job).plan()
        assert (whole.new, whole.done, whole.failed) == (1, 1, 8)
        await lab.run(job)  # which carries one answer and eight failures
        plan = retried(lab, job)
        assert (plan.new + plan.changed, plan.failed, plan.done, plan.free) == (9, 0, 1, 0)
        assert whole.cost_dearest_usd is not None
        assert plan.cost_dearest_usd == pytest.approx(whole.cost_dearest_usd * 9, rel=Decimal("0.001"))

        with pytest.raises(ConfigurationError, match="changed since run"):
            retried(lab, lab.job(model=model, slices={"rows": 4}, prompt={"user": "Grade {{ extra }}"}))

        refuses, asked = False, 0
        async with lab.engine(job) as engine:
            retrying = asyncio.create_task(engine.retry())
            await enough.wait()
            engine.stop()
            summary = await retrying
        left = summary.failed + summary.pending
        assert summary.pending and left == 10 - summary.ok
        plan = retried(lab, job)
        assert plan.new + plan.changed == left
        async with lab.engine(job) as engine:
            assert (await engine.retry()).ok == 10
    assert retried(lab, job).cost_dearest_usd == 0


async def test_a_pool_without_a_price_has_no_estimate(lab: Lab) -> None:
    async def answer(_: str) -> tuple[int, dict[str, Any]]:
        return REFUSED

    lab.table(3)
    cli = CommandLine(lab)
    async with compatible_server(lab, answer, prices=None) as model:
        job = cli.job_file(model=model)
        await cli.run("run", job, "--yes")
        refused = await cli.run("retry", job)
    assert refused.code == 2 and "the model's price is unknown" in refused.err
