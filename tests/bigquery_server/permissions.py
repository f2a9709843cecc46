"""Permissions: a set that tests take away, and 403 for the calls that need one of them.

Belongs here: which call needs which permission, how BigQuery says it. Not here: who somebody is (tokens.py).
One that is missing in one dataset only is written "bigquery.tables.get on DATASET"; a query may still read its tables
by way of a view, as if all views were authorized ones.
Source: https://cloud.google.com/bigquery/docs/access-control (read 2026-11-28),
https://cloud.google.com/bigquery/docs/authorized-views (read 2026-11-29).
"""

from __future__ import annotations

from tests.bigquery_server.calls import Call, Reply
from tests.bigquery_server.catalog import TableRef
from tests.bigquery_server.errors import ApiError
from tests.bigquery_server.state import State

__all__ = [
    "check",
    "held",
    "iam_permissions",
    "iam_policy",
    "need_all_rows",
    "need_dataset",
    "need_query",
    "need_table",
    "table_of",
]

# the call's own permission; what a job reads and writes is judged when it runs
OF_CALL = {
    "datasets.get": "bigquery.datasets.get",
    "datasets.insert": "bigquery.datasets.create",
    "datasets.patch": "bigquery.datasets.update",
    "datasets.update": "bigquery.datasets.update",
    "datasets.delete": "bigquery.datasets.delete",
    "tables.get": "bigquery.tables.get",
    "tables.list": "bigquery.tables.list",
    "tables.insert": "bigquery.tables.create",
    "tables.patch": "bigquery.tables.update",
    "tables.update": "bigquery.tables.update",
    "tables.delete": "bigquery.tables.delete",
    "tabledata.list": "bigquery.tables.getData",
    "tabledata.insertAll": "bigquery.tables.updateData",
    "jobs.insert": "bigquery.jobs.create",
    "jobs.query": "bigquery.jobs.create",
    "jobs.upload": "bigquery.jobs.create",
}


def check(state: State, call: Call) -> None:
    """403 when the caller may not make this call at all."""
    needed = OF_CALL.get(call.operation)
    project, dataset, table = (call.path.get(each) for each in ("project", "dataset", "table"))
    if needed is None or held(state, needed, dataset):
        return
    if table is not None:
        need_table(state, needed, f"{project}:{dataset}.{table}")
    elif dataset is not None:
        need_dataset(state, needed, f"{project}:{dataset}")
    raise ApiError(
        "accessDenied",
        f"Access Denied: Project {project}: User does not have {needed} permission in project {project}.",
    )


def held(state: State, permission: str, dataset: str | None = None) -> bool:
    """Whether the caller has it, in a dataset if one is named."""
    missing = state.settings.missing_permissions
    return permission not in missing and f"{permission} on {dataset}" not in missing


def need_query(state: State, name: TableRef, location: str | None, *, by_view: bool) -> None:
    """403 when a query may not read the table; it is said in other words than elsewhere.

    Source: https://github.com/mozilla/bigquery-etl/issues/3193 (read 2026-11-28).
    """
    if not held(state, "bigquery.tables.getData", None if by_view else name.dataset):
        raise ApiError(
            "accessDenied",
            f"Access Denied: Table {name}: User does not have permission to query table {name}, or perhaps it does not "
            f"exist in location {location}.",
        )


def need_all_rows(state: State, name: TableRef, what: str) -> None:
    """403 for what only those may do who see all rows of a table that has row access policies.

    Source: https://cloud.google.com/bigquery/docs/using-row-level-security-with-features (read 2026-11-29), the words
    of time travel: https://fivetran.com/docs/connectors/databases/bigquery/troubleshooting/time-travel-forbidden-error
    """
    if f"{name.dataset}.{name.table}" in state.settings.secured_tables:
        raise ApiError(
            "accessDenied",
            f"Access Denied: BigQuery: {what} on table {name} is forbidden as it has (or has had) row access policies.",
        )


def iam_permissions(state: State, call: Call) -> Reply:
    """tables.testIamPermissions: those of the asked that the caller has."""
    table = state.catalog.table(table_of(call)).ref
    asked = call.json.get("permissions") or ()
    return Reply({"permissions": [each for each in asked if held(state, each, table.dataset)]})


def iam_policy(state: State, call: Call) -> Reply:
    """tables.getIamPolicy: nobody is bound to anything."""
    state.catalog.table(table_of(call))
    return Reply({"version": 1, "etag": "ACAB", "bindings": []})


def table_of(call: Call) -> TableRef:
    """The table of the call's path."""
    return TableRef(call.path["project"], call.path["dataset"], call.path["table"])


def need_dataset(state: State, permission: str, name: str) -> None:
    """403 when the permission is missing."""
    if not held(state, permission, name.partition(":")[2]):
        raise ApiError(
            "accessDenied",
            f"Access Denied: Dataset {name}: Permission {permission} denied on dataset {name} (or it may not exist).",
        )


def need_table(state: State, permission: str, name: str) -> None:
    """403 when the permission is missing."""
    if not held(state, permission, name.partition(":")[2].partition(".")[0]):
        raise ApiError(
            "accessDenied",
            f"Access Denied: Table {name}: Permission {permission} denied on table {name} (or it may not exist).",
        )
