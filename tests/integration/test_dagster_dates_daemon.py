"""`dagster dev` with its running daemon: backfills of days, from the table's page and from the command line."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.dagster_lab import Account, CodeLocation
from tests.integration.dagster_server import DagsterServer

pytestmark = pytest.mark.timeout(1_500)

PATIENCE_S = 700.0  # a Dagster run costs 4 to 15 s of a shared machine
DAYS = [f"2026-01-0{day}" for day in range(1, 4)]
ROWS_PER_DAY = 4


def test_backfills_of_days_fill_the_table_and_again_ask_nothing(location: CodeLocation, account: Account) -> None:
    """Three days at once by *Materialize*, one more by `dagster job backfill` and the sensor `dispatch`."""
    ids = list(range(4 * ROWS_PER_DAY))
    days = [date(2026, 1, 1) + timedelta(days=number // ROWS_PER_DAY) for number in ids]
    table = pa.table({"id": ids, "text": [f"text {number}" for number in ids], "day": days})
    pq.write_table(table, location.jobs / "input.parquet")
    location.job(schedule={"cadence": "daily", "column": "day", "start": DAYS[0]})
    with DagsterServer(location) as server:
        server.backfill("tone_out", DAYS)
        server.wait_for(lambda: server.partitions("tone_out") == set(DAYS), PATIENCE_S, "three days of the table")
        assert account.stats()["accepted"] == 3 * ROWS_PER_DAY
        assert [row["id"] for row in location.rows("tone_out")] == list(range(3 * ROWS_PER_DAY))

        wanted = ["2026-01-03", "2026-01-04"]
        server.command(
            *("job", "backfill", "-w", "workspace.yaml", "-j", "tone_run", "--noprompt"),
            *("--partitions", ",".join(wanted)),
        )
        server.wait_for(lambda: server.partitions("tone_out") >= set(wanted), PATIENCE_S, "one more day")
    assert account.stats()["accepted"] == 4 * ROWS_PER_DAY, "the third day was there"
    assert [row["id"] for row in location.rows("tone_out")] == ids
    assert account.stats()["duplicates"]["answered_twice"] == 0
