"""INSERT, UPDATE, DELETE, MERGE, TRUNCATE: changing a table's rows, all or nothing.

Belongs here: what DML refuses, how many rows it changed. Not here: reading statements (statements.py).
Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax (read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from tests.bigquery_server.billing import bill
from tests.bigquery_server.catalog import Table
from tests.bigquery_server.errors import ApiError, invalid_query
from tests.bigquery_server.jobs import Job, Result
from tests.bigquery_server.permissions import need_table
from tests.bigquery_server.schema import Field, Schema, quoted
from tests.bigquery_server.statements import Read, Reading, duckdb_errors, table_ref
from tests.bigquery_server.storage import Part, select_of, whole

__all__ = ["run"]

STREAMING_MS = 30 * 60 * 1000
# what one type's values may be written into without a CAST
# Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules#coercion (read 2026-11-28)
COERCED = {
    "INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"},
    "NUMERIC": {"BIGNUMERIC", "FLOAT"},
    "BIGNUMERIC": {"FLOAT"},
    "DATE": {"DATETIME"},
}
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


def _changed(reading: Reading, job: Job, statement: exp.Expression, table: Table, *, dry: bool) -> Change:
    if isinstance(statement, exp.Insert):
        return _inserted(reading, job, statement, table, dry=dry)
    made: Any = reading.prepared(statement, keep_target=True)
    name = made.this.alias_or_name
    bill(reading, job, statement, KINDS[type(statement)])
    storage = reading.state.storage
    with storage.scratch(select_of(table.now.parts, table.schema)) as scratch, duckdb_errors():
        made.this.replace(exp.to_table(scratch, alias=exp.to_identifier(name, quoted=True)))
        if isinstance(made, exp.Merge):
            counts = _merge(reading, made, table)
        elif isinstance(made, exp.Update):
            _refuse_doubles(reading, made, made.args.get("from_") or made.args.get("from"))
            _check_sets(reading, made, table, made.expressions)
            counts = {"UPDATE": int(storage.run(made.sql("duckdb"))[0][0])}
        else:
            counts = {"DELETE": int(storage.run(made.sql("duckdb"))[0][0])}
        if dry or not sum(counts.values()):
            return Change(table.now.parts)
        parts = _written(reading, table, f"SELECT * FROM {scratch}")
    touched = frozenset(each for part in (*parts, *table.now.parts) for each in part.partitions)
    return Change(parts, counts.get("INSERT", 0), counts.get("UPDATE", 0), counts.get("DELETE", 0), touched)


def _written(reading: Reading, table: Table, select: str) -> tuple[Part, ...]:
    state = reading.state
    partition = table.partitioning.expression(state.clock.now()) if table.partitioning else "''"
    segment = state.storage.write(select, table.schema, partition)
    empty = state.storage.missing(segment, table.schema)
    if empty is not None:
        raise invalid_query(f"Required field {empty.name} cannot be null")
    if table.partitioning and len(segment.rows) > state.limits.partitions_per_table:
        raise ApiError("quotaExceeded", f"Too many partitions in table {table.ref}")
    return whole(segment)


# ---- INSERT


def _inserted(reading: Reading, job: Job, statement: Any, table: Table, *, dry: bool) -> Change:
    columns = _insert_columns(statement, table)
    made: Any = reading.prepared(statement, keep_target=not isinstance(statement.this, exp.Schema))
    source = made.expression
    names = ", ".join(quoted(f"c{place}") for place, _ in enumerate(columns))
    select = f"SELECT * FROM ({source.sql('duckdb')}) AS source({names})"
    given = reading.describe(f"SELECT * FROM ({source.sql('duckdb')})" if _plain(source) else select)
    if len(given) != len(columns):
        raise invalid_query(f"Inserted row has wrong column count; Has {len(given)}, expected {len(columns)}")
    literal = _literal_places(source)
    for place, (has, wanted) in enumerate(zip(given, columns, strict=True)):
        if place not in literal:
            _check_type(has, wanted, f"Query column {place + 1}")
    bill(reading, job, statement, "INSERT")
    if dry:
        return Change(table.now.parts)
    known = {each.name: quoted(f"c{place}") for place, each in enumerate(columns)}
    values = ", ".join(
        f"{known.get(each.name, f'CAST(NULL AS {each.duckdb})')} AS {quoted(each.name)}" for each in table.schema
    )
    with duckdb_errors():
        parts = _written(reading, table, f"SELECT {values} FROM ({select})")
    rows = sum(part.rows for part in parts)
    return Change(
        (*table.now.parts, *parts), inserted=rows, changed=frozenset(p for part in parts for p in part.partitions)
    )


def _plain(source: Any) -> bool:
    return not isinstance(source, exp.Values)


def _insert_columns(statement: Any, table: Table) -> Schema:
    if not isinstance(statement.this, exp.Schema):
        return table.schema
    known = {each.name.lower(): each for each in table.schema}
    return tuple(_known_column(known, each.name, table) for each in statement.this.expressions)


def _known_column(known: Mapping[str, Field], name: str, table: Table) -> Field:
    if name.lower() not in known:
        raise invalid_query(f"Column {name} is not present in table {table.ref}")
    return known[name.lower()]


def _literal_places(source: Any) -> set[int]:
    """Where a literal (or NULL) stands in every row: a literal becomes what the column is, if it can."""
    if isinstance(source, exp.Values):
        rows = [each.expressions for each in source.expressions]
    else:
        rows = [[each.unalias() for each in source.expressions]] if isinstance(source, exp.Select) else []
    places = [{place for place, each in enumerate(row) if isinstance(each, exp.Literal | exp.Null)} for row in rows]
    return set.intersection(*places) if places else set()


def _check_type(has: Field, wanted: Field, what: str) -> None:
    same = has.type == wanted.type and (has.mode == "REPEATED") == (wanted.mode == "REPEATED")
    coerced = has.mode != "REPEATED" and wanted.mode != "REPEATED" and wanted.type in COERCED.get(has.type, ())
    if not same and not coerced:
        raise invalid_query(
            f"{what} has type {has.type} which cannot be inserted into column {wanted.name}, "
            f"which has type {wanted.type}"
        )


# ---- UPDATE and MERGE


def _check_sets(reading: Reading, made: Any, table: Table, sets: Sequence[exp.Expression]) -> None:
    """Refuse a column that is not there, or set twice."""
    known = {each.name.lower() for each in table.schema}
    names = [each.this.name.lower() for each in sets]
    for name in names:
        if name not in known:
            raise invalid_query(f"Unrecognized name: {name}")
        if names.count(name) > 1:
            raise invalid_query(f"Update item {name} assigned more than once")


def _refuse_doubles(reading: Reading, made: Any, source: Any) -> None:
    if source is None:
        return
    target = made.this.sql("duckdb")
    where = made.args["where"].this.sql("duckdb")
    _refuse_pairs(reading, f"{target}, {source.this.sql('duckdb')}", made.this.alias_or_name, where)


def _refuse_pairs(reading: Reading, joined: str, target: str, condition: str) -> None:
    found = reading.state.storage.run(
        f"SELECT 1 FROM {joined} WHERE {condition} GROUP BY {quoted(target)}.rowid HAVING count(*) > 1 LIMIT 1"
    )
    if found:
        raise invalid_query("UPDATE/MERGE must match at most one source row for each target row")


def _merge(reading: Reading, made: Any, table: Table) -> dict[str, int]:
    source = made.args["using"]
    whens = made.args["whens"].expressions
    _merge_doubles(reading, made, whens)
    columns = reading.describe(f"SELECT * FROM {source.sql('duckdb')}")
    for when in whens:
        then = when.args.get("then")
        if isinstance(then, exp.Update):
            _check_sets(reading, made, table, then.expressions)
        elif isinstance(then, exp.Insert):
            _spell_out(then, table, source.alias_or_name, columns)
    storage = reading.state.storage
    rows = storage.run(f"{made.sql('duckdb')} RETURNING merge_action")
    return {action: sum(1 for (each,) in rows if each == action) for action in ("INSERT", "UPDATE", "DELETE")}


def _merge_doubles(reading: Reading, made: Any, whens: Sequence[Any]) -> None:
    """Only rows that a WHEN MATCHED would change count."""
    matched = [each for each in whens if each.args.get("matched") and not each.args.get("source")]
    if not matched:
        return
    conditions = [each.args["condition"].sql("duckdb") if each.args.get("condition") else "TRUE" for each in matched]
    condition = f"({made.args['on'].sql('duckdb')}) AND ({' OR '.join(f'({each})' for each in conditions)})"
    joined = f"{made.this.sql('duckdb')}, {made.args['using'].sql('duckdb')}"
    _refuse_pairs(reading, joined, made.this.alias_or_name, condition)


def _spell_out(then: Any, table: Table, source: str, columns: Schema) -> None:
    """INSERT ROW as the columns and values it stands for; an unknown column is an error."""
    known = {each.name.lower(): each for each in table.schema}
    named = then.this.expressions if isinstance(then.this, exp.Tuple) else None
    is_row = isinstance(then.this, exp.Var) or (then.this is None and then.expression is None)
    if is_row or (named is None and then.expression is None):
        if len(columns) != len(table.schema):
            raise invalid_query(
                f"Inserted row has wrong column count; Has {len(columns)}, expected {len(table.schema)}"
            )
        then.set("this", exp.Tuple(expressions=[exp.column(each.name, quoted=True) for each in table.schema]))
        values = [exp.column(each.name, table=source, quoted=True) for each in columns]
        then.set("expression", exp.Tuple(expressions=values))
        return
    for each in named or ():
        _known_column(known, each.name, table)
