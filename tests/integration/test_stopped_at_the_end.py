"""A stop that comes when nothing is left to ask: the run is complete, in its words, its exit code and its output."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.cli.exits import Exit, exit_for_summary
from batch_llm.engine.events import RunSummary
from batch_llm.errors import ErrorClass
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunState
from tests.integration.cli_lab import CommandLine, ended
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import Lab

ROWS = 6
GOOD = '{"tone": "calm", "score": 1}'

Reply = tuple[int, dict[str, Any]]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty machine, with the key of `compatible_server`."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


class Held:
    """An endpoint whose answers wait until so many calls have come and somebody lets them go."""

    def __init__(self, calls: int, refused: str = "") -> None:
        """``refused``: the prompt that is answered with a 400."""
        self._calls = calls
        self._refused = refused
        self.asked: list[str] = []
        self.all_came = asyncio.Event()
        self.go_on = asyncio.Event()

    async def answer(self, prompt: str) -> Reply:
        self.asked.append(prompt)
        if len(self.asked) == self._calls:
            self.all_came.set()
        await self.go_on.wait()
        if self._refused and self._refused in prompt:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return 200, answered_body(GOOD)


@asynccontextmanager
async def asked(lab: Lab, answer: Callable[[str], Awaitable[Reply]], **changes: Any) -> AsyncIterator[DeclaredJob]:
    """The job at an endpoint that answers so."""
    lab.table(ROWS)
    async with compatible_server(lab, answer) as model:
        yield lab.job(model=model, **changes)


async def stopped_when_all_are_in_flight(lab: Lab, job: DeclaredJob, held: Held, why: ErrorClass) -> RunSummary:
    async with lab.engine(job) as engine:
        running = asyncio.create_task(engine.run())
        await held.all_came.wait()
        engine.stop(why, "somebody stopped it")
        await asyncio.sleep(0)  # the stop is on its way through the loop
        held.go_on.set()
        return await running


@pytest.mark.parametrize("slices", [{"rows": ROWS}, {"rows": 2}], ids=["one-slice", "three-slices"])
@pytest.mark.parametrize("why", [ErrorClass.CANCELLED, ErrorClass.DEADLINE, ErrorClass.BUDGET])
async def test_a_run_whose_last_rows_came_home_is_complete(lab: Lab, why: ErrorClass, slices: Any) -> None:
    held = Held(ROWS)
    async with asked(lab, held.answer, slices=slices) as job:
        summary = await stopped_when_all_are_in_flight(lab, job, held, why)
        assert (summary.ok, summary.failed, summary.pending, summary.stopped) == (ROWS, 0, 0, None)
        assert exit_for_summary(summary) is Exit.OK
        assert [row["llm_status"] for row in lab.rows()] == ["ok"] * ROWS
        record = wiring.open_store(lab.settings).runs.latest("lab")
        assert record is not None and record.state is RunState.FINISHED
        assert (await lab.run(job)).nothing_to_do
    assert len(held.asked) == ROWS


async def test_its_exit_code_is_that_of_its_rows(lab: Lab) -> None:
    held = Held(ROWS, refused="text 3")
    async with asked(lab, held.answer) as job:
        summary = await stopped_when_all_are_in_flight(lab, job, held, ErrorClass.CANCELLED)
    assert (summary.ok, summary.failed, summary.pending, summary.stopped) == (ROWS - 1, 1, 0, None)
    assert exit_for_summary(summary) is Exit.FAILED_ROWS


async def test_a_retry_that_did_not_come_to_all_failed_rows_is_stopped(lab: Lab) -> None:
    """Though no row is pending: those of the slices it did not open have failed as before."""
    fails, enough, go_on = True, asyncio.Event(), asyncio.Event()

    async def answer(prompt: str) -> Reply:
        if fails:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        enough.set()
        await go_on.wait()
        return 200, answered_body(GOOD)

    lab.table(12)
    async with compatible_server(lab, answer, limits={"requests_per_minute": 600_000, "max_concurrency": 1}) as model:
        job = lab.job(model=model, slices={"rows": 1})
        assert (await lab.run(job)).failed == 12
        fails = False
        async with lab.engine(job) as engine:
            retrying = asyncio.create_task(engine.retry())
            await enough.wait()
            engine.stop()
            await asyncio.sleep(0)
            go_on.set()
            stopped = await retrying
        assert stopped.failed > 0
        assert (stopped.stopped, exit_for_summary(stopped)) == ("cancelled", Exit.STOPPED)
        async with lab.engine(job) as engine:
            assert (await engine.retry()).ok == 12


async def test_a_retry_whose_last_rows_came_home_is_complete(lab: Lab) -> None:
    held = Held(ROWS)
    refusing = True

    async def answer(prompt: str) -> Reply:
        if refusing:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return await held.answer(prompt)

    async with asked(lab, answer, slices={"rows": 2}) as job:
        assert (await lab.run(job)).failed == ROWS
        refusing = False
        async with lab.engine(job) as engine:
            retrying = asyncio.create_task(engine.retry())
            await held.all_came.wait()
            engine.stop()
            await asyncio.sleep(0)
            held.go_on.set()
            summary = await retrying
    assert (summary.ok, summary.pending, summary.stopped) == (ROWS, 0, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_says_nothing_of_a_stop(lab: Lab, number: int) -> None:
    """Exit 0, and no advice to run it again."""
    held = Held(ROWS)
    cli = CommandLine(lab)
    async with asked(lab, held.answer) as job:
        process = await cli.start("run", cli.job_file(model=job.job.model), "--yes")
        await held.all_came.wait()
        process.send_signal(number)
        assert process.stderr is not None
        while b"draining" not in (line := await process.stderr.readline()):
            assert line, "it ended without draining"
        held.go_on.set()
        said = await ended(process)
    assert said.code == 0, said.err
    assert f"{ROWS} ok" in said.out + said.err
    assert "Stopped early" not in said.out + said.err
