"""Whoever reads what a command says may go away at any time: the rows, the output and the exit code stay."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.journal.base import EntryKind, RunState
from tests.integration.cli_lab import BATCH_LLM, CommandLine
from tests.integration.engine_lab import answered_body, compatible_server, journalled
from tests.integration.lab import Lab

ROWS, FAILING = 30, (3, 17)
JOB = {"retries": {"attempts": 1}, "slices": {"rows": 10}, "budget_usd": "0.25"}  # of which more than half is spent


def _told(lab: Lab) -> Any:
    """What is left of a run: its state, and of each row how it ended and every entry of its journal."""
    store = wiring.open_store(lab.settings)
    record = store.runs.latest("lab")
    assert record is not None
    slices = [journalled(lab, number) for number in range(len(record.slice_rows))]
    entries = [sorted((entry.row, entry.kind) for entry in each) for each in slices]
    rows = [(row["id"], row["llm_status"], row["llm_error_class"], row["llm_cost_usd"]) for row in lab.rows()]
    return record.state, entries, rows


@pytest.mark.parametrize("which", ["stderr", "stdout"])
async def test_a_reader_that_goes_away_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """With failures and with marks of the budget to tell."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    (tmp_path / "control").mkdir()
    lab, control = Lab(tmp_path), Lab(tmp_path / "control")
    control.settings = replace(control.settings, providers_path=lab.settings.providers_path)
    is_gone = asyncio.Event()

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        await is_gone.wait()
        if prompt in [f"Grade: text {row}" for row in FAILING]:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return 200, answered_body('{"tone": "calm", "score": 1}')

    async with compatible_server(lab, answer, prices={"input": "1", "output": "1000"}) as model:
        for each in (lab, control):
            each.table(ROWS)
            CommandLine(each).job_file(model=model, params={"max_output_tokens": 20}, **JOB)
        reader, writer = os.pipe()
        other = {"stderr": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, which: writer}
        process = await asyncio.create_subprocess_exec(
            *BATCH_LLM, "run", "lab.yaml", cwd=lab.folder, env=CommandLine(lab).environment, **other
        )
        os.close(writer)
        if which == "stderr":
            assert b"started" in await asyncio.to_thread(os.read, reader, 1_000)
        os.close(reader)
        is_gone.set()
        out, err = await process.communicate()
        told = await CommandLine(control).run("run", "lab.yaml")

    assert "% of the budget" in told.err and "first" in told.err
    assert (process.returncode, told.code) == (1, 1)
    assert _told(lab) == _told(control)
    state, entries, rows = _told(lab)
    assert state is RunState.FINISHED
    assert [row for row, status, *_ in rows if status != "ok"] == list(FAILING)
    ends = [kind for each in entries for _, kind in each if kind in (EntryKind.ANSWER, EntryKind.FAILED)]
    assert len(ends) == ROWS
    assert b"Traceback" not in (err or b"") and b"internal" not in (err or b"")
    assert (f"{ROWS - len(FAILING)} ok" in out.decode()) if which == "stderr" else (out is None)
