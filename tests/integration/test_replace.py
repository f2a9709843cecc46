"""`output.mode: replace`: the rows you had stay until all slices of the new run are published."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.job.load import DeclaredJob
from batch_llm.warehouse.base import Mode
from tests.integration.lab import SCHEMA, Lab

ROWS = 20


def replacing(lab: Lab, output: str, prompt: str) -> DeclaredJob:
    table: dict[str, Any] = {"table": output, "schema": SCHEMA, "mode": "replace"}
    return lab.job(output=table, prompt={"user": prompt + " {{ text }}"}, slices={"rows": 5})


def keys(lab: Lab, output: str) -> list[int]:
    place = str(lab.folder / output) if output.endswith(".parquet") else output
    return [row["id"] for row in lab.rows(place)]


@pytest.mark.parametrize(("output", "limit"), [("out", 3), ("out.parquet", None)])
async def test_rows_of_other_keys_stay_while_a_slice_is_missing(lab: Lab, output: str, limit: int | None) -> None:
    """One of two processes stops early, or asks only some rows; the one that ends last takes away what is too much."""
    async with lab.simulator():
        lab.table(ROWS)
        await lab.run(replacing(lab, output, "Old"))
        lab.table(ROWS - 4)  # the last keys are gone from the input
        job = replacing(lab, output, "New")
        record = wiring.planner(lab.settings, job).start().record
        other = wiring.open_store(lab.settings).runs.journal(record.run_id, 0)  # as a process that works on it
        async with lab.engine(job) as engine:
            if limit is None:
                engine.stop()
            stopped = await engine.run(limit=limit)
        assert stopped.stopped is not None
        assert keys(lab, output) == list(range(ROWS))
        other.close()
        last = await lab.run(job)
    assert (last.run_id, last.pending) == (record.run_id, 0)
    assert keys(lab, output) == list(range(ROWS - 4))


async def test_a_limit_in_one_process_leaves_every_key_of_the_input(lab: Lab) -> None:
    """All slices are published then: the keys of the input have their old rows, the others go."""
    async with lab.simulator():
        lab.table(ROWS)
        await lab.run(replacing(lab, "out", "Old"))
        lab.table(ROWS - 4)
        await lab.run(replacing(lab, "out", "New"), limit=3)
    rows = lab.rows()
    assert [row["id"] for row in rows] == list(range(ROWS - 4))
    assert {row["llm_status"] for row in rows} == {"ok"}


async def test_the_warehouse_is_told_to_replace_only_by_a_whole_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it holds for every warehouse."""
    async with lab.simulator():
        lab.table(ROWS)
        job = replacing(lab, "out", "Old")
        async with lab.engine(job) as engine:
            modes: list[Mode] = []
            promote = engine.parts.warehouse.promote

            def noted(run_id: str, table: str, key: tuple[str, ...], mode: Mode) -> Any:
                modes.append(mode)
                return promote(run_id, table, key, mode)

            monkeypatch.setattr(engine.parts.warehouse, "promote", noted)
            record = (await engine.start()).record
            other = engine.parts.runs.journal(record.run_id, 3)
            engine.stop()
            await engine.run()
            other.close()
        await lab.run(job)
    assert modes == ["upsert"]
    assert keys(lab, "out") == list(range(ROWS))
