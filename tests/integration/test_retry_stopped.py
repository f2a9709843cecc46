"""A retry that was stopped half-way goes on where it stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from batch_llm.engine.events import RunSummary
from batch_llm.job.load import DeclaredJob
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import Lab

ROWS = 12
ASKED_BEFORE_THE_STOP = 4


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty machine, with the key of `compatible_server`."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


async def _retried(lab: Lab, job: DeclaredJob, stop: asyncio.Event | None = None) -> RunSummary:
    async with lab.engine(job) as engine:
        retrying = asyncio.create_task(engine.retry())
        if stop is not None:
            await stop.wait()
            engine.stop()
        return await retrying


@pytest.mark.parametrize("command", ["retry", "run"])
@pytest.mark.parametrize("carried", [True, False], ids=["carried", "own"])
async def test_a_stopped_retry_goes_on_where_it_stopped(lab: Lab, command: str, carried: bool) -> None:
    """With failures of the run itself, and with those that it carried from an earlier run."""
    fails, asked, enough, go_on = True, 0, asyncio.Event(), asyncio.Event()

    async def answer(_: str) -> tuple[int, dict[str, Any]]:
        nonlocal asked
        asked += 1
        if fails:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        if asked == ASKED_BEFORE_THE_STOP:
            enough.set()
        if asked >= ASKED_BEFORE_THE_STOP and not go_on.is_set():
            await asyncio.sleep(0.2)  # drained: stopped meanwhile
        return 200, answered_body('{"tone": "calm", "score": 1}')

    limits = {"requests_per_minute": 600_000, "max_concurrency": 1}
    async with compatible_server(lab, answer, limits=limits) as model:
        job = lab.job(model=model)
        lab.table(ROWS)
        await lab.run(job)
        rows = ROWS + carried
        if carried:
            lab.table(rows)
            assert (await lab.run(job)).failed == rows
        fails, asked = False, 0
        stopped = await _retried(lab, job, enough)
        assert (stopped.stopped, stopped.ok, stopped.failed) == ("cancelled", asked, 0)
        assert stopped.pending == rows - asked > 0
        go_on.set()
        again = await (_retried(lab, job) if command == "retry" else lab.run(job))
    assert (again.ok, again.failed, again.pending, asked) == (rows, 0, 0, rows)
    assert {row["llm_status"] for row in lab.rows()} == {"ok"}
