"""Dagster over date partitions: backfills by day, on DuckDB and on BigQuery.

Real Dagster instance and runs; the warehouses as in a run; a provider account to count what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from batch_llm.journal.base import RunState
from tests.bigquery_server.process import BigQueryServer, bigquery_server
from tests.integration.bigquery_location import DATASET, BigQueryLocation
from tests.integration.dagster_lab import Account, CodeLocation
from tests.integration.sensor_lab import Daemon

# Dagster's own call, for any resource that is a field of another
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")

DAYS = [f"2026-01-0{day}" for day in range(1, 6)]
DAILY = {"cadence": "daily", "column": "day", "start": "2026-01-01"}
OUTPUT = dg.AssetKey("tone_out")
ROWS_PER_DAY = 4


@dataclass(frozen=True)
class Place:
    """A code location, with a table ``reports`` of five days and how to change it."""

    location: CodeLocation
    sql: Callable[[str], None]
    instance: dg.DagsterInstance

    def fill(self) -> None:
        """The table: id, text, day."""
        cut = " PARTITION BY day" if isinstance(self.location, BigQueryLocation) else ""
        self.sql(f"CREATE TABLE reports (id BIGINT, text STRING, day DATE){cut}")
        rows = [
            f"({number}, 'text {number}', DATE '{DAYS[number // ROWS_PER_DAY]}')"
            for number in range(len(DAYS) * ROWS_PER_DAY)
        ]
        self.sql(f"INSERT INTO reports (id, text, day) VALUES {', '.join(rows)}")

    def job(self, **changes: Any) -> None:
        """A job over it, a slice a day."""
        own = {"input": {"table": "reports", "key": ["id"]}, "schedule": DAILY}
        self.location.job(**{**own, **changes})

    def execute(self, name: str, day: str, **options: Any) -> dg.ExecuteInProcessResult:
        return self.location.execute(self.instance, name, partition_key=day, **options)

    def materialized(self) -> list[str]:
        """The days of the table that Dagster shows as there."""
        return sorted(self.instance.get_materialized_partitions(OUTPUT))

    def shown(self, day: str) -> dict[str, Any]:
        """The newest metadata of a day."""
        records = self.instance.fetch_materializations(dg.AssetRecordsFilter(OUTPUT, asset_partitions=[day]), limit=1)
        event = records.records[0].asset_materialization
        assert event is not None
        return {name: value.value for name, value in event.metadata.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as opened:
        yield opened


def on_duckdb(folder: Path, account: Account) -> tuple[CodeLocation, Callable[[str], None]]:
    location = CodeLocation(folder, account.base_url)

    def sql(statement: str) -> None:
        path = location.settings.duckdb_path
        path.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.execute(statement)

    return location, sql


@pytest.fixture(params=["duckdb", "bigquery"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, account: Account, instance: dg.DagsterInstance
) -> Iterator[Place]:
    if request.param == "duckdb":
        yield Place(*on_duckdb(tmp_path, account), instance)
        return
    shared: BigQueryServer = request.getfixturevalue("server")
    shared.reset()
    shared.configure(limits={"table_changes_per_10_s": 1_000}, require_token=True)
    location = BigQueryLocation(tmp_path, account.base_url)
    location.server = shared
    assert location.settings_resource.bigquery is not None
    with location.settings_resource.bigquery.get_client() as location.client:
        location.client.create_dataset(DATASET)
        yield Place(location, location.sql, instance)


def test_a_backfill_of_days_asks_each_row_once_and_later_only_what_changed(place: Place, account: Account) -> None:
    """Planned day by day, worked off slice by slice by `dispatch`."""
    place.fill()
    place.job()
    daemon = Daemon(place.location, place.instance)

    def backfill(days: list[str] = DAYS) -> list[str]:
        for day in days:
            assert place.execute("tone_run", day).success
        return sorted(daemon.work_off(ticks=40))

    assert backfill() == ["tone_output"] * 5 + ["tone_slices"] * 5
    assert place.materialized() == DAYS
    assert [place.shown(day)["rows"] for day in DAYS] == [ROWS_PER_DAY] * 5
    assert all(place.shown(day)["input_tokens"] > 0 and place.shown(day)["cost_usd"] > 0 for day in DAYS)
    assert [(row["id"], row["llm_status"]) for row in place.location.rows("tone_out")] == [(n, "ok") for n in range(20)]
    assert account.stats()["accepted"] == 20
    assert {record.partition for record in place.location.store.runs.all("tone")} == set(DAYS)

    assert backfill() == [], "nothing changed"
    assert account.stats()["accepted"] == 20

    place.sql("UPDATE reports SET text = CONCAT(text, ', changed') WHERE id IN (8, 9)")
    backfill(DAYS[1:3])
    assert account.stats()["accepted"] == 22
    assert len(place.location.rows("tone_out")) == 20


def test_a_materialized_day_is_worked_off_from_its_plan_on(place: Place, account: Account) -> None:
    """What *Materialize* on the table's partitions starts: a Dagster run per day, which does all of it."""
    place.fill()
    place.job(slices={"rows": 3})
    for _ in range(2):
        for day in DAYS[:2]:
            done = place.execute("tone_output", day)
            assert done.success
            (check,) = done.get_asset_check_evaluations()
            assert (check.check_name, check.passed) == ("error_rate", True)
            assert check.metadata["partition"].value == day
        assert place.materialized() == DAYS[:2]
        assert account.stats()["accepted"] == 2 * ROWS_PER_DAY
    assert [row["id"] for row in place.location.rows("tone_out")] == list(range(8))
    slices = place.instance.get_materialized_partitions(dg.AssetKey(["tone", "enriched_slices"]))
    assert len(slices) == 4
    place.sql("INSERT INTO reports (id, text, day) VALUES (100, 'late', DATE '2026-01-02')")
    assert place.execute("tone_output", "2026-01-02").success
    assert account.stats()["accepted"] == 2 * ROWS_PER_DAY + 1
    assert place.shown("2026-01-02")["rows"] == ROWS_PER_DAY + 1


def test_a_day_that_stopped_is_missing_and_goes_on_with_what_is_left(place: Place, account: Account) -> None:
    place.fill()
    place.job(budget_usd=0.00001)
    assert not place.execute("tone_output", DAYS[0]).success
    assert place.materialized() == []
    asked = account.stats()["accepted"]
    assert asked < ROWS_PER_DAY
    place.job(budget_usd=5)
    for day in DAYS[:2]:
        assert place.execute("tone_output", day).success
    assert account.stats()["accepted"] == 2 * ROWS_PER_DAY
    assert place.materialized() == DAYS[:2]
    records = place.location.store.runs.all("tone")
    assert [(record.partition, record.state) for record in records] == [
        (DAYS[1], RunState.FINISHED),
        (DAYS[0], RunState.FINISHED),
    ]


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_a_day_that_was_asked_for_and_halted_is_asked_for_again(place: Place, account: Account) -> None:
    """A failed slice leaves its day missing, hinders no other day, and costs nothing again."""
    place.fill()
    place.job()
    daemon = Daemon(place.location, place.instance)
    account.configure(quota_requests=0)
    assert place.execute("tone_run", DAYS[0]).success
    daemon.work_off()
    assert place.materialized() == []
    account.configure(quota_requests=None)
    assert place.execute("tone_run", DAYS[1]).success
    daemon.work_off()
    assert place.materialized() == [DAYS[1]]
    assert place.execute("tone_run", DAYS[0]).success
    daemon.work_off()
    assert place.materialized() == DAYS[:2]
    assert account.stats()["accepted"] == 2 * ROWS_PER_DAY


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_dagster_calls_the_partitions_as_the_command_line_does(place: Place) -> None:
    now = datetime(2026, 3, 10, 6, tzinfo=UTC)
    found = {}
    for cadence in ("daily", "weekly", "monthly"):
        place.job(name=cadence, schedule={**DAILY, "cadence": cadence}, output={"table": f"{cadence}_out"})
    defs = place.location.definitions()
    for cadence in ("daily", "weekly", "monthly"):
        job = defs.resolve_job_def(f"{cadence}_run")
        assert job.partitions_def is not None
        keys = job.partitions_def.get_partition_keys(current_time=now)
        schedule: Any = defs.resolve_schedule_def(f"{cadence}_schedule")
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
        with dg.build_schedule_context(instance=place.instance, scheduled_execution_time=now) as context:
            assert schedule(context).partition_key == keys[-1]
        found[cadence] = (schedule.cron_schedule, keys[0], keys[-1])
    assert found == {
        "daily": ("0 0 * * *", "2026-01-01", "2026-03-09"),
        "weekly": ("0 0 * * 4", "2026-01-01", "2026-02-26"),
        "monthly": ("0 0 1 * *", "2026-01-01", "2026-02-01"),
    }
    assert "daily_changed" not in [sensor.name for sensor in defs.sensors or []]


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_days_that_the_command_line_ran_are_shown(place: Place) -> None:
    """By `mirror`, each as its partition, once."""
    place.fill()
    place.job()
    ended = [place.execute("tone_output", day).success for day in DAYS[:2]]
    assert ended == [True, True]
    with dg.DagsterInstance.local_temp() as other:
        elsewhere = Place(place.location, place.sql, other)
        Daemon(place.location, other).tick("mirror")
        assert elsewhere.materialized() == DAYS[:2]
        Daemon(place.location, other).tick("mirror")
        assert len(other.fetch_materializations(OUTPUT, limit=10).records) == 2
