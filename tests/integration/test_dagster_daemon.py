"""`dagster dev` with its running daemon: what happens with no click, after a cancel, after a kill -9."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from batch_llm.journal.base import RunState
from tests.integration.dagster_lab import Account, CodeLocation
from tests.integration.dagster_server import DagsterServer

pytestmark = pytest.mark.timeout(600)

PATIENCE_S = 300.0  # a Dagster run costs 4 to 15 s of a shared machine


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with Account() as opened:
        yield opened


@pytest.fixture(scope="module")
def location(account: Account, tmp_path_factory: pytest.TempPathFactory) -> CodeLocation:
    made = CodeLocation(tmp_path_factory.mktemp("location"), account.base_url)
    made.table("input.parquet", 20)
    made.job()
    made.job("ticking", schedule={"cron": "* * * * *"}, slices={"rows": 20})
    made.job("seen", input={"key": ["id"]}, watch={"tables": "reports_*.parquet"}, slices={"rows": 20})
    for name in ("cancelled", "killed"):  # a table each: the account tells paid-twice by the prompt
        made.table(f"{name}.parquet", 300)
        made.job(name, input={"table": f"{name}.parquet", "key": ["id"]}, slices={"rows": 300})
    made.table("together.parquet", 60)
    made.job("together", input={"table": "together.parquet", "key": ["id"]}, slices={"rows": 20})
    return made


@pytest.fixture(scope="module")
def server(location: CodeLocation) -> Iterator[DagsterServer]:
    with DagsterServer(location) as opened:
        yield opened


def finished(server: DagsterServer, job: str, runs: int = 1) -> None:
    """Wait until so many runs of the job are in its output table."""
    store = server.location.store
    server.wait_for(
        lambda: sum(record.state is RunState.FINISHED for record in store.runs.all(job)) >= runs,
        PATIENCE_S,
        f"{runs} finished runs of {job}: {server.runs()}",
    )


def working_slice(server: DagsterServer, account: Account, job: str) -> dict[str, Any]:
    """Wait until the job's slice is asking; its Dagster run."""
    before = account.stats()["answered"]

    def is_asking() -> dict[str, Any] | None:
        started = [run for run in server.runs(f"{job}_slices") if run["status"] == "STARTED"]
        return started[0] if started and account.stats()["answered"] >= before + 20 else None

    return dict(server.wait_for(is_asking, PATIENCE_S, f"a slice of {job} that asks"))


def test_one_launch_fills_the_output_table_with_no_further_click(
    server: DagsterServer, location: CodeLocation, account: Account
) -> None:
    server.launch("tone_run")
    finished(server, "tone")
    assert len(location.rows("tone_out")) == 20
    server.wait_for(lambda: server.materializations("tone_out"), PATIENCE_S, "the table in the catalog")
    assert server.materializations("tone", "enriched_slices") == 2
    assert account.stats()["duplicates"]["answered_twice"] == 0


def test_slices_of_one_run_are_asked_at_the_same_time(
    server: DagsterServer, location: CodeLocation, account: Account
) -> None:
    """Two Dagster runs at work at once: every row is asked once, and the table is filled once."""
    account.configure(latency_median_s=15.0, latency_sigma=0.01)
    server.launch("together_run")
    before = len(server.runs("together_slices"))

    def several_ask() -> bool:
        return account.stats()["in_flight"] > 20  # more than one slice has rows

    server.wait_for(several_ask, PATIENCE_S, "two slices in flight at once")
    account.configure(latency_median_s=0.0)
    finished(server, "together")
    assert [row["id"] for row in location.rows("together_out")] == list(range(60))
    assert account.stats()["duplicates"]["answered_twice"] == 0
    runs = server.runs("together_slices")[before:]
    assert sorted((run["tags"]["dagster/partition"][-4:], run["status"]) for run in runs) == [
        (f"{number:04}", "SUCCESS") for number in range(3)
    ]


def test_cancel_stops_the_calls_keeps_what_is_paid_and_ends_canceled(
    server: DagsterServer, location: CodeLocation, account: Account
) -> None:
    account.configure(latency_median_s=0.5, latency_sigma=0.1, max_concurrency=8)
    location.limits({"requests_per_minute": 600})
    server.launch("cancelled_run")
    run = working_slice(server, account, "cancelled")
    server.terminate(run["runId"])
    server.wait_for(lambda: server.status(run["runId"]) == "CANCELED", PATIENCE_S, "the end of the run")
    stopped_at = account.stats()["accepted"]
    kept = location.store.warehouse.published(location.record("cancelled").run_id)[0]
    assert kept.ok >= 20
    assert kept.pending == 300 - kept.ok
    assert account.stats()["accepted"] == stopped_at, "nothing is asked after the end"
    account.configure(latency_median_s=0.0, max_concurrency=None)
    location.limits({"requests_per_minute": 600_000})
    server.launch("cancelled_run")
    finished(server, "cancelled")
    assert len(location.rows("cancelled_out")) == 300
    assert account.stats()["duplicates"]["answered_twice"] == 0, "no row was paid twice"


def test_kill_9_loses_nothing_and_pays_at_most_what_was_in_flight(
    server: DagsterServer, location: CodeLocation, account: Account
) -> None:
    """The run worker dies; Dagster's own retry goes on by the journal."""
    twice_before = account.stats()["duplicates"]["extra_answers"]
    location.limits({"requests_per_minute": 600})
    account.configure(latency_median_s=0.5, latency_sigma=0.1)
    server.launch("killed_run")
    run = working_slice(server, account, "killed")
    pid = server.wait_for(lambda: server.worker_pid(run["runId"]), PATIENCE_S, "the worker's process")
    in_flight = account.stats()["in_flight"]
    os.kill(pid, signal.SIGKILL)
    account.configure(latency_median_s=0.0)
    location.limits({"requests_per_minute": 600_000})
    finished(server, "killed")
    rows = location.rows("killed_out")
    assert [row["id"] for row in rows] == list(range(300))
    assert {row["llm_status"] for row in rows} == {"ok"}
    paid_twice = account.stats()["duplicates"]["extra_answers"] - twice_before
    print(f"in flight at the kill: {in_flight}, paid twice: {paid_twice}")
    assert paid_twice <= max(in_flight, 1)


def test_three_new_tables_start_three_runs_once_each(
    server: DagsterServer, location: CodeLocation, account: Account
) -> None:
    for number in range(3):
        location.table(f"reports_{number}.parquet", 10, start=1000 * (number + 1))
    server.start_sensor("seen_watch")
    finished(server, "seen", 3)
    assert len(location.rows("seen_out")) == 30
    assert len(server.runs("seen_run")) == 3
    assert len(location.store.runs.all("seen")) == 3


def test_a_schedule_tick_starts_a_run(server: DagsterServer, location: CodeLocation) -> None:
    server.start_schedule("ticking_schedule")
    server.wait_for(lambda: server.runs("ticking_run"), 150.0, "a tick")
    server.stop_schedule("ticking_schedule")
    finished(server, "ticking")
    assert len(location.rows("ticking_out")) == 20
