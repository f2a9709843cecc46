"""The sensors against a real Dagster instance and real runs; this file plays the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from assets.declared import load_declared
from assets.mirror import mirror
from assets.partitions import partition_keys
from batch_llm.journal.base import RunState
from batch_llm.wiring import engine
from tests.integration.dagster_lab import Account, CodeLocation
from tests.integration.sensor_lab import Daemon


@pytest.fixture
def daemon(location: CodeLocation, instance: dg.DagsterInstance) -> Daemon:
    return Daemon(location, instance)


def start(location: CodeLocation, instance: dg.DagsterInstance, job: str = "tone", **config: Any) -> None:
    """Launch ``<job>_run``."""
    wanted = {"ops": {f"plan_{job}": {"config": config}}}
    assert location.execute(instance, f"{job}_run", config=wanted).success


def test_dispatch_runs_every_slice_once_then_fills_the_output(
    daemon: Daemon, location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job()
    start(location, instance)
    assert daemon.work_off() == ["tone_slices"] * 3 + ["tone_output"]
    assert len(location.rows("tone_out")) == 25
    assert account.stats()["accepted"] == 25
    assert location.record().state is RunState.FINISHED
    assert daemon.work_off() == []


def test_dispatch_does_nothing_that_nobody_asked_for(daemon: Daemon, location: CodeLocation) -> None:
    location.job()
    assert daemon.tick("dispatch") == []


def test_requests_carry_whose_they_are_and_how_urgent(
    daemon: Daemon, location: CodeLocation, instance: dg.DagsterInstance
) -> None:
    location.job(priority="high")
    start(location, instance)
    request = daemon.tick("dispatch")[0]
    assert request.tags["batch_llm/job"] == "tone"
    assert request.tags["batch_llm/user"] == "alice"
    assert request.tags["batch_llm/run"] == location.record().run_id
    assert request.tags["dagster/priority"] == "10"


def test_a_failed_slice_halts_its_run_until_somebody_starts_it_again(
    daemon: Daemon, location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.table("input.parquet", 100)
    location.job()
    account.configure(quota_requests=0)
    start(location, instance)
    ran = daemon.work_off()
    assert 0 < len(ran) <= 4, "no more than was queued at the failure"
    account.configure(quota_requests=None)
    assert daemon.work_off() == []
    start(location, instance)
    assert daemon.work_off() == ["tone_slices"] * 10 + ["tone_output"]
    assert len(location.rows("tone_out")) == 100


def test_halted_runs_keep_no_other_run_waiting(
    daemon: Daemon,
    location: CodeLocation,
    instance: dg.DagsterInstance,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many halted runs as one tick looks at, all older than the run that has something to do."""
    monkeypatch.setattr("sensors.dispatch.RUNS_MAX", 2)
    location.job("seen", input={"key": ["id"]}, watch={"tables": "reports_*.parquet"}, slices={"rows": 30})
    account.configure(quota_requests=0)
    for number in range(2):
        table = location.table(f"reports_{number}.parquet", 5)
        start(location, instance, "seen", table=str(table))
    assert daemon.work_off() == ["seen_slices"] * 2
    account.configure(quota_requests=None)
    location.job(slices={"rows": 30})
    start(location, instance)
    ran = [daemon.run(request).success for _ in range(4) for request in daemon.tick("dispatch")]
    assert ran == [True, True]
    assert len(location.rows("tone_out")) == 25
    daemon.tick("dispatch")
    assert "is halted" in str(daemon.skipped)


def test_rerunning_a_partition_of_a_finished_run_brings_its_new_answers_into_the_output(
    daemon: Daemon, location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job(retries={"attempts": 1, "re_asks": 0}, slices={"rows": 25})
    account.configure(faults={"server_error": 0.5})
    start(location, instance)
    daemon.work_off()
    assert any(row["llm_status"] == "failed" for row in location.rows("tone_out"))
    account.configure(faults={})
    (key,) = partition_keys(location.record())
    assert location.execute(instance, "tone_slices", partition_key=key).success
    assert daemon.work_off() == ["tone_output"]
    assert {row["llm_status"] for row in location.rows("tone_out")} == {"ok"}


def test_two_users_take_turns(daemon: Daemon, location: CodeLocation, instance: dg.DagsterInstance) -> None:
    location.table("input.parquet", 100)
    location.table("other.parquet", 20)
    location.job()
    location.job("mood", user="bob", input={"table": "other.parquet", "key": ["id"]})
    start(location, instance)
    start(location, instance, "mood")
    assert {request.tags["batch_llm/user"] for request in daemon.tick("dispatch")} == {"alice", "bob"}


def test_three_new_tables_start_three_runs_once_each(
    daemon: Daemon,
    location: CodeLocation,
    instance: dg.DagsterInstance,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All three planned before any is asked, as the queue would have it: none ends another."""
    monkeypatch.setattr("sensors.watch.SETTLED_AFTER", __import__("datetime").timedelta(0))
    location.job(input={"key": ["id"]}, watch={"tables": "reports_*.parquet", "on": "new"}, slices={"rows": 5})
    assert daemon.tick("tone_watch") == []
    for number in range(3):
        location.table(f"reports_{number}.parquet", 10, start=100 * number)
    requests = daemon.tick("tone_watch")
    assert len(requests) == 3
    for request in requests:
        assert daemon.run(request, "tone_run").success
    assert daemon.tick("tone_watch") == []
    ran = daemon.work_off()
    assert sorted(ran) == ["tone_output"] * 3 + ["tone_slices"] * 6
    assert len(location.rows("tone_out")) == 30
    assert account.stats()["accepted"] == 30
    assert len(location.store.runs.all("tone")) == 3
    assert {record.state for record in location.store.runs.all("tone")} == {RunState.FINISHED}


def test_a_changed_input_starts_the_job_once(
    daemon: Daemon, location: CodeLocation, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.watch.SETTLED_AFTER", __import__("datetime").timedelta(0))
    location.job()
    start(location, instance)
    daemon.work_off()
    assert daemon.tick("tone_changed") == []
    location.table("input.parquet", 30)
    (request,) = daemon.tick("tone_changed")
    assert daemon.run(request, "tone_run").success
    assert daemon.tick("tone_changed") == []
    daemon.work_off()
    assert len(location.rows("tone_out")) == 30


def test_an_input_whose_version_says_nothing_starts_nothing(daemon: Daemon, location: CodeLocation) -> None:
    """Else it would start a run at every tick: BigQuery's external tables, or a view like this one."""
    location.job(input={"table": "odd", "key": ["id"]})
    database = location.settings.duckdb_path
    database.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE VIEW odd AS SELECT range AS id, 'text' AS text, random() AS noise FROM range(3)")
    assert daemon.tick("tone_changed") == []
    assert "use `schedule`" in str(daemon.skipped)


def test_what_spends_by_itself_ships_stopped(location: CodeLocation) -> None:
    location.job(schedule={"cron": "0 6 * * *"})
    location.job("seen", input={"key": ["id"]}, watch={"tables": "raw_*.parquet"})
    defs = location.definitions()
    for name in ("tone_changed", "seen_watch"):
        assert defs.resolve_sensor_def(name).default_status is dg.DefaultSensorStatus.STOPPED
    schedule = defs.resolve_schedule_def("tone_schedule")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "tone_run"


async def run_by_command_line(location: CodeLocation, job: Path) -> None:
    from batch_llm.job.load import load_job

    async with engine(location.settings, load_job(job)) as opened:
        await opened.run()


async def test_a_run_of_the_command_line_is_mirrored_once(location: CodeLocation, instance: dg.DagsterInstance) -> None:
    job = location.job()
    await run_by_command_line(location, job)
    declared = load_declared([job], location.folder)
    first = mirror(instance, location.store, declared)
    assert (first.partitions, first.slices, first.outputs) == (3, 3, 1)
    assert not mirror(instance, location.store, declared)
    keys = partition_keys(location.record())
    assert instance.get_dynamic_partitions("tone_slices") == keys
    for name in ("input_slices", "enriched_slices"):
        assert instance.get_materialized_partitions(dg.AssetKey(["tone", name])) == set(keys)
    event = instance.get_latest_materialization_event(dg.AssetKey("tone_out"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["rows"].value == 25


async def test_a_run_of_an_undeclared_job_is_mirrored_into_the_generic_family(
    location: CodeLocation, instance: dg.DagsterInstance
) -> None:
    await run_by_command_line(location, location.job())
    assert mirror(instance, location.store, load_declared([], location.folder)).slices == 3
    assert instance.get_dynamic_partitions("submitted_slices") == partition_keys(location.record())
