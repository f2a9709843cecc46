"""Dates that Arrow holds and Python cannot (the year 10000), and other surprises behind publishing: told, not stuck."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batch_llm import wiring
from batch_llm.engine import publishing
from batch_llm.engine.events import NotPublished, Stopping
from batch_llm.engine.publish import Pending
from batch_llm.engine.slice_work import SliceWork
from tests.integration.engine_lab import answered_body, compatible_server, write_input
from tests.integration.lab import SCHEMA, Lab

FAR = 253_402_300_800_000_000  # 10000-01-01, in microseconds
ROWS = 6


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty machine, with the key of `compatible_server`."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


def put(lab: Lab, rows: int) -> None:
    """Every second row with a date that is too far away."""
    far = pa.array([FAR if number % 2 else 0 for number in range(rows)], pa.timestamp("us"))
    write_input(lab, id=list(range(rows)), text=[f"text {number}" for number in range(rows)], extra=far)


async def test_a_kept_date_that_python_cannot_hold_passes_through(lab: Lab) -> None:
    """In the first run, and where a later one carries its rows."""
    async with lab.simulator() as simulator:
        for rows in (ROWS, ROWS + 1, ROWS + 2):
            put(lab, rows)
            summary = await lab.run()
            assert (summary.ok, simulator.stats()["answered"]) == (rows, rows)
    stored = pa.Table.from_batches(wiring.open_store(lab.settings).warehouse.rows("out", columns=["id", "extra"]))
    far = pc.sum(pc.equal(stored["extra"].cast(pa.int64()), FAR)).as_py()
    assert far == (ROWS + 2) // 2


async def test_a_key_that_python_cannot_hold_fails_its_row_and_no_run(lab: Lab) -> None:
    """As `template`, each time; the others are asked once. `plan` looks at them as well."""
    job = lab.job(input={"table": "input.parquet", "key": ["id", "extra"]}, output={"table": "out", "schema": SCHEMA})
    async with lab.simulator() as simulator:
        for rows in (ROWS, ROWS + 2):
            put(lab, rows)
            plan = wiring.planner(lab.settings, job).plan()
            assert plan.rows == rows
            summary = await lab.run(job)
            assert (summary.ok, summary.failed) == (rows // 2, rows // 2)
            assert summary.failed_by_class == {"template": rows // 2}
        assert simulator.stats()["answered"] == (ROWS + 2) // 2


async def test_a_defect_behind_publishing_stops_the_run_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told for its slice, without a word of the row; the other slices are not paid first."""
    lab.table(200)
    asked = 0
    real = publishing.publish_slice

    def breaks(work: SliceWork, pending: Pending) -> None:
        if work.number == 0:
            raise ZeroDivisionError("a row's text")
        real(work, pending)

    async def answer(_: str) -> tuple[int, dict[str, Any]]:
        nonlocal asked
        asked += 1
        for _ in range(20):  # some slices on: until it stops, or that is in vain
            if asked <= 60 or any(isinstance(event, Stopping) for event in lab.events):
                break
            await asyncio.sleep(0.05)
        return 200, answered_body('{"tone": "calm", "score": 1}')

    monkeypatch.setattr(publishing, "publish_slice", breaks)
    limits = {"requests_per_minute": 600_000, "max_concurrency": 4}
    async with compatible_server(lab, answer, limits=limits) as model:
        with pytest.raises(ZeroDivisionError):
            await lab.run(lab.job(model=model, slices={"rows": 20}))
    assert asked < 100
    (told,) = (event for event in lab.events if isinstance(event, NotPublished))
    (stopping,) = (event for event in lab.events if isinstance(event, Stopping))
    assert (told.slice_number, "ZeroDivisionError" in told.reason) == (0, True)
    assert "slice 0" in stopping.reason
    assert "a row's text" not in told.reason + stopping.reason
