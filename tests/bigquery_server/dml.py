"""INSERT, UPDATE, DELETE, MERGE, TRUNCATE: changing a table's rows, all or nothing.

Belongs here: what DML refuses, how many rows it changed. Not here: reading statements (statements.py).
Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax (read 2026-11-28).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from tests.bigquery_server.billing import bill
from tests.bigquery_server.catalog import Table
from tests.bigquery_server.dml_checks import check_insert, check_merge, check_update, columns_named
from tests.bigquery_server.errors import invalid_query
from tests.bigquery_server.jobs import Job, Result
from tests.bigquery_server.permissions import need_table
from tests.bigquery_server.schema import quoted
from tests.bigquery_server.statements import Read, Reading, duckdb_errors, table_ref
from tests.bigquery_server.storage import PARTITION, Part, Segment, parts_only, parts_without, select_of, whole
from tests.bigquery_server.writing import check_partitions

__all__ = ["run"]

STREAMING_MS = 30 * 60 * 1000
KINDS = {exp.Insert: "INSERT", exp.Update: "UPDATE", exp.Delete: "DELETE", exp.Merge: "MERGE"}


@dataclass(frozen=True)
class Change:
    """What a statement does to a table."""

    parts: tuple[Part, ...]
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    changed: frozenset[str] = frozenset()  # partitions

    @property
    def rows(self) -> int:
        """All of them."""
        return self.inserted + self.updated + self.deleted


def run(reading: Reading, job: Job, statement: exp.Expression, *, dry: bool) -> None:
    """Do a DML statement, or only find out whether it can be done."""
    if isinstance(statement, exp.TruncateTable):
        table = _target(reading, statement.expressions[0])
        kind, change = "TRUNCATE_TABLE", Change((), deleted=table.now.rows, changed=frozenset(table.now.partitions()))
        bill(reading, job, statement, kind)
    else:
        node = _target_node(statement)
        table, kind = _target(reading, node), KINDS[type(statement)]
        _refuse(reading, statement, table, node)
        change = _changed(reading, job, statement, table, dry=dry)
    if dry:
        return
    job.statistics["numDmlAffectedRows"] = str(change.rows)
    job.statistics["dmlStats"] = {
        "insertedRowCount": str(change.inserted),
        "updatedRowCount": str(change.updated),
        "deletedRowCount": str(change.deleted),
    }
    if change.rows:
        check_partitions(reading.state, table, change.parts, change.changed)
        reading.state.catalog.commit(table, change.parts, table.schema, change.changed)
    job.result = Result((), None)


def _target_node(statement: Any) -> exp.Table:
    node = statement.this
    return node.this if isinstance(node, exp.Schema) else node


def _target(reading: Reading, node: exp.Table) -> Table:
    table = reading.find(table_ref(node, reading))
    if table.view is not None:
        raise invalid_query(f"DML over a view is not allowed: {table.ref}")
    need_table(reading.state, "bigquery.tables.updateData", str(table.ref))
    return table


def _refuse(reading: Reading, statement: exp.Expression, table: Table, node: exp.Table) -> None:
    if isinstance(statement, exp.Update | exp.Delete) and statement.args.get("where") is None:
        raise invalid_query(f"{KINDS[type(statement)]} must have a WHERE clause")
    streamed_ms = table.streamed_ms
    if (
        not isinstance(statement, exp.Insert)
        and streamed_ms is not None
        and reading.state.clock.now_ms() < streamed_ms + STREAMING_MS
    ):
        raise invalid_query(
            f"UPDATE or DELETE statement over table {table.ref} would affect rows in the streaming buffer, "
            "which is not supported"
        )
    if not isinstance(statement, exp.Insert):
        reading.reads.append(Read(table, table.now, node, None))
        if _rewrites(statement):
            reading.reads.append(Read(table, table.now, node, None, rewritten=True))


def _rewrites(statement: Any) -> bool:
    """Whether rows may be updated or deleted: the whole table is billed then, besides what is read."""
    if not isinstance(statement, exp.Merge):
        return True
    return any(not isinstance(each.args["then"], exp.Insert) for each in statement.args["whens"].expressions)


def _changed(reading: Reading, job: Job, statement: exp.Expression, table: Table, *, dry: bool) -> Change:
    """Do it to a copy of the rows; what the copy then has is the table's next version."""
    if isinstance(statement, exp.Insert):
        return _inserted(reading, job, statement, table, dry=dry)
    made: Any = reading.prepared(statement, keep_target=True)
    name = made.this.alias_or_name
    bill(reading, job, statement, KINDS[type(statement)])
    before = select_of(table.now.parts, table.schema)
    with reading.state.storage.scratch(before) as scratch, duckdb_errors():
        made.this.replace(exp.to_table(scratch, alias=exp.to_identifier(name, quoted=True)))
        counts = DONE[type(statement)](reading, made, table)
        if dry or not sum(counts.values()):
            return Change(table.now.parts)
        segment = _written(reading, table, f"SELECT * FROM {scratch}")
    changed = _partitions_that_differ(reading, table, segment)
    parts = (*parts_without(table.now.parts, changed), *parts_only(whole(segment), changed))
    return Change(parts, counts.get("INSERT", 0), counts.get("UPDATE", 0), counts.get("DELETE", 0), changed)


def _partitions_that_differ(reading: Reading, table: Table, after: Segment) -> frozenset[str]:
    if table.partitioning is None:
        return frozenset({""})
    old = select_of(table.now.parts, table.schema, partition=True)
    new = select_of(whole(after), table.schema, partition=True)
    differ = f"(({old}) EXCEPT ALL ({new})) UNION ALL (({new}) EXCEPT ALL ({old}))"
    rows = reading.state.storage.run(f"SELECT DISTINCT {quoted(PARTITION)} FROM ({differ})")
    return frozenset(row[0] for row in rows)


def _written(reading: Reading, table: Table, select: str) -> Segment:
    state = reading.state
    partition = table.partitioning.expression(state.clock.now()) if table.partitioning else "''"
    segment = state.storage.write(select, table.schema, partition)
    empty = state.storage.missing(segment, table.schema)
    if empty is not None:
        raise invalid_query(f"Required field {empty.name} cannot be null")
    return segment


# ---- each statement


def _inserted(reading: Reading, job: Job, statement: Any, table: Table, *, dry: bool) -> Change:
    named = isinstance(statement.this, exp.Schema)
    columns = columns_named(statement.this.expressions, table) if named else table.schema
    source = reading.prepared(statement.expression)
    check_insert(reading, source, columns)
    bill(reading, job, statement, "INSERT")
    if dry:
        return Change(table.now.parts)
    known = {each.name: quoted(f"c{place}") for place, each in enumerate(columns)}
    values = ", ".join(
        f"{known.get(each.name, f'CAST(NULL AS {each.duckdb})')} AS {quoted(each.name)}" for each in table.schema
    )
    with duckdb_errors():
        rows = f"({source.sql('duckdb')}) AS source({', '.join(known.values())})"
        segment = _written(reading, table, f"SELECT {values} FROM {rows}")
    parts = (*table.now.parts, *whole(segment))
    return Change(parts, inserted=sum(segment.rows.values()), changed=frozenset(segment.rows))


def _merged(reading: Reading, made: Any, table: Table) -> dict[str, int]:
    check_merge(reading, made, table)
    rows = reading.state.storage.run(f"{made.sql('duckdb')} RETURNING merge_action")
    return {action: sum(1 for (each,) in rows if each == action) for action in ("INSERT", "UPDATE", "DELETE")}


def _updated(reading: Reading, made: Any, table: Table) -> dict[str, int]:
    check_update(reading, made, table)
    return {"UPDATE": int(reading.state.storage.run(made.sql("duckdb"))[0][0])}


def _deleted(reading: Reading, made: Any, table: Table) -> dict[str, int]:
    return {"DELETE": int(reading.state.storage.run(made.sql("duckdb"))[0][0])}


DONE = {exp.Delete: _deleted, exp.Merge: _merged, exp.Update: _updated}
