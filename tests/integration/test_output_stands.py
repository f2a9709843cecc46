"""What a run, and a plan, make of an output that is not as the job's last run left it.

Belongs here: rows that are gone, an output that is gone, one that is another job's. Not here: how a warehouse tells
(tests/contract/test_warehouse_holding.py).
"""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from batch_llm import wiring
from batch_llm.engine.planning import Plan
from batch_llm.errors import OutputError
from tests.integration.lab import SCHEMA, Lab

PLACES = [("out", "upsert"), ("out.parquet", "replace"), ("out", "append_missing")]


def out(table: str, **keys: Any) -> dict[str, Any]:
    return {"output": {"table": table, "schema": SCHEMA, "keep": ["extra"], **keys}}


def plan_of(lab: Lab, **changes: Any) -> Plan:
    return wiring.planner(lab.settings, lab.job(**changes)).plan()


def lose(lab: Lab, table: str, rows: str) -> None:
    """The rows of this condition go, by somebody else's hand."""
    if table.endswith(".parquet"):
        path = lab.folder / table
        kept = duckdb.sql(f"SELECT * FROM read_parquet('{path}') WHERE NOT ({rows})").to_arrow_table()
        metadata = pq.read_schema(path).metadata
        pq.write_table(kept.replace_schema_metadata(metadata), path)
        return
    with duckdb.connect(str(lab.settings.home / "warehouse.duckdb")) as connection:
        connection.execute(f"DELETE FROM {table} WHERE {rows}")


def drop(lab: Lab, table: str) -> None:
    if table.endswith(".parquet"):
        (lab.folder / table).unlink()
        return
    with duckdb.connect(str(lab.settings.home / "warehouse.duckdb")) as connection:
        connection.execute(f"DROP TABLE {table}")


def place(lab: Lab, table: str) -> str:
    return str(lab.folder / table) if table.endswith(".parquet") else table


@pytest.mark.parametrize(("table", "mode"), PLACES)
async def test_rows_that_are_gone_come_back_for_nothing(lab: Lab, table: str, mode: str) -> None:
    lab.table(12)
    job = out(table, mode=mode)
    async with lab.simulator() as simulator:
        first = await lab.run(lab.job(**job))
        whole = lab.rows(place(lab, table))
        lose(lab, table, "id < 5")
        assert len(lab.rows(place(lab, table))) == 7
        paid = simulator.stats()["accepted"]
        plan = plan_of(lab, **job)
        assert (plan.new, plan.changed, plan.done, plan.cost_expected_usd) == (0, 0, 12, 0)
        again = await lab.run(lab.job(**job))
        assert (again.run_id, again.ok, again.requests, again.nothing_to_do) == (first.run_id, 12, 0, False)
        assert lab.rows(place(lab, table)) == whole
        assert (await lab.run(lab.job(**job))).nothing_to_do
        assert simulator.stats()["accepted"] == paid


@pytest.mark.parametrize("table", ["out", "out.parquet"])
async def test_a_plan_for_an_output_that_is_gone_costs_nothing_as_its_run(lab: Lab, table: str) -> None:
    lab.table(6)
    async with lab.simulator() as simulator:
        await lab.run(lab.job(**out(table)))
        drop(lab, table)
        plan = plan_of(lab, **out(table))
        assert (plan.new, plan.changed, plan.done, plan.cost_high_usd) == (0, 0, 6, 0)
        assert (await lab.run(lab.job(**out(table)))).requests == 0
        assert len(lab.rows(place(lab, table))) == 6
        assert simulator.stats()["accepted"] == 6


@pytest.mark.parametrize(("table", "mode"), PLACES)
async def test_an_output_of_another_job_is_refused_before_anything_is_asked(lab: Lab, table: str, mode: str) -> None:
    """By plan, run, retry and reparse, however the other job's rows came there."""
    lab.table(4)
    other = {"name": "other", "prompt": {"user": "Rate: {{ text }}"}}
    refused = r"holds the answers of job 'lab', which were paid for.*output\.table"
    async with lab.simulator() as simulator:
        await lab.run(lab.job(**out(table)))
        await lab.run(lab.job(**other, **out("mine", mode=mode)))
        before = lab.rows(place(lab, table))
        asked = simulator.stats()["accepted"]
        moved = {**other, **out(table, mode=mode)}
        with pytest.raises(OutputError, match=refused):
            plan_of(lab, **moved)
        with pytest.raises(OutputError, match=refused):
            await lab.run(lab.job(**moved))
        with pytest.raises(OutputError, match=refused):
            await wiring.reparser(lab.settings, lab.job(**moved)).reparse()
        assert (lab.rows(place(lab, table)), simulator.stats()["accepted"]) == (before, asked)
        drop(lab, table)
        assert (await lab.run(lab.job(**moved))).ok == 4


async def test_two_jobs_that_began_before_there_was_an_output(lab: Lab) -> None:
    """The second is not promoted over the first one's answers; with another output nothing is paid again."""
    lab.table(4)
    async with lab.simulator() as simulator:
        async with lab.engine() as engine:
            await engine.run(promote_after=False)
        await lab.run(lab.job(name="other"))
        with pytest.raises(OutputError, match="holds the answers of job 'other'"):
            await lab.run()
        asked = simulator.stats()["accepted"]
        assert (await lab.run(lab.job(**out("mine")))).ok == 4
        assert simulator.stats()["accepted"] == asked
