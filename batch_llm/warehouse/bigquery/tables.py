"""The tables that match a pattern, and what each is.

Belongs here: listing what is there. Not here: looking into one (sources.py).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from google.cloud import bigquery

from batch_llm.errors import InputError
from batch_llm.warehouse.base import TableInfo
from batch_llm.warehouse.bigquery.answers import answer
from batch_llm.warehouse.bigquery.connection import ANSWER_S, Connection
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.names import TableName
from batch_llm.warehouse.bigquery.statements import statement
from batch_llm.warehouse.refs import LIVE_SUFFIX

__all__ = ["kind_of_table", "matching"]


def kind_of_table(table: bigquery.Table) -> str:
    """What it is, in words: table, view, materialized view, external .."""
    return str(table.table_type).lower().replace("_", " ")


def matching(jobs: Jobs, pattern: str) -> Iterator[TableInfo]:
    """See `Warehouse.tables`: one statement per dataset, no schema. A view's version is that of its own text."""
    connection = jobs.connection
    wanted = connection.dataset.matching(pattern, InputError)
    for dataset in _datasets(connection, wanted):
        source = TableName(wanted.project, dataset, "__TABLES__")
        found = answer(jobs, Query("tables", statement("tables", source=source.sql)))
        for row in found.to_pylist():
            name = TableName(wanted.project, dataset, row["table_id"])
            if name.is_internal or name.table.endswith(LIVE_SUFFIX):
                continue
            if fnmatch.fnmatchcase(name.table, wanted.table):
                yield _listed(connection, name, row)


def _datasets(connection: Connection, wanted: TableName) -> list[str]:
    if not set(wanted.dataset) & set("*?["):
        return [wanted.dataset] if connection.has_dataset(wanted) else []
    with connection.told(f"BigQuery datasets of {wanted.project}"):
        found = connection.client.list_datasets(wanted.project, retry=connection.retry, timeout=ANSWER_S)
        return sorted(each.dataset_id for each in found if fnmatch.fnmatchcase(each.dataset_id, wanted.dataset))


def _listed(connection: Connection, name: TableName, row: dict[str, Any]) -> TableInfo:
    changed_ms, is_table = int(row["last_modified_time"]), row["type"] == 1
    return TableInfo(
        ref=connection.dataset.ref(name),
        version=f"changed:{changed_ms}",
        rows=row["row_count"] if is_table else None,
        size_bytes=row["size_bytes"] if is_table else None,
        modified_at=datetime.fromtimestamp(changed_ms / 1000, UTC),
        schema=None,
    )
