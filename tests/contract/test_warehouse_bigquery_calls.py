"""The BigQuery warehouse while calls fail: job ids, retries, what is said.

Belongs here: calls and jobs. Not here: what statements cost (test_warehouse_bigquery_costs.py), what is in the tables
(test_warehouse_bigquery_tables.py), what every warehouse promises (test_warehouse*.py), a whole run
(tests/integration/test_bigquery_run.py).
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.bigquery import Options, open_client
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.listing import Listing, standing_rows
from batch_llm.warehouse.bigquery.names import Dataset
from batch_llm.warehouse.bigquery.patience import Patience
from batch_llm.warehouse.bigquery.publishing import required_out
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.bigquery_warehouse_lab import hasty, incompressible, read_all
from tests.contract.warehouse_lab import (
    KEY,
    OUTPUT_SCHEMA,
    BigQueryLab,
    input_table,
    publish,
    spec,
    stored,
)


@pytest.fixture
def lab(bigquery: BigQueryServer, tmp_path: Path) -> BigQueryLab:
    return BigQueryLab(tmp_path / "home", options=Options(patience=hasty()))


def loads(bigquery: BigQueryServer) -> list[str]:
    """The ids of load jobs, as they were sent."""
    return [call["job_id"] for call in bigquery.log() if call["operation"] == "jobs.insert:load"]


# ---- calls that fail

OPERATIONS = (
    "tables.get", "tables.insert", "tables.patch", "tables.delete", "tables.list", "tabledata.list",
    "jobs.insert:load", "jobs.insert:query", "jobs.get", "jobs.getQueryResults", "jobs.insert:copy", "datasets.get",
)  # fmt: skip


def whole_way(lab: BigQueryLab) -> None:
    """Every call of the warehouse once or more, each with its right result."""
    warehouse = lab.warehouse
    assert warehouse.freeze_for_plan(spec("plan-1", "raw.texts")).rows == 10
    frozen = warehouse.freeze(spec("r2", "raw.texts"))
    assert sorted(row["id"] for row in read_all(warehouse, frozen)) == [f"k{number:05}" for number in range(10)]
    publish(warehouse, "r1", 0, {"k00000": "ok", "k00001": "failed"}, answer="1")
    warehouse.ensure("tone", OUTPUT_SCHEMA, KEY, source="raw.texts")
    warehouse.promote("r1", "tone", KEY, "upsert")
    warehouse.ensure("tone", OUTPUT_SCHEMA.append(pa.field("added", pa.string())), KEY)
    found = [
        row["id"] for info in frozen.slices for batch in warehouse.prior(frozen, info.number, "tone")
        for row in batch.to_pylist()
    ]  # fmt: skip
    assert sorted(found) == ["k00000", "k00001"]
    for answer in ("2", "3", "2"):
        publish(warehouse, "r2", 0, {"k00000": "ok", "k00002": "ok"}, answer=answer)
    assert warehouse.published("r2", 0)[0].ok == 2
    assert set(stored(warehouse, warehouse.live_view("r2", "tone"))) == {"k00000", "k00002"}
    for _ in range(2):
        assert warehouse.promote("r2", "tone", KEY, "upsert").rows == 3
    expected = {"k00000": ("ok", "2"), "k00001": ("failed", None), "k00002": ("ok", "2")}
    assert stored(warehouse, "tone") == expected
    assert warehouse.count("raw.texts", "year >= 2005") == 5
    for run_id in ("plan-1", "r1", "r2"):
        warehouse.forget(run_id)
    warehouse.forget_drafts("raw.texts")
    assert stored(warehouse, "tone") == expected
    with open_client(lab.project) as client:
        assert [table.table_id for table in client.list_tables(f"{lab.project}.tables")] == ["tone"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_call_may_fail_in_passing(bigquery: BigQueryServer, lab: BigQueryLab, operation: str, when: str) -> None:
    """Before its work and after it, with an answer of BigQuery's, a proxy's, or none."""
    lab.put("raw.texts", input_table(10))
    faults = [
        Fault(operation, when=when, calls=(1, 4), reason="backendError"),
        Fault(operation, when=when, calls=(2,), kind="body", status=502),
        Fault(operation, when=when, calls=(3, 5), kind="reset"),
    ]
    bigquery.faults(*faults)  # type: ignore[arg-type]  # `when` is one of the two
    whole_way(lab)
    assert any(call["faults"] for call in bigquery.log()), "this operation is on no way"


@pytest.mark.parametrize("seed", range(2))
def test_every_third_call_may_fail(bigquery: BigQueryServer, lab: BigQueryLab, seed: int) -> None:
    lab.put("raw.texts", input_table(10))
    bigquery.faults(
        Fault("*", share=0.1, seed=seed, when="after", kind="reset"),
        Fault("*", share=0.1, seed=seed + 100, when="before", reason="rateLimitExceeded"),
        Fault("jobs.insert:*", share=0.1, seed=seed + 200, kind="job", reason="jobBackendError"),
    )
    whole_way(lab)


@pytest.mark.parametrize("reason", ["jobBackendError", "jobInternalError", "jobRateLimitExceeded", "tableUnavailable"])
def test_a_job_that_failed_in_passing_runs_again_under_the_next_number(
    bigquery: BigQueryServer, warehouse: Warehouse, reason: str
) -> None:
    """The client never runs a load again, and a statement only under an id of its own making."""
    bigquery.faults(Fault("jobs.insert:*", kind="job", reason=reason, calls=(1, 3)))
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", "tone", KEY, "upsert")
    assert [job_id.rpartition("-")[2] for job_id in loads(bigquery)] == ["1", "2"]
    assert stored(warehouse, "tone") == {"a": ("ok", "a")}


def test_a_statement_that_works_longer_than_the_patience_may_fail_once(
    bigquery: BigQueryServer, tmp_path: Path
) -> None:
    """Six minutes between two looks at it: working is no failing, nor is what came before the job was taken."""
    minutes = Minutes()
    patience = Patience(600.0, monotonic=minutes.monotonic, sleep=minutes.sleep)
    lab = BigQueryLab(tmp_path / "home", options=Options(patience=patience))
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    bigquery.configure(job_s=0.3)
    bigquery.faults(
        Fault("jobs.insert:query", reason="backendError", calls=(1, 3)),
        Fault("jobs.insert:query", kind="job", reason="jobBackendError", calls=(2,)),
    )
    lab.warehouse.promote("r1", "tone", KEY, "upsert")
    assert stored(lab.warehouse, "tone") == {"a": ("ok", "a")}
    assert minutes.now_s > 600.0


class Minutes:
    """A clock on which each pause takes six minutes."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, delay_s: float) -> None:
        self.now_s += 360.0
        time.sleep(min(delay_s, 0.05))


@pytest.mark.parametrize("reason", ["quotaExceeded", "invalid", "stopped"])
def test_a_job_that_failed_for_good_is_said_and_not_repeated(
    bigquery: BigQueryServer, warehouse: Warehouse, reason: str
) -> None:
    """The slice keeps what it had."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    bigquery.faults(Fault("jobs.insert:load", kind="job", reason=reason, message="no more"))
    with pytest.raises(WarehouseError, match=rf"BigQuery, publish: no more \({reason}"):
        publish(warehouse, "r1", 0, {"b": "ok"})
    assert len(loads(bigquery)) == 2
    assert stored(warehouse, "run:r1") == {"a": ("ok", "a")}


SERIALIZE = Fault(
    "jobs.insert:query", kind="job", reason="invalidQuery",
    message="Could not serialize access to table p:tables.tone due to concurrent update",
)  # fmt: skip


def test_runs_that_change_one_output_at_once_all_come_in(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    """BigQuery refuses a statement that found too many before it: here the second of three."""
    for run_id in ("r1", "r2", "r3"):
        publish(lab.warehouse, run_id, 0, {run_id: "ok"})
    lab.warehouse.promote("r1", "tone", KEY, "upsert")
    bigquery.configure(job_s=0.5, limits={"dml_running_per_table": 1, "dml_queued_per_table": 0})
    ended: list[int] = []
    work = [
        threading.Thread(
            target=lambda run_id=run_id: ended.append(lab.warehouse.promote(run_id, "tone", KEY, "upsert").rows)
        )
        for run_id in ("r1", "r2", "r3")
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(ended) == 3
    assert set(stored(lab.warehouse, "tone")) == {"r1", "r2", "r3"}
    refused = [job for job in jobs_of(lab) if job.error_result]
    assert "Too many DML statements outstanding" in refused[0].error_result["message"]


def test_a_promotion_that_collides_with_another_is_run_again(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    """BigQuery itself has tried three times by then. Another statement's invalidQuery stays what it is."""
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    lab.warehouse.promote("r1", "tone", KEY, "upsert")
    bigquery.faults(replace(SERIALIZE, calls=(1, 2)))
    assert lab.warehouse.promote("r1", "tone", KEY, "upsert").rows == 1
    bigquery.faults(Fault("jobs.insert:query", kind="job", reason="invalidQuery", message="Unrecognized name: x"))
    with pytest.raises(WarehouseError, match="Unrecognized name"):
        lab.warehouse.promote("r1", "tone", KEY, "upsert")


def test_an_output_that_is_never_free_is_said_with_the_right_advice(bigquery: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "home", options=Options(patience=hasty(0.2)))
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    bigquery.faults(SERIALIZE)
    with pytest.raises(
        WarehouseError, match=r"concurrent update .*other statements change the same table.*again later"
    ):
        lab.warehouse.promote("r1", "tone", KEY, "upsert")


def jobs_of(lab: BigQueryLab) -> list[Any]:
    with open_client(lab.project) as client:
        return list(client.list_jobs())


def test_a_sign_in_server_that_is_busy_is_asked_again(
    bigquery: BigQueryServer, lab: BigQueryLab, tmp_path: Path
) -> None:
    """Three 503 in a row are what google-auth itself bears; then the call fails, and is made again."""
    bigquery.configure(require_token=True)
    key = SecretStr(bigquery.service_account.read_text("utf-8"))
    client = partial(open_client, lab.project, credentials=key)
    connection = Connection(Dataset(lab.project, "tables"), client, lab.options)
    bigquery.faults(Fault("token", status=503, calls=(1, 2, 3)))
    assert connection.table(connection.dataset.named("none", WarehouseError)) is None


def test_an_upload_that_is_too_fast_is_tried_again(bigquery: BigQueryServer, warehouse: Warehouse) -> None:
    """403 rateLimitExceeded, which the client raises at once for an upload."""
    bigquery.faults(Fault("jobs.insert:load", status=403, reason="rateLimitExceeded", calls=(1, 2)))
    publish(warehouse, "r1", 0, {"a": "ok"})
    assert stored(warehouse, "run:r1") == {"a": ("ok", "a")}


@pytest.mark.parametrize("mebibytes", [0, 6])
def test_a_load_whose_answer_got_lost_runs_once(bigquery: BigQueryServer, lab: BigQueryLab, mebibytes: int) -> None:
    """Sent in one piece, or above 5 MiB in several."""
    bigquery.faults(
        Fault("jobs.insert:load", kind="reset", when="after", calls=(1,)),
        Fault("jobs.upload", kind="reset", when="after", calls=(1,)),
    )
    answer = incompressible(mebibytes)
    publish(lab.warehouse, "r1", 0, {"a": "ok"}, answer)
    assert stored(lab.warehouse, "run:r1") == {"a": ("ok", answer)}
    with open_client(lab.project) as client:
        assert len([job for job in client.list_jobs() if job.job_type == "load"]) == 1


def test_what_was_published_before_can_be_published_again(warehouse: Warehouse) -> None:
    """The same rows, after others stood in their place, and after the run's rows were dropped."""
    for answer in ("one", "two", "one"):
        publish(warehouse, "r1", 0, {"a": "ok"}, answer)
        assert stored(warehouse, "run:r1") == {"a": ("ok", answer)}
    warehouse.unpublish("r1")
    publish(warehouse, "r1", 0, {"a": "ok"}, "one")
    assert stored(warehouse, "run:r1") == {"a": ("ok", "one")}


def test_another_account_that_may_not_see_jobs_is_told_which_right_it_needs(
    bigquery: BigQueryServer, lab: BigQueryLab
) -> None:
    """It must know that the first account's load has ended; what it begins itself it may see."""
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    bigquery.configure(account="other@bigquery.fake", missing_permissions=["bigquery.jobs.get"])
    with pytest.raises(WarehouseError, match=r"another account's: ask for bigquery.jobs.get on the project that pays"):
        publish(lab.warehouse, "r1", 0, {"a": "ok", "b": "ok"})
    publish(lab.warehouse, "r2", 0, {"a": "ok"})
    bigquery.configure(missing_permissions=[])
    publish(lab.warehouse, "r1", 0, {"a": "ok", "b": "ok"})
    assert set(stored(lab.warehouse, "run:r1")) == {"a", "b"}


def test_a_load_waits_for_the_one_before_it(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    """Also when that was sent by a process that is gone: it would put older rows in the place of newer ones."""
    publish(lab.warehouse, "r1", 0, {"a": "ok"}, "first")
    bigquery.configure(job_s=1.0)
    old = threading.Thread(target=publish, args=(lab.warehouse, "r1", 0, {"a": "ok"}, "old"))
    old.start()
    while len(loads(bigquery)) < 2:
        time.sleep(0.01)
    publish(lab.warehouse, "r1", 0, {"a": "ok"}, "new")
    old.join()
    assert stored(lab.warehouse, "run:r1") == {"a": ("ok", "new")}
    with open_client(lab.project) as client:
        jobs = [client.get_job(job_id, location="US") for job_id in loads(bigquery)]
    assert jobs[2].created >= jobs[1].ended


def test_a_table_that_changed_while_it_was_read_is_read_again(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    """So that all rows are of one moment: here the table is not what it was when the reading began."""
    keys = dict.fromkeys((f"k{number}" for number in range(6_000)), "ok")
    publish(lab.warehouse, "r1", 0, keys, "old")
    connection = Connection(Dataset(lab.project, "tables"), partial(open_client, lab.project), lab.options)
    before = required_out(connection, "r1")
    publish(lab.warehouse, "r1", 0, keys, "new")
    calls_before = len(bigquery.log())
    rows = list(standing_rows(connection, Listing(before), lab.home))
    assert {answer for batch in rows for answer in batch["answer"].to_pylist()} == {"new"}
    assert sum(batch.num_rows for batch in rows) == 6_000
    assert len([call for call in bigquery.log()[calls_before:] if call["operation"] == "tabledata.list"]) == 4


def test_a_server_that_stays_away_is_said_after_a_while(bigquery: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "home", options=Options(location="US", patience=hasty(0.2)))
    bigquery.faults(Fault("*", status=503, reason="backendError"))
    for call in (
        lambda: lab.warehouse.source("texts"),
        lambda: publish(lab.warehouse, "r1", 0, {"a": "ok"}),
        lambda: list(lab.warehouse.tables("*")),
    ):
        with pytest.raises(WarehouseError, match="backendError"):
            call()


def test_no_error_shows_the_address_of_an_upload(bigquery: BigQueryServer, warehouse: Warehouse) -> None:
    """With its id anybody could finish it."""
    bigquery.faults(Fault("jobs.upload", status=400, reason="invalid", message="refused"))
    answer = incompressible(6)
    with pytest.raises(WarehouseError, match="refused") as raised:
        publish(warehouse, "r1", 0, {"a": "ok"}, answer)
    assert "upload_id" not in "".join(traceback.format_exception(raised.value))
