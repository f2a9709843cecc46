"""Permissions: a set that tests take away, and 403 for the calls that need one of them.

Belongs here: which call needs which permission, how BigQuery says it. Not here: who somebody is (tokens.py).
Source: https://cloud.google.com/bigquery/docs/access-control (read 2026-11-28).
"""

from __future__ import annotations

from tests.bigquery_server.calls import Call
from tests.bigquery_server.errors import ApiError
from tests.bigquery_server.state import State

__all__ = ["check", "need_dataset", "need_table"]

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
    if needed is None or needed not in state.settings.missing_permissions:
        return
    project, dataset, table = (call.path.get(each) for each in ("project", "dataset", "table"))
    if table is not None:
        need_table(state, needed, f"{project}:{dataset}.{table}")
    elif dataset is not None:
        need_dataset(state, needed, f"{project}:{dataset}")
    raise ApiError(
        "accessDenied",
        f"Access Denied: Project {project}: User does not have {needed} permission in project {project}.",
    )


def need_dataset(state: State, permission: str, name: str) -> None:
    """403 when the permission is missing."""
    if permission in state.settings.missing_permissions:
        raise ApiError(
            "accessDenied",
            f"Access Denied: Dataset {name}: Permission {permission} denied on dataset {name} (or it may not exist).",
        )


def need_table(state: State, permission: str, name: str) -> None:
    """403 when the permission is missing."""
    if permission in state.settings.missing_permissions:
        raise ApiError(
            "accessDenied",
            f"Access Denied: Table {name}: Permission {permission} denied on table {name} (or it may not exist).",
        )
