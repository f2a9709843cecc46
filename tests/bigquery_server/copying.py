"""Copy jobs: tables or partitions into a table or partition, without a query.

Belongs here: what may be copied where. Not here: dispositions (writing.py).
Source: https://cloud.google.com/bigquery/docs/managing-tables#copy-table (read 2026-11-28).
"""

from __future__ import annotations

from tests.bigquery_server.catalog import Table, TableRef
from tests.bigquery_server.errors import ApiError, invalid
from tests.bigquery_server.jobs import Job
from tests.bigquery_server.permissions import need_table
from tests.bigquery_server.state import State
from tests.bigquery_server.storage import Part, select_of, whole
from tests.bigquery_server.writing import Target, commit_parts, open_target

__all__ = ["run_copy"]


def run_copy(state: State, job: Job) -> None:
    """Do the work of a copy job."""
    said = job.configuration["copy"]
    if said.get("operationType", "COPY") not in ("COPY", "OPERATION_TYPE_UNSPECIFIED"):
        raise ApiError("notImplemented", f"This fake of BigQuery copies; it has no {said['operationType']}")
    refs = [TableRef.of(each) for each in said.get("sourceTables") or [said.get("sourceTable")]]
    target = open_target(state, TableRef.of(said.get("destinationTable")), said, default="WRITE_EMPTY")
    sources = [(state.catalog.table(ref), ref) for ref in refs]
    for table, _ in sources:
        need_table(state, "bigquery.tables.getData", str(table.ref))
        if table.view is not None:
            raise invalid(f"Cannot copy a view: {table.ref}")
        if table.location.lower() != target.location.lower():
            raise invalid(f"Cannot copy {table.ref} ({table.location}) to another location ({target.location})")
    first = sources[0][0]
    if any(table.schema != first.schema for table, _ in sources):
        raise invalid("Cannot copy tables with different schemas into one table")
    partitioning = first.partitioning if target.table is None else None
    target = target.with_schema(first.schema, partitioning, {"clustering": {"fields": list(first.clustering)}})
    parts = tuple(part for table, ref in sources for part in _parts(state, table, ref, target))
    commit_parts(state, target, parts, frozenset(each for part in parts for each in part.partitions))
    job.statistics = {
        "copiedRows": str(sum(part.rows for part in parts)),
        "copiedLogicalBytes": str(sum(part.bytes for part in parts)),
    }


def _parts(state: State, table: Table, ref: TableRef, target: Target) -> tuple[Part, ...]:
    """The source's rows, cut as the target is cut."""
    parts = table.now.parts if ref.partition is None else table.now.only(ref.partition)
    if table.partitioning == target.partitioning and ref.partition == target.ref.partition:
        return parts
    wanted = target.partitioning
    expression = wanted.expression(state.clock.now()) if wanted is not None else "''"
    if target.ref.partition is not None and wanted is not None and wanted.column is None:
        expression = f"'{target.ref.partition}'"
    copied = state.storage.write(select_of(parts, table.schema), table.schema, expression)
    if target.ref.partition is not None and set(copied.rows) - {target.ref.partition}:
        raise invalid(f"Some rows belong to different partitions rather than destination partition {target.ref}")
    return whole(copied)
