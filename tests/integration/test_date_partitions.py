"""A job with date partitions, without Dagster: files on DuckDB, a partitioned table on BigQuery.

Belongs here: runs of partitions beside each other, refusals, the commands. Not here: which days a partition has
(tests/unit/job/test_date_partitions.py), Dagster (test_dagster_dates.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm import wiring
from batch_llm.errors import ConfigurationError, InputError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunState
from batch_llm.warehouse.bigquery import open_client
from tests.bigquery_server.process import BigQueryServer, bigquery_server
from tests.integration.bigquery_run_lab import PROJECT, BigQueryRunLab
from tests.integration.cli_lab import CommandLine
from tests.integration.lab import Lab

DAILY = {"cadence": "daily", "column": "day", "start": "2026-01-01"}
ROWS_PER_DAY = 5
DAYS = 4


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as server:
        yield server


def write_days(lab: Lab, changed: str = "") -> None:
    """``input.parquet``: id, text, extra, day; the second day's texts end with ``changed``."""
    ids = list(range(DAYS * ROWS_PER_DAY))
    days = [date(2026, 1, 1) + timedelta(days=number // ROWS_PER_DAY) for number in ids]
    texts = [
        f"text {number}{changed if day == date(2026, 1, 2) else ''}" for number, day in zip(ids, days, strict=True)
    ]
    pq.write_table(pa.table({"id": ids, "text": texts, "extra": ids, "day": days}), lab.folder / "input.parquet")


def daily(lab: Lab, **changes: Any) -> DeclaredJob:
    return lab.job(schedule=DAILY, slices={"rows": 2}, **changes)


@pytest.fixture(params=["file", "bigquery"])
def days(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab with four days of rows."""
    if request.param == "file":
        lab = Lab(tmp_path)
        write_days(lab)
        return lab
    server: BigQueryServer = request.getfixturevalue("shared")
    server.reset()
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
    made = BigQueryRunLab(tmp_path)
    made.dataset(1)
    with open_client(PROJECT) as client:
        client.query_and_wait("DROP TABLE tables.texts")
        client.query_and_wait(
            "CREATE TABLE tables.texts PARTITION BY day AS SELECT id, CONCAT('text ', CAST(id AS STRING)) AS text, "
            f"id AS extra, DATE_ADD(DATE '2026-01-01', INTERVAL DIV(id, {ROWS_PER_DAY}) DAY) AS day "
            f"FROM UNNEST(GENERATE_ARRAY(0, {DAYS * ROWS_PER_DAY - 1})) AS id"
        )
    return made


async def test_days_that_run_at_the_same_time_come_into_one_table_each_row_once(days: Lab) -> None:
    job = daily(days)
    keys = [f"2026-01-0{day}" for day in range(1, DAYS + 1)]
    async with days.simulator() as simulator:
        summaries = await asyncio.gather(*(days.run(job.with_partition(key)) for key in keys))
        assert [summary.ok for summary in summaries] == [ROWS_PER_DAY] * DAYS
        again = [await days.run(job.with_partition(key)) for key in keys]
        assert all(summary.nothing_to_do for summary in again)
        assert simulator.stats()["accepted"] == DAYS * ROWS_PER_DAY
    assert [(row["id"], row["llm_status"]) for row in days.rows()] == [(n, "ok") for n in range(DAYS * ROWS_PER_DAY)]
    records = wiring.open_store(days.settings).runs.all("lab")
    assert {record.partition: record.state for record in records} == dict.fromkeys(keys, RunState.FINISHED)


async def test_a_day_that_was_interrupted_goes_on_although_others_ran_meanwhile(days: Lab) -> None:
    job = daily(days)
    first, second = job.with_partition("2026-01-01"), job.with_partition("2026-01-02")
    async with days.simulator() as simulator:
        stopped = await days.run(first, limit=2)
        assert (stopped.ok, stopped.pending) == (2, 3)
        await days.run(second)
        rest = await days.run(first)
        assert (rest.run_id, rest.ok, rest.pending) == (stopped.run_id, ROWS_PER_DAY, 0)
        assert simulator.stats()["accepted"] == 2 * ROWS_PER_DAY


async def test_a_plan_is_of_one_day_and_says_what_it_reads(days: Lab) -> None:
    job = daily(days)
    async with days.simulator():
        plan = await asyncio.to_thread(wiring.planner(days.settings, job.with_partition("2026-01-02")).plan)
    assert (plan.rows, plan.new) == (ROWS_PER_DAY, ROWS_PER_DAY)
    if isinstance(days, BigQueryRunLab):
        texts = sum(len(f"text {number}") + 2 for number in range(ROWS_PER_DAY, 2 * ROWS_PER_DAY))
        assert plan.freeze_bytes == texts + ROWS_PER_DAY * (8 + 8 + 8), "id, extra and day of one partition, no more"


@pytest.mark.parametrize("days", ["file"], indirect=True)
async def test_of_a_changed_file_only_the_changed_rows_of_each_day_are_asked(days: Lab) -> None:
    job = daily(days)
    async with days.simulator() as simulator:
        for key in ("2026-01-01", "2026-01-02"):
            await days.run(job.with_partition(key))
        write_days(days, changed=", changed")
        for key in ("2026-01-01", "2026-01-02"):
            await days.run(job.with_partition(key))
        assert simulator.stats()["accepted"] == 3 * ROWS_PER_DAY
    assert len(days.rows()) == 2 * ROWS_PER_DAY


@pytest.mark.parametrize("days", ["file"], indirect=True)
async def test_the_partition_says_which_rows_it_had_before(days: Lab) -> None:
    """Another column, or weeks in the place of days: another run, that asks nothing it has answers for."""
    async with days.simulator() as simulator:
        one = await days.run(daily(days).with_partition("2026-01-01"))
        weekly = days.job(schedule={**DAILY, "cadence": "weekly"}).with_partition("2026-01-01")
        week = await days.run(weekly)
        assert week.run_id != one.run_id
        assert (week.rows, week.ok) == (DAYS * ROWS_PER_DAY,) * 2
        assert simulator.stats()["accepted"] == DAYS * ROWS_PER_DAY


@pytest.mark.parametrize("days", ["file"], indirect=True)
async def test_what_cannot_be_run_is_refused_before_anything_is_frozen(days: Lab) -> None:
    today = datetime.now(UTC).date()
    refused = [
        (daily(days), ConfigurationError, r"one date partition at a time.*--partition \d{4}-\d\d-\d\d"),
        (daily(days).with_partition(today.isoformat()), ConfigurationError, "is not over before"),
        (
            days.job(schedule={**DAILY, "column": "text"}),
            InputError,
            r"schedule\.column: the column 'text' holds string",
        ),
        (days.job(schedule={**DAILY, "column": "dya"}), InputError, r"no column 'dya'; did you mean 'day'"),
    ]
    async with days.simulator() as simulator:
        for job, kind, message in refused:
            with pytest.raises(kind, match=message):
                await days.run(job)
        assert simulator.stats()["accepted"] == 0
    assert wiring.open_store(days.settings).runs.all() == []


async def test_the_commands_take_a_partition(lab: Lab) -> None:
    write_days(lab)
    cli = CommandLine(lab)
    job = cli.job_file(schedule=DAILY)
    day = ("--partition", "2026-01-02")
    async with lab.simulator():
        unsaid = await cli.run("run", job, "--yes")
        assert unsaid.code == 2
        assert "--partition" in unsaid.err
        wrong = await cli.run("plan", job, "--partition", "2025-01-02")
        assert wrong.code == 2
        assert "input.partition: 2025-01-02 is before the first partition" in wrong.err
        plan = await cli.run("plan", job, *day, "--json")
        assert plan.json["rows"] == ROWS_PER_DAY
        preview = await cli.run("preview", job, "-n", "2", *day)
        assert "batch-llm run lab --partition 2026-01-02" in preview.out
        run = await cli.run("run", job, *day, "--json")
        assert (run.code, run.json["ok"]) == (0, ROWS_PER_DAY)
        assert (await cli.run("run", job, "--partition", "2026-01-03", "--json")).code == 0
        retry = await cli.run("retry", job, *day, "--json")
        assert (retry.code, retry.json["run_id"]) == (0, run.json["run_id"])
        reparse = await cli.run("reparse", job, *day, "--json")
        assert reparse.json["run_id"] == run.json["run_id"]
    status = await cli.run("status", job, *day, "--json")
    assert status.json["run_id"] == run.json["run_id"]
    assert (await cli.run("show", job, "id=7", *day)).code == 0
    absent = await cli.run("show", job, "id=700000")
    assert absent.code == 2 and "of the partition 2026-01-03 only: name another one with --partition" in absent.err
    assert (await cli.run("failed", job, *day)).code == 0
    nowhere = await cli.run("status", job, "--partition", "2026-01-04")
    assert "has not run over the partition 2026-01-04; it has over: 2026-01-02, 2026-01-03" in nowhere.err
