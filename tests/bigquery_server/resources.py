"""Datasets and tables as REST shows them, and what a request may say of them.

Belongs here: JSON of resources. Not here: state (catalog.py), calls (tables_api.py).
Sources (read 2026-11-28): https://cloud.google.com/bigquery/docs/reference/rest/v2/tables,
https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.bigquery_server.catalog import Dataset, Table
from tests.bigquery_server.errors import invalid
from tests.bigquery_server.schema import schema_to_json

__all__ = [
    "DATASET_PROPERTIES",
    "TABLE_PROPERTIES",
    "check_labels",
    "dataset_etag",
    "dataset_item",
    "dataset_json",
    "said_of",
    "table_item",
    "table_json",
]

TABLE_PROPERTIES = (
    "description", "friendlyName", "labels", "expirationTime", "requirePartitionFilter", "maxStaleness",
    "encryptionConfiguration", "defaultCollation", "resourceTags", "externalDataConfiguration",
)  # fmt: skip
DATASET_PROPERTIES = (
    "description", "friendlyName", "labels", "defaultTableExpirationMs", "defaultPartitionExpirationMs", "access",
    "storageBillingModel", "maxTimeTravelHours", "isCaseInsensitive", "resourceTags",
)  # fmt: skip


MAX_DESCRIPTION_CHARS = 16_384  # Source: https://cloud.google.com/bigquery/quotas#table_limits (read 2026-11-28)
MAX_LABELS = 64


def check_labels(labels: Mapping[str, str | None]) -> None:
    """Refuse labels that are none: lower case, digits, `_`, `-`, 63 characters, a key begins with a letter.

    Source: https://cloud.google.com/bigquery/docs/labels-intro#requirements (read 2026-11-28).
    """
    if len(labels) > MAX_LABELS:
        raise invalid(f"Too many labels: {len(labels)}, allowed {MAX_LABELS}", "labels")
    for key, value in labels.items():
        texts = (key, value or "")
        legal = all(re.fullmatch(r"[\w\-]{0,63}", each) and each == each.lower() for each in texts)
        if not legal or not key[:1].isalpha():
            raise invalid(
                f"Invalid label: {key}={value}: only lower case letters, digits, underscores, dashes", "labels"
            )


def dataset_etag(dataset: Dataset) -> str:
    """Another one after each change."""
    return f"etag-{dataset.created_ms:x}-{dataset.revision:x}"


def dataset_json(dataset: Dataset) -> dict[str, Any]:
    """As datasets.get shows it."""
    return {
        "kind": "bigquery#dataset",
        "etag": dataset_etag(dataset),
        "id": str(dataset.ref),
        "datasetReference": {"projectId": dataset.ref.project, "datasetId": dataset.ref.dataset},
        "location": dataset.location,
        "creationTime": str(dataset.created_ms),
        "lastModifiedTime": str(dataset.modified_ms),
        **dataset.properties,
    }


def dataset_item(dataset: Dataset) -> dict[str, Any]:
    """As datasets.list shows it."""
    told = dataset_json(dataset)
    return {
        key: told[key]
        for key in ("kind", "id", "datasetReference", "location", "labels", "friendlyName")
        if key in told
    }


def table_json(table: Table) -> dict[str, Any]:
    """As tables.get shows it."""
    told: dict[str, Any] = {
        "kind": "bigquery#table",
        "etag": table.etag,
        "schema": schema_to_json(table.schema),
        "lastModifiedTime": str(table.modified_ms),
        "location": table.location,
        **_both(table),
        **table.properties,
    }
    if told["type"] == "TABLE":
        told |= {"numRows": str(table.now.rows), "numBytes": str(table.now.bytes), "numLongTermBytes": "0"}
    if table.streamed_ms is not None:
        told["streamingBuffer"] = {"estimatedRows": "1", "oldestEntryTime": str(table.streamed_ms)}
    return told


def table_item(table: Table) -> dict[str, Any]:
    """As tables.list shows it: no numRows, etag or lastModifiedTime."""
    kept = {
        key: value for key, value in table.properties.items() if key in ("labels", "friendlyName", "expirationTime")
    }
    return {"kind": "bigquery#table", **_both(table), **kept}


def _both(table: Table) -> dict[str, Any]:
    ref = table.ref
    told: dict[str, Any] = {
        "id": str(ref),
        "tableReference": {"projectId": ref.project, "datasetId": ref.dataset, "tableId": ref.table},
        "type": _type(table),
        "creationTime": str(table.created_ms),
    }
    if table.partitioning is not None:
        told |= table.partitioning.to_json()
    if table.clustering:
        told["clustering"] = {"fields": list(table.clustering)}
    if table.view is not None:
        told["view"] = {"query": table.view, "useLegacySql": False}
    return told


def _type(table: Table) -> str:
    if table.view is not None:
        return "VIEW"
    return "EXTERNAL" if "externalDataConfiguration" in table.properties else "TABLE"


def said_of(body: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The properties of a request that are kept as they are; null means: none."""
    check_labels(body.get("labels") or {})
    if len(body.get("description") or "") > MAX_DESCRIPTION_CHARS:
        raise invalid(f"The description is longer than {MAX_DESCRIPTION_CHARS} characters.", "description")
    return {key: body[key] for key in known if body.get(key) is not None}
