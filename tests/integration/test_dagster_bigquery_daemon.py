"""`dagster dev` with its running daemon over BigQuery: tables that appear are worked off with no click, once each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud import bigquery

from batch_llm.journal.base import RunState
from tests.bigquery_server.process import PROJECT, BigQueryServer, bigquery_server
from tests.integration.dagster_lab import CodeLocation
from tests.integration.dagster_server import DagsterServer

pytestmark = pytest.mark.timeout(900)

PATIENCE_S = 600.0  # nine Dagster runs, each 4 to 15 s of a shared machine


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BigQueryServer]:
    """A dataset; the environment, which the daemon inherits, leads to it."""
    with bigquery_server(tmp_path / "server") as server, server.client() as client:
        client.create_dataset("texts")
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        monkeypatch.setenv("BATCH_LLM_WAREHOUSE", f"bigquery:{PROJECT}.texts")
        yield server


def test_three_tables_that_appear_are_answered_with_no_click(warehouse: BigQueryServer, location: CodeLocation) -> None:
    location.job(input={"key": ["id"]}, watch={"tables": "reports_*"}, slices={"rows": 20})
    with DagsterServer(location) as server:
        server.start_sensor("tone_watch")
        with warehouse.client() as client:
            for number in range(3):
                make = f"CREATE TABLE texts.reports_{number} AS SELECT id, CONCAT('text ', CAST(id AS STRING)) AS text "
                rows = f"FROM UNNEST(GENERATE_ARRAY({100 * number}, {100 * number + 9})) AS id"
                client.query(make + rows, bigquery.QueryJobConfig()).result()
        store = location.store

        def finished() -> bool:
            return [record.state for record in store.runs.all("tone")] == [RunState.FINISHED] * 3

        server.wait_for(finished, PATIENCE_S, "three finished runs")
        server.wait_for(lambda: server.materializations("tone_out") == 3, PATIENCE_S, "the table in the catalog")
        assert len(server.runs("tone_run")) == 3, "each table started one run"
    rows = location.rows("tone_out")
    assert [row["id"] for row in rows] == [*range(10), *range(100, 110), *range(200, 210)]
    assert {row["llm_status"] for row in rows} == {"ok"}
