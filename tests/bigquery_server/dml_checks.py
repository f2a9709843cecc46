"""What DML refuses before it changes anything: columns, numbers of columns, types, two source rows of one target row.

Belongs here: these refusals. Not here: changing rows (dml.py).
Sources (read 2026-11-28): https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax,
https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules#coercion
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlglot import exp

from tests.bigquery_server.catalog import Table
from tests.bigquery_server.errors import invalid_query
from tests.bigquery_server.schema import Field, Schema, fields_of_duckdb, quoted
from tests.bigquery_server.statements import Reading, duckdb_errors

__all__ = ["check_insert", "check_merge", "check_update", "columns_named"]

# what one type's values may be written into without a CAST
COERCED = {
    "INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"},
    "NUMERIC": {"BIGNUMERIC", "FLOAT"},
    "BIGNUMERIC": {"FLOAT"},
    "DATE": {"DATETIME"},
}


# ---- INSERT


def columns_named(expressions: Sequence[exp.Expression], table: Table) -> Schema:
    """The table's columns of these names, in this order."""
    known = {each.name.lower(): each for each in table.schema}
    missing = next((each.name for each in expressions if each.name.lower() not in known), None)
    if missing is not None:
        raise invalid_query(f"Column {missing} is not present in table {table.ref}")
    return tuple(known[each.name.lower()] for each in expressions)


def check_insert(reading: Reading, source: Any, columns: Schema) -> None:
    """Refuse another number of columns, and types that do not go into them."""
    with duckdb_errors():
        names, types = reading.state.storage.describe(f"SELECT * FROM ({source.sql('duckdb')})")
    if len(names) != len(columns):
        raise invalid_query(f"Inserted row has wrong column count; Has {len(names)}, expected {len(columns)}")
    literal = _literal_places(source)
    given = fields_of_duckdb([each.name for each in columns], types)
    for place, (has, wanted) in enumerate(zip(given, columns, strict=True)):
        if place not in literal and not _goes_into(has, wanted):
            raise invalid_query(
                f"Query column {place + 1} has type {has.sql} which cannot be inserted into column {wanted.name}, "
                f"which has type {wanted.sql}"
            )


def _literal_places(source: Any) -> set[int]:
    """Where a literal (or NULL) stands in every row: a literal becomes what the column is, if it can."""
    if isinstance(source, exp.Values):
        rows = [each.expressions for each in source.expressions]
    else:
        rows = [[each.unalias() for each in source.expressions]] if isinstance(source, exp.Select) else []
    places = [{place for place, each in enumerate(row) if _is_literal(each)} for row in rows]
    return set.intersection(*places) if places else set()


def _is_literal(node: exp.Expression) -> bool:
    return isinstance(node, exp.Literal | exp.Null)


def _goes_into(has: Field, wanted: Field) -> bool:
    if (has.mode == "REPEATED") != (wanted.mode == "REPEATED"):
        return False
    return has.type == wanted.type or (has.mode != "REPEATED" and wanted.type in COERCED.get(has.type, ()))


# ---- UPDATE


def check_update(reading: Reading, made: Any, table: Table) -> None:
    """Refuse columns, types and doubles of `UPDATE .. SET .. [FROM ..] WHERE ..`."""
    source = made.args.get("from_") or made.args.get("from")
    target = made.this.sql("duckdb")
    joined = target if source is None else f"{target}, {source.this.sql('duckdb')}"
    _check_sets(reading, made.expressions, table, joined)
    if source is not None:
        _refuse_doubles(reading, joined, made.this.alias_or_name, made.args["where"].this.sql("duckdb"))


def _check_sets(reading: Reading, sets: Sequence[exp.Expression], table: Table, joined: str) -> None:
    known = {each.name.lower(): each for each in table.schema}
    names = [each.this.name.lower() for each in sets]
    for name in names:
        if name not in known:
            raise invalid_query(f"Unrecognized name: {name}")
        if names.count(name) > 1:
            raise invalid_query(f"Update item {name} assigned more than once")
    _check_values(reading, [each.expression for each in sets], [known[name] for name in names], joined)


def _check_values(reading: Reading, values: Sequence[exp.Expression], columns: Sequence[Field], joined: str) -> None:
    """Refuse values that do not go into their columns; ``joined`` is what their names stand for."""
    pairs = [(value, wanted) for value, wanted in zip(values, columns, strict=True) if not _is_literal(value)]
    if not pairs:
        return
    select = ", ".join(f"{value.sql('duckdb')} AS c{place}" for place, (value, _) in enumerate(pairs))
    given = reading.describe(f"SELECT {select} FROM {joined}")
    for has, (_, wanted) in zip(given, pairs, strict=True):
        if not _goes_into(has, wanted):
            raise invalid_query(
                f"Value of type {has.sql} cannot be assigned to {wanted.name}, which has type {wanted.sql}"
            )


def _refuse_doubles(reading: Reading, joined: str, target: str, condition: str) -> None:
    with duckdb_errors():
        found = reading.state.storage.run(
            f"SELECT 1 FROM {joined} WHERE {condition} GROUP BY {quoted(target)}.rowid HAVING count(*) > 1 LIMIT 1"
        )
    if found:
        raise invalid_query("UPDATE/MERGE must match at most one source row for each target row")


# ---- MERGE


def check_merge(reading: Reading, made: Any, table: Table) -> None:
    """Refuse columns, types and doubles of a MERGE; spells out its INSERT ROW."""
    source, target = made.args["using"].sql("duckdb"), made.this.sql("duckdb")
    columns = reading.describe(f"SELECT * FROM {source}")
    whens = made.args["whens"].expressions
    for when in whens:
        then = when.args["then"]
        if isinstance(then, exp.Update):
            by_source = when.args.get("source")
            _check_sets(reading, then.expressions, table, target if by_source else f"{target}, {source}")
        elif isinstance(then, exp.Insert):
            _check_merge_insert(reading, then, table, made.args["using"], columns)
    # only rows that a WHEN MATCHED would change may not be matched twice
    matched = [each for each in whens if each.args.get("matched") and not each.args.get("source")]
    if matched:
        each = [when.args["condition"].sql("duckdb") if when.args.get("condition") else "TRUE" for when in matched]
        condition = f"({made.args['on'].sql('duckdb')}) AND (({') OR ('.join(each)}))"
        _refuse_doubles(reading, f"{target}, {source}", made.this.alias_or_name, condition)


def _check_merge_insert(reading: Reading, then: Any, table: Table, source: Any, columns: Schema) -> None:
    named = then.this if isinstance(then.this, exp.Tuple) else None
    if not then.expression:  # INSERT ROW: all columns of the source, in the order of the table's
        then.set("this", exp.Tuple(expressions=[exp.column(each.name, quoted=True) for each in table.schema]))
        values = [exp.column(each.name, table=source.alias_or_name, quoted=True) for each in columns]
        then.set("expression", exp.Tuple(expressions=values))
        wanted = table.schema
    else:
        wanted = columns_named(named.expressions, table) if named is not None else table.schema
    values = then.expression.expressions
    if len(values) != len(wanted):
        raise invalid_query(f"Inserted row has wrong column count; Has {len(values)}, expected {len(wanted)}")
    _check_values(reading, values, wanted, source.sql("duckdb"))
