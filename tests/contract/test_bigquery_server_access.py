"""The fake BigQuery's tokens and permissions, judged by the real client and google-auth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import requests
from google.api_core.exceptions import Forbidden
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import InvalidOperation
from google.cloud import bigquery
from google.oauth2 import service_account

from tests.bigquery_server.process import Fault
from tests.contract.bigquery_lab import DATASET, BigQueryLab, refused

IDS = pa.table({"id": pa.array([1, 2], pa.int64())})
SCOPES = ["https://www.googleapis.com/auth/bigquery"]


def with_service_account(bq: BigQueryLab) -> bigquery.Client:
    """The client as it is in production, with the credentials of a service account's file."""
    credentials = service_account.Credentials.from_service_account_file(str(bq.server.service_account), scopes=SCOPES)
    return bq.server.client(credentials=credentials)


def test_a_service_account_gets_tokens_of_the_server(bq: BigQueryLab) -> None:
    bq.server.configure(require_token=True)
    with with_service_account(bq) as client:
        assert [each.dataset_id for each in client.list_datasets()] == [DATASET]
    with pytest.raises(InvalidOperation, match="cannot be refreshed"):  # google-auth would fetch another one
        list(bq.client.list_datasets())
    assert bq.server.log()[-1]["status"] == 401
    bq.server.configure(require_token=False)
    assert isinstance(bq.client._credentials, AnonymousCredentials)
    assert len(list(bq.client.list_datasets())) == 1


def test_the_environment_leads_a_client_to_the_server(bq: BigQueryLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program finds it that says nothing: endpoint, project and credentials are in the environment."""
    bq.server.configure(require_token=True)
    for name, value in bq.server.environment.items():
        monkeypatch.setenv(name, value)
    credentials = service_account.Credentials.from_service_account_file(str(bq.server.service_account), scopes=SCOPES)
    with bigquery.Client(credentials=credentials) as client:
        assert client.project == bq.server.project
        assert client.query("SELECT 1").result().total_rows == 1


def test_an_expired_token_is_refused_and_a_new_one_fetched(bq: BigQueryLab) -> None:
    """google-auth fetches another one on a 401, and sends the call again."""
    bq.server.configure(require_token=True)
    with with_service_account(bq) as client:
        client.query("SELECT 1").result()
        first = client._credentials.token
        bq.server.faults(Fault("jobs.insert:query", kind="token", calls=(1,)))
        client.query("SELECT 1").result()
        assert client._credentials.token != first
        assert [each["status"] for each in bq.server.log() if each["operation"] == "jobs.insert:query"][-2:] == [
            401,
            200,
        ]


def test_a_token_is_good_for_an_hour(bq: BigQueryLab) -> None:
    with with_service_account(bq) as client:
        list(client.list_datasets())
        authorization = {"Authorization": f"Bearer {client._credentials.token}"}
        url = f"{bq.server.url}/bigquery/v2/projects/{bq.server.project}/datasets"
        assert requests.get(url, headers=authorization, timeout=10).status_code == 200
        bq.server.advance(3_601)
        assert requests.get(url, headers=authorization, timeout=10).status_code == 401
        assert requests.get(url, headers={"Authorization": "Bearer other"}, timeout=10).status_code == 401


CALLS: list[tuple[str, Callable[[BigQueryLab], Any], str]] = [
    ("bigquery.datasets.get", lambda bq: bq.client.get_dataset(DATASET), "denied on dataset fake-project:d "),
    (
        "bigquery.datasets.create",
        lambda bq: bq.client.create_dataset("e"),
        "not have bigquery.datasets.create",
    ),
    ("bigquery.tables.get", lambda bq: bq.client.get_table(bq.ref("t")), "denied on table fake-project:d.t "),
    ("bigquery.tables.list", lambda bq: list(bq.client.list_tables(DATASET)), "denied on dataset fake-project:d "),
    ("bigquery.tables.create", lambda bq: bq.create("u", "id INT64"), "denied on dataset fake-project:d "),
    ("bigquery.tables.create", lambda bq: bq.load("u", IDS), "denied on dataset fake-project:d "),
    (
        "bigquery.tables.create",
        lambda bq: bq.query("CREATE TABLE d.u AS SELECT 1 AS x"),
        "denied on dataset fake-project:d",
    ),
    ("bigquery.tables.delete", lambda bq: bq.client.delete_table(bq.ref("t")), "denied on table fake-project:d.t "),
    ("bigquery.tables.delete", lambda bq: bq.query("DROP TABLE d.t"), "denied on table fake-project:d.t "),
    (
        "bigquery.tables.getData",
        lambda bq: list(bq.client.list_rows(bq.ref("t"), [])),
        "denied on table fake-project:d.t",
    ),
    ("bigquery.tables.getData", lambda bq: bq.ask("SELECT * FROM d.t"), "User does not have permission to query table"),
    ("bigquery.tables.getData", lambda bq: bq.client.copy_table(bq.ref("t"), bq.ref("u")).result(), "getData denied"),
    ("bigquery.tables.updateData", lambda bq: bq.load("t", IDS), "denied on table fake-project:d.t "),
    ("bigquery.tables.updateData", lambda bq: bq.query("DELETE FROM d.t WHERE TRUE"), "updateData denied on table"),
    (
        "bigquery.tables.updateData",
        lambda bq: bq.client.insert_rows_json(bq.ref("t"), [{"id": 3}]),
        "updateData denied",
    ),
    (
        "bigquery.jobs.create",
        lambda bq: bq.query("SELECT 1"),
        "not have bigquery.jobs.create permission",
    ),
    (
        "bigquery.jobs.create",
        lambda bq: bq.load("t", IDS),
        "not have bigquery.jobs.create permission",
    ),
    ("bigquery.jobs.create", lambda bq: bq.load("t", IDS, resumable=True), "not have bigquery.jobs.create permission"),
    (
        "bigquery.jobs.create",
        lambda bq: bq.client.query_and_wait("SELECT 1"),
        "not have bigquery.jobs.create permission",
    ),
]


@pytest.mark.parametrize(("permission", "call", "words"), CALLS, ids=[f"{n} {each[0]}" for n, each in enumerate(CALLS)])
def test_a_permission_that_is_missing(
    bq: BigQueryLab, permission: str, call: Callable[[BigQueryLab], Any], words: str
) -> None:
    """Sources of the words (read 2026-11-28): https://github.com/GoogleCloudDataproc/spark-bigquery-connector/issues/478,
    https://github.com/mozilla/bigquery-etl/issues/3193, https://github.com/kubernetes/k8s.io/issues/2729
    """
    bq.load("t", IDS)
    bq.server.configure(missing_permissions=[permission])
    with refused(Forbidden, "accessDenied", words):
        call(bq)
    bq.server.configure(missing_permissions=[])
    assert len(bq.rows("t")) == 2
    call(bq)


def test_a_view_may_read_what_its_reader_may_not(bq: BigQueryLab) -> None:
    """In one dataset alone; what it reads is still told of the job.

    Source (read 2026-11-29): https://cloud.google.com/bigquery/docs/authorized-views
    """
    bq.client.create_dataset("hidden")
    bq.load("t", IDS)
    bq.query("CREATE TABLE hidden.t AS SELECT * FROM d.t")
    bq.query("CREATE VIEW d.seen AS SELECT * FROM hidden.t")
    bq.server.configure(missing_permissions=[f"bigquery.tables.{right} on hidden" for right in ("get", "getData")])
    assert bq.ask("SELECT COUNT(*) FROM d.seen") == [(2,)]
    assert [str(each) for each in bq.query("SELECT * FROM d.seen").referenced_tables] == [
        f"{bq.server.project}.hidden.t"
    ]
    with refused(Forbidden, "accessDenied", "permission to query table"):
        bq.ask("SELECT * FROM hidden.t")
    with refused(Forbidden, "accessDenied", "bigquery.tables.get denied"):
        bq.client.get_table("hidden.t")
    assert bq.client.get_table("d.t").num_rows == 2


def test_a_table_with_row_access_policies_has_no_history_and_no_list(bq: BigQueryLab) -> None:
    """Source (read 2026-11-29): https://cloud.google.com/bigquery/docs/using-row-level-security-with-features"""
    bq.load("t", IDS)
    bq.server.configure(secured_tables=["d.t"])
    assert bq.ask("SELECT COUNT(*) FROM d.t") == [(2,)]
    with refused(Forbidden, "accessDenied", "Time travel on table"):
        bq.query("SELECT * FROM d.t FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", dry_run=True)
    with refused(Forbidden, "accessDenied", "has had) row access policies"):
        bq.rows("t")


def test_permissions_can_be_asked_for(bq: BigQueryLab) -> None:
    table = bq.create("t", "id INT64")
    bq.server.configure(missing_permissions=["bigquery.tables.updateData"])
    asked = ["bigquery.tables.getData", "bigquery.tables.updateData"]
    assert bq.client.test_iam_permissions(table, asked) == {"permissions": ["bigquery.tables.getData"]}
    assert list(bq.client.get_iam_policy(table).bindings) == []
