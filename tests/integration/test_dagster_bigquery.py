"""Dagster over BigQuery: what a dataset's tables start by themselves, and what the catalog shows of them.

Real Dagster instance and runs, the real client with a service account, the tests' BigQuery, a provider account to count
what is asked; `Daemon` plays the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.bigquery_server.process import PROJECT, BigQueryServer, Fault, bigquery_server
from tests.integration.bigquery_location import DATASET, BigQueryLocation
from tests.integration.dagster_lab import Account
from tests.integration.sensor_lab import Daemon

# Dagster's own call, for any resource that is a field of another
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as server:
        yield server


@pytest.fixture
def location(
    shared: BigQueryServer, tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BigQueryLocation]:
    monkeypatch.setattr("sensors.watch.SETTLED_AFTER", timedelta(0))
    shared.reset()
    shared.configure(limits={"table_changes_per_10_s": 1_000})
    made = BigQueryLocation(tmp_path, account.base_url)
    made.server = shared
    shared.configure(require_token=True)
    assert made.settings_resource.bigquery is not None
    with made.settings_resource.bigquery.get_client() as made.client:
        made.client.create_dataset(DATASET)
        yield made


@pytest.fixture
def daemon(location: BigQueryLocation, instance: dg.DagsterInstance) -> Daemon:
    return Daemon(location, instance)


def shown(instance: dg.DagsterInstance, key: dg.AssetKey, kind: str = "materialization") -> dict[str, Any]:
    """The metadata of the newest event of an asset."""
    records = (
        instance.fetch_materializations(key, limit=1)
        if kind == "materialization"
        else instance.fetch_observations(key, limit=1)
    ).records
    event = records[0].asset_materialization if kind == "materialization" else records[0].asset_observation
    assert event is not None
    return dict(event.metadata)


def test_three_tables_that_appear_start_three_runs_once_each(
    daemon: Daemon, location: BigQueryLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job(input={"key": ["id"]}, watch={"tables": "reports_*"}, slices={"rows": 5})
    location.make("elsewhere", "[1]")
    assert daemon.tick("tone_watch") == []
    for number in range(3):
        location.make(f"reports_{number}", f"GENERATE_ARRAY({100 * number}, {100 * number + 9})")
    requests = daemon.tick("tone_watch")
    assert [request.run_key for request in requests] == ["reports_0", "reports_1", "reports_2"]
    for request in requests:
        assert daemon.run(request, "tone_run").success
    assert daemon.tick("tone_watch") == []
    assert sorted(daemon.work_off()) == ["tone_output"] * 3 + ["tone_slices"] * 6
    assert daemon.tick("tone_watch") == [], "the output of the job is no table that appeared"
    rows = location.rows("tone_out")
    assert [row["id"] for row in rows] == [*range(10), *range(100, 110), *range(200, 210)]
    assert {row["llm_status"] for row in rows} == {"ok"}
    assert account.stats()["accepted"] == 30
    assert len(location.store.runs.all("tone")) == 3


def test_a_table_that_is_made_before_it_is_filled_starts_one_run_when_it_has_rows(
    daemon: Daemon, location: BigQueryLocation
) -> None:
    location.job(input={"key": ["id"]}, watch={"tables": "reports_*", "on": "new"})
    location.sql("CREATE TABLE reports_1 (id INT64, text STRING)")
    assert daemon.tick("tone_watch") == []
    assert "nothing new" in str(daemon.skipped)
    location.sql("INSERT INTO reports_1 (id, text) VALUES (1, 'a')")
    assert [request.run_key for request in daemon.tick("tone_watch")] == ["reports_1"]
    assert daemon.tick("tone_watch") == []


def test_a_table_that_is_streamed_into_starts_a_run_when_that_is_over(
    daemon: Daemon, location: BigQueryLocation
) -> None:
    """BigQuery estimates what is in its buffer: the version would be another at nearly every look."""
    location.job(input={"table": "reports", "key": ["id"]})
    location.sql("CREATE TABLE reports (id INT64, text STRING)")
    table = location.client.get_table(f"{PROJECT}.{DATASET}.reports")
    for number in range(2):
        assert not location.client.insert_rows_json(table, [{"id": number, "text": "a"}])
        assert daemon.tick("tone_changed") == []
        assert "streamed into it" in str(daemon.skipped)
    location.server.advance(2 * 3_600)
    assert len(daemon.tick("tone_changed")) == 1
    assert daemon.tick("tone_changed") == []


@pytest.mark.parametrize("watched", [True, False])
def test_of_a_table_that_changed_only_new_and_changed_rows_are_asked(
    daemon: Daemon, location: BigQueryLocation, account: Account, *, watched: bool
) -> None:
    """It grows by 100 rows and 10 of its rows change: 110 calls."""
    sensor = "tone_watch" if watched else "tone_changed"
    watch = {"tables": "reports*", "on": "changed"} if watched else None
    source = {"key": ["id"]} if watched else {"table": "reports", "key": ["id"]}
    location.job(input=source, watch=watch, slices={"rows": 300})
    location.make("reports", "GENERATE_ARRAY(1, 150)")

    def work() -> int:
        (request,) = daemon.tick(sensor)
        assert daemon.run(request, "tone_run").success
        assert daemon.work_off() == ["tone_slices", "tone_output"]
        assert daemon.tick(sensor) == [], "once each"
        return int(account.stats()["accepted"])

    assert work() == 150
    location.sql(
        "INSERT INTO reports (id, text) SELECT id, CONCAT('new ', CAST(id AS STRING)) "
        "FROM UNNEST(GENERATE_ARRAY(1001, 1100)) AS id"
    )
    location.sql("UPDATE reports SET text = CONCAT(text, ', changed') WHERE id BETWEEN 11 AND 20")
    assert work() == 150 + 110
    assert len(location.rows("tone_out")) == 250


def test_jobs_that_watch_one_dataset_look_at_it_once(daemon: Daemon, location: BigQueryLocation) -> None:
    """One statement for all their sensors; each sees what it asked for."""
    for name in ("reports", "letters"):
        location.job(name, input={"key": ["id"]}, watch={"tables": f"{name}_*"})
        location.make(f"{name}_1", "[1]")
    before = location.listings()
    started = daemon.together("reports_watch", "letters_watch")
    assert {name: [one.run_key for one in requests] for name, requests in started.items()} == {
        "reports_watch": ["reports_1"],
        "letters_watch": ["letters_1"],
    }
    assert location.listings() - before == 1


def test_a_dataset_that_cannot_be_listed_starts_nothing_and_says_why(
    daemon: Daemon, location: BigQueryLocation
) -> None:
    location.job(input={"key": ["id"]}, watch={"tables": "reports_*"})
    location.make("reports_1", "[1]")
    location.server.configure(missing_permissions=["bigquery.jobs.create"])
    assert daemon.tick("tone_watch") == []
    assert "bigquery.jobs.create" in str(daemon.skipped)
    location.server.configure(missing_permissions=[])
    assert len(daemon.tick("tone_watch")) == 1


def test_the_catalog_knows_the_tables_before_anything_ran(location: BigQueryLocation) -> None:
    location.job(input={"table": "raw.reports", "key": ["id"]})
    specs = {spec.key: spec for spec in location.definitions().resolve_all_asset_specs()}
    source, output = specs[dg.AssetKey(["raw", "reports"])], specs[dg.AssetKey("tone_out")]
    for spec, table in ((source, f"{PROJECT}.raw.reports"), (output, f"{PROJECT}.{DATASET}.tone_out")):
        assert spec.kinds == {"bigquery"}
        assert spec.metadata["dagster/table_name"] == table
        assert spec.metadata["project"] == PROJECT
        name = table.rpartition(".")[2]
        assert spec.metadata["console"].url == (
            f"https://console.cloud.google.com/bigquery?project={PROJECT}&p={PROJECT}&d={table.split('.')[1]}"
            f"&page=table&t={name}"
        )


def test_a_run_shows_what_it_read_and_what_it_wrote(
    daemon: Daemon, location: BigQueryLocation, instance: dg.DagsterInstance
) -> None:
    """Columns, rows, bytes of the input as it was then, and of the output as it is now."""
    location.make("reports", "GENERATE_ARRAY(1, 7)")
    location.job(input={"table": "reports", "key": ["id"]})
    assert location.execute(instance, "tone_run").success
    daemon.work_off()
    read = shown(instance, dg.AssetKey("reports"), "observation")
    assert read["dagster/row_count"].value == 7
    assert [column.name for column in read["dagster/column_schema"].value.columns] == ["id", "text"]
    assert read["size_bytes"].value > 0
    assert read["dagster/table_name"].value == f"{PROJECT}.{DATASET}.reports"
    wrote = shown(instance, dg.AssetKey("tone_out"))
    assert wrote["dagster/row_count"].value == 7
    (slice_key,) = instance.get_materialized_partitions(dg.AssetKey(["tone", "enriched_slices"]))
    answered = shown(instance, dg.AssetKey(["tone", "enriched_slices"]))
    assert answered["warehouse_statements"].value >= 1, slice_key
    assert wrote["warehouse_billed_bytes"].value > answered["warehouse_billed_bytes"].value >= 10 << 20
    assert wrote["warehouse_slot_ms"].value > 0
    assert "warehouse_cost_usd" not in wrote, "no price is known"
    assert {"id", "tone", "score", "llm_status"} <= {
        column.name for column in wrote["dagster/column_schema"].value.columns
    }
    assert "console.cloud.google.com" in wrote["console"].value


def test_a_run_is_counted_when_it_may_be_whole_only(
    daemon: Daemon, location: BigQueryLocation, instance: dg.DagsterInstance
) -> None:
    """Its counters of all slices are billed: not asked for by each tick, nor by each slice at its end."""
    location.make("reports", "GENERATE_ARRAY(1, 70)")
    location.job(input={"table": "reports", "key": ["id"]}, slices={"rows": 10})
    assert location.execute(instance, "tone_run").success
    (record,) = location.store.runs.all("tone")
    assert len(record.slice_rows) == 7
    assert daemon.work_off() == ["tone_slices"] * 7 + ["tone_output"]
    asked = [cost for cost in location.store.runs.statements(record.run_id) if cost.name == "published"]
    billed = [cost for cost in asked if cost.slice_number is None and cost.billed_bytes]
    # the last slice at its end; then the sensor, and promoting twice, which ask the same again (it is billed here only:
    # BigQuery has the answer in its cache)
    assert len(billed) == 1 + 3, billed


def test_an_output_that_bigquery_did_not_take_is_requested_again(
    daemon: Daemon, location: BigQueryLocation, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paid rows reach the table without anybody's doing."""
    location.make("reports", "GENERATE_ARRAY(1, 7)")
    location.job(input={"table": "reports", "key": ["id"]})
    assert location.execute(instance, "tone_run").success
    for request in daemon.tick("dispatch"):
        assert daemon.run(request).success
    (output,) = daemon.tick("dispatch")
    location.server.faults(Fault("tables.get", reason="quotaExceeded"))
    assert not daemon.run(output).success
    location.server.faults()
    assert daemon.tick("dispatch") == []
    assert "tried again in" in str(daemon.skipped)
    monkeypatch.setattr("sensors.dispatch.PROMOTE_AGAIN_AFTER_S", (0.0,))
    assert daemon.work_off() == ["tone_output"]
    assert len(location.rows("tone_out")) == 7


def test_an_input_is_shown_when_it_has_changed(daemon: Daemon, location: BigQueryLocation) -> None:
    """Before any run; not again while it stays as it is; one that is not there yet hides no other."""
    location.make("reports", "GENERATE_ARRAY(1, 7)")
    location.job(input={"table": "reports", "key": ["id"]})
    location.job("later", input={"table": "not_there", "key": ["id"]})
    asked = [daemon.tick("catalog"), daemon.shown, daemon.tick("catalog"), daemon.shown]
    assert asked == [[], [dg.AssetKey("reports")], [], []]
    location.sql("INSERT INTO reports (id, text) VALUES (8, 'new')")
    assert daemon.tick("catalog") == []
    assert daemon.shown == [dg.AssetKey("reports")]
