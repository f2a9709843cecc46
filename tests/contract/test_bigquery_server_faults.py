"""The faults that the fake BigQuery injects: each reaches the real client as what it is, and leaves what it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import (
    BadGateway,
    Conflict,
    Forbidden,
    GoogleAPICallError,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
)
from requests.exceptions import ConnectionError as RequestsConnectionError

from tests.bigquery_server.process import Fault, bigquery_server
from tests.contract.bigquery_lab import DATASET, BigQueryLab, refused

IDS = pa.table({"id": pa.array([1, 2], pa.int64())})


def statuses(bq: BigQueryLab, operation: str) -> list[int | None]:
    return [each["status"] for each in bq.server.log() if each["operation"] == operation]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"reason": "accessDenied"}, Forbidden),
        ({"reason": "quotaExceeded"}, Forbidden),
        ({"reason": "serviceUnavailable", "status": 503}, ServiceUnavailable),
        ({"reason": "tooManyRequests", "status": 429}, TooManyRequests),
    ],
)
def test_an_error_that_the_client_does_not_try_again(
    bq: BigQueryLab, fault: dict[str, Any], expected: type[GoogleAPICallError]
) -> None:
    bq.server.faults(Fault("datasets.get", message="words", **fault))
    with refused(expected, fault["reason"], "words"):
        bq.client.get_dataset(DATASET)
    assert len(statuses(bq, "datasets.get")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"reason": "backendError"},
        {"reason": "rateLimitExceeded"},
        {"reason": "internalError"},
        {"kind": "body", "status": 502},
        {"kind": "body", "status": 503, "body": "{not json"},
        {"kind": "reset"},
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_that_the_client_tries_again(bq: BigQueryLab, fault: dict[str, Any], when: Any) -> None:
    bq.server.faults(Fault("tables.insert", when=when, calls=(1,), **fault))
    if when == "after":  # the answer is lost, the table is there
        with refused(Conflict, "duplicate"):
            bq.create("t", "id INT64")
    else:
        bq.create("t", "id INT64")
    assert len(statuses(bq, "tables.insert")) == 2
    assert bq.client.get_table(bq.ref("t")).num_rows == 0


def test_the_client_is_told_of_the_last_error_when_it_gives_up(bq: BigQueryLab) -> None:
    bq.server.faults(Fault("datasets.get", kind="body", status=502))
    with pytest.raises(BadGateway):
        bq.client.get_dataset(DATASET, retry=None)
    bq.server.faults(Fault("datasets.get", kind="reset"))
    with pytest.raises(RequestsConnectionError):
        bq.client.get_dataset(DATASET, retry=None)


def test_uploads_are_tried_again_by_status_only(bq: BigQueryLab) -> None:
    """503 is, whatever its reason; 403 rateLimitExceeded is not, other than for every other call."""
    bq.server.faults(Fault("jobs.insert:load", reason="serviceUnavailable", status=503, calls=(1,)))
    bq.load("t", IDS)
    bq.server.faults(Fault("jobs.insert:load", reason="rateLimitExceeded", calls=(1,)))
    with refused(Forbidden, "rateLimitExceeded"):
        bq.load("t", IDS)
    assert len(bq.rows("t")) == 2


def test_a_chunk_that_was_lost_is_sent_again(bq: BigQueryLab) -> None:
    for when in ("before", "after"):
        bq.server.faults(Fault("jobs.upload", kind="reset", when=when, calls=(1,)))
        bq.load("t", IDS, resumable=True)
    assert len(bq.rows("t")) == 4


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("jobBackendError", InternalServerError),
        ("jobInternalError", InternalServerError),
        ("backendError", InternalServerError),
        ("rateLimitExceeded", TooManyRequests),
        ("quotaExceeded", Forbidden),
    ],
)
def test_a_job_that_fails_has_not_done_its_work(
    bq: BigQueryLab, reason: str, expected: type[GoogleAPICallError]
) -> None:
    bq.server.faults(Fault("jobs.insert:load", kind="job", reason=reason))
    with refused(expected, reason):
        bq.load("t", IDS, job_id="one")
    assert bq.client.get_job("one", location="US").error_result == {"reason": reason, "message": "injected"}
    assert list(bq.client.list_tables(DATASET)) == []


def test_a_query_that_failed_by_chance_is_run_again_under_another_id(bq: BigQueryLab) -> None:
    """The client does that by itself for jobBackendError, when it chose the id."""
    bq.create("t", "id INT64")
    bq.server.faults(Fault("jobs.insert:query", kind="job", reason="jobBackendError", calls=(1,)))
    bq.query("INSERT INTO d.t VALUES (1)")
    ids = {each["job_id"] for each in bq.server.log() if each["operation"] == "jobs.insert:query"}
    assert len(ids) == 2
    assert bq.rows("t") == [(1,)]


def test_a_delay(bq: BigQueryLab) -> None:
    bq.server.faults(Fault("datasets.get", kind="delay", delay_s=0.2))
    bq.client.get_dataset(DATASET)
    assert bq.server.log()[-1]["seconds"] >= 0.2


def test_faults_hit_the_calls_they_name(bq: BigQueryLab) -> None:
    rule = Fault("datasets.*", reason="accessDenied", calls=(2, 4))
    bq.server.faults(rule)
    outcomes = []
    for _ in range(5):
        try:
            bq.client.get_dataset(DATASET)
            outcomes.append("ok")
        except Forbidden:
            outcomes.append("refused")
    assert outcomes == ["ok", "refused", "ok", "refused", "ok"]
    bq.server.faults()
    bq.client.get_dataset(DATASET)


def test_faults_at_random_are_the_same_for_a_seed(bq: BigQueryLab) -> None:
    def outcomes(seed: int) -> list[int | None]:
        before = len(statuses(bq, "datasets.get"))
        bq.server.faults(Fault("datasets.get", reason="accessDenied", share=0.5, seed=seed))
        for _ in range(20):
            try:
                bq.client.get_dataset(DATASET)
            except Forbidden:
                pass
        return statuses(bq, "datasets.get")[before:]

    first = outcomes(1)
    assert first == outcomes(1) != outcomes(2)
    assert 3 <= first.count(403) <= 17


def test_the_log_tells_of_each_call(bq: BigQueryLab) -> None:
    bq.load("t", IDS, job_id="one")
    entry = next(each for each in bq.server.log() if each["operation"] == "jobs.insert:load")
    assert (entry["method"], entry["job_id"], entry["status"], entry["faults"]) == ("POST", "one", 200, [])
    assert entry["path"] == f"/upload/bigquery/v2/projects/{bq.server.project}/jobs"
    assert entry["bytes_in"] > 400 and entry["bytes_out"] > 100
    bq.server.faults(Fault("tables.get", kind="reset", when="after", calls=(1,)))
    bq.client.get_table(bq.ref("t"))
    assert [(each["status"], each["faults"]) for each in bq.server.log()[-2:]] == [(None, ["reset after"]), (200, [])]


def test_all_is_gone_when_the_server_is_killed(tmp_path: Path) -> None:
    with bigquery_server(tmp_path) as server, server.client() as client:
        client.create_dataset(DATASET)
        server.kill()
        server.start()
        assert list(client.list_datasets()) == []
