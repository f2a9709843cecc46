"""Calls on datasets: insert, get, list, patch, update, delete.

Belongs here: these calls. Not here: tables (tables_api.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets (read 2026-11-28).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.bigquery_server.calls import Call, Reply
from tests.bigquery_server.catalog import Dataset, DatasetRef
from tests.bigquery_server.errors import ApiError, already_exists
from tests.bigquery_server.paging import paged
from tests.bigquery_server.preconditions import check_etag
from tests.bigquery_server.resources import DATASET_PROPERTIES, dataset_etag, dataset_item, dataset_json, said_of
from tests.bigquery_server.state import State

__all__ = ["delete", "get", "insert", "list_all", "patch", "projects"]


def _ref(call: Call) -> DatasetRef:
    return DatasetRef(call.path["project"], call.path["dataset"])


def insert(state: State, call: Call) -> Reply:
    """datasets.insert."""
    said: dict[str, Any] = call.json.get("datasetReference") or {}
    ref = DatasetRef(call.path["project"], str(said.get("datasetId", "")))
    if ref in state.catalog.datasets:
        raise already_exists("Dataset", str(ref))
    now_ms = state.clock.now_ms()
    location = str(call.json.get("location") or state.settings.default_location)
    made = Dataset(ref, location, now_ms, now_ms, said_of(call.json, DATASET_PROPERTIES))
    state.catalog.add_dataset(made)
    return Reply(dataset_json(made))


def get(state: State, call: Call) -> Reply:
    """datasets.get."""
    return Reply(dataset_json(state.catalog.dataset(_ref(call))))


def list_all(state: State, call: Call) -> Reply:
    """datasets.list."""
    mine = sorted(ref for ref in state.catalog.datasets if ref.project == call.path["project"])
    page, token = paged(call, [state.catalog.datasets[ref] for ref in mine])
    told: dict[str, Any] = {"kind": "bigquery#datasetList", "datasets": [dataset_item(each) for each in page]}
    return Reply(told | ({"nextPageToken": token} if token else {}))


def patch(state: State, call: Call) -> Reply:
    """datasets.patch and datasets.update: null takes a property away."""
    dataset = state.catalog.dataset(_ref(call))
    check_etag(call, dataset_etag(dataset))
    body = call.json
    kept = {key: value for key, value in dataset.properties.items() if key not in body}
    changed = replace(
        dataset,
        properties=kept | said_of(body, DATASET_PROPERTIES),
        revision=dataset.revision + 1,
        modified_ms=state.clock.now_ms(),
    )
    state.catalog.datasets[dataset.ref] = changed
    return Reply(dataset_json(changed))


def delete(state: State, call: Call) -> Reply:
    """datasets.delete: with tables in it only when asked to."""
    ref = _ref(call)
    state.catalog.dataset(ref)
    if call.query.get("deleteContents") != "true" and any(state.catalog.tables_of(ref)):
        raise ApiError("resourceInUse", f"Dataset {ref} is still in use", status=400)
    state.catalog.drop_dataset(ref)
    return Reply(status=204)


def projects(state: State, call: Call) -> Reply:
    """projects.list: those that have datasets."""
    names = sorted({ref.project for ref in state.catalog.datasets})
    told = [{"id": each, "projectReference": {"projectId": each}, "friendlyName": each} for each in names]
    return Reply({"kind": "bigquery#projectList", "projects": told, "totalItems": len(told)})
