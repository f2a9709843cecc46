"""What a statement reads and costs: bytes processed and billed, maximumBytesBilled.

Belongs here: which columns and partitions are read, the sums. Not here: running statements.
DML that updates or deletes is billed for what it reads and, again, for all columns of the target. A column is read when
its name stands anywhere in the statement (or a `*` does); a partition is left out when a condition on the partitioning
column alone, in the WHERE or ON beside the table or beside a view over it, holds for none of its rows. (A view is taken
for one that hands the column on as it is.)
Sources (read 2026-11-28): https://cloud.google.com/bigquery/pricing#on_demand_pricing,
https://cloud.google.com/bigquery/docs/querying-partitioned-tables,
https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#on-demand-query-size-calculation
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from tests.bigquery_server.errors import ApiError, invalid_query
from tests.bigquery_server.functions import rewritten
from tests.bigquery_server.jobs import Job
from tests.bigquery_server.schema import Schema, quoted
from tests.bigquery_server.statements import Read, Reading, duckdb_errors
from tests.bigquery_server.storage import PARTITION, Part, bytes_of_row, parts_only, select_of

__all__ = ["bill"]

MIN_BILLED_BYTES = 10 * 1024 * 1024  # of each table
ROUNDED_TO_BYTES = 1024 * 1024
MAX_REFERENCED = 50  # tables that a job lists
# Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobStatistics2 (read 2026-11-29)


def bill(reading: Reading, job: Job, statement: exp.Expression, kind: str) -> None:
    """Write down what the statement reads and costs; refuse one above maximumBytesBilled."""
    processed = sum(_bytes(reading, each, statement) for each in reading.reads)
    billed = 0
    if processed:
        least = max(processed, MIN_BILLED_BYTES * len({each.table.ref for each in reading.reads}))
        billed = -(-least // ROUNDED_TO_BYTES) * ROUNDED_TO_BYTES
    most = job.configuration["query"].get("maximumBytesBilled")
    if most is not None and billed > int(most):
        raise ApiError(
            "bytesBilledLimitExceeded", f"Query exceeded limit for bytes billed: {most}. {billed} or higher required."
        )
    refs = sorted({each.table.ref for each in reading.reads})[:MAX_REFERENCED]
    slot_ms = str(1 + processed // 1_000_000)
    job.statistics |= {
        "statementType": kind,
        "totalBytesProcessed": str(processed),
        "totalBytesBilled": str(billed),
        "totalSlotMs": slot_ms,
        "billingTier": 1,
        "cacheHit": False,
        "referencedTables": [
            {"projectId": each.project, "datasetId": each.dataset, "tableId": each.table} for each in refs
        ],
    }
    job.totals |= {"totalBytesProcessed": str(processed), "totalSlotMs": slot_ms}


def _bytes(reading: Reading, read: Read, statement: exp.Expression) -> int:
    predicate = _partition_predicate(read, reading)
    if predicate is None and read.table.properties.get("requirePartitionFilter") and read.table.partitioning:
        raise invalid_query(
            f"Cannot query over table '{read.table.ref}' without a filter over column(s) "
            f"'{read.table.partitioning.column}' that can be used for partition elimination"
        )
    parts = read.version.parts if predicate is None else _pruned(reading, read, predicate)
    schema = _columns_read(read, statement)
    if len(schema) == len(read.version.schema):
        return sum(part.bytes for part in parts)
    if not schema or not parts:
        return 0
    found = reading.state.storage.run(
        f"SELECT coalesce(sum({bytes_of_row(schema)}), 0)::BIGINT FROM ({select_of(parts, schema)})"
    )
    return int(found[0][0])


def _columns_read(read: Read, statement: exp.Expression) -> Schema:
    if read.rewritten:
        return read.version.schema
    for each in (statement, read.view):
        stars = each.find_all(exp.Star) if each is not None else ()
        if any(not isinstance(star.parent, exp.Count) for star in stars):
            return read.version.schema
    named = {
        part.name.lower()
        for each in (statement, read.view)
        if each is not None
        for column in each.find_all(exp.Column)
        for part in column.parts
    }
    return tuple(each for each in read.version.schema if each.name.lower() in named)


def _partition_predicate(read: Read, reading: Reading) -> str | None:
    """The conditions beside the table that speak of its partitioning column alone, as SQL."""
    cut = read.table.partitioning
    if cut is None or cut.column is None:
        return None
    found = []
    nodes = (read.node, *read.through)
    names = {"", *(node.alias_or_name for node in nodes)}
    for condition in (each for node in nodes for each in _conditions(node)):
        columns = list(condition.find_all(exp.Column))
        own = all(each.name.lower() == (cut.column or "").lower() and each.table in names for each in columns)
        if columns and own and condition.find(exp.Query) is None:
            plain = condition.copy()
            for each in plain.find_all(exp.Column):
                each.set("table", None)
            reading.parameters.put_into(plain)
            found.append(f"({rewritten(plain, reading.state.clock).sql('duckdb')})")
    return " AND ".join(found) or None


def _conditions(node: exp.Expression) -> Iterator[exp.Expression]:
    beside = node.find_ancestor(exp.Select, exp.Merge, exp.Update, exp.Delete)
    if beside is None:
        return
    where = beside.args.get("where")
    for each in (where.this if where is not None else None, beside.args.get("on")):
        if each is not None:
            yield from _joined_by_and(each)


def _joined_by_and(condition: exp.Expression) -> Iterator[exp.Expression]:
    """The conditions that all have to hold; brackets around some of them change nothing."""
    bare = condition.unnest()
    if not isinstance(bare, exp.And):
        yield bare
        return
    yield from _joined_by_and(bare.left)
    yield from _joined_by_and(bare.right)


def _pruned(reading: Reading, read: Read, predicate: str) -> tuple[Part, ...]:
    column = tuple(each for each in read.version.schema if each.name.lower() == read.table.partitioning.column.lower())
    source = select_of(read.version.parts, column, partition=True)
    with duckdb_errors():
        rows = reading.state.storage.run(f"SELECT DISTINCT {quoted(PARTITION)} FROM ({source}) WHERE {predicate}")
    kept = frozenset(row[0] for row in rows)
    return parts_only(read.version.parts, kept)
