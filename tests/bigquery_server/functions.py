"""What sqlglot does not translate as BigQuery means it: functions, types, literals, the time.

Belongs here: rewriting single nodes. Not here: tables and parameters (statements.py, parameters.py).
Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/functions-all (read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from tests.bigquery_server.clock import Clock
from tests.bigquery_server.schema import BIGNUMERIC, GEOGRAPHY

__all__ = ["rewritten", "types_rewritten"]

DOUBLE = exp.DataType.build("DOUBLE", dialect="duckdb")
NUMERIC = exp.DataType.build("DECIMAL(38,9)", dialect="duckdb")
BIGNUMERIC_TYPE = exp.DataType.build(BIGNUMERIC, dialect="duckdb")
TYPES_OF_BIGNUMERIC = (exp.DataType.Type.BIGDECIMAL,)


def rewritten(statement: exp.Expression, clock: Clock) -> exp.Expression:
    """The statement with every node that needs it replaced, the innermost first."""
    now = clock.now()
    moments = {
        exp.CurrentTimestamp: f"TIMESTAMPTZ '{now.isoformat(sep=' ')}'",
        exp.CurrentDatetime: f"TIMESTAMP '{now.replace(tzinfo=None).isoformat(sep=' ')}'",
        exp.CurrentDate: f"DATE '{now.date().isoformat()}'",
    }

    def change(node: exp.Expression) -> exp.Expression:
        if type(node) in moments:
            return exp.maybe_parse(moments[type(node)], dialect="duckdb")
        changed = REWRITES.get(type(node))
        return changed(node) if changed is not None else node

    for node in reversed(list(statement.walk(bfs=False))):
        new = change(node)
        if new is not node:
            if node is statement:
                return new
            node.replace(new)
    return statement


def types_rewritten(type_: exp.Expression) -> exp.Expression:
    """A type of a column definition."""
    for node in reversed(list(type_.find_all(exp.DataType, bfs=False))):
        new = _type(node)
        if new is not node:
            if node is type_:
                return new
            node.replace(new)
    return type_


def _literal(node: Any) -> exp.Expression:
    """1.5 is a FLOAT64 in GoogleSQL, a DECIMAL in DuckDB."""
    if node.is_string or not any(each in node.this.lower() for each in ".e"):
        return node
    return exp.Cast(this=node.copy(), to=DOUBLE.copy(), safe=False)


def _call(name: str, *values: exp.Expression) -> exp.Expression:
    """A function of DuckDB's, or one that storage.py gave it."""
    return exp.Anonymous(this=name, expressions=list(values))


def _fingerprint(node: Any) -> exp.Expression:
    return _call("googlesql_fingerprint", node.expressions[0].copy())


def _cast(node: Any) -> exp.Expression:
    """A cast to STRING says some things otherwise; BIGNUMERIC is a type of this server's own."""
    if node.args["to"].this == exp.DataType.Type.TEXT and not node.args["to"].expressions:
        return _call("googlesql_text", node.this.copy())
    if node.args["to"] == BIGNUMERIC_TYPE:  # types are rewritten before the casts around them
        text = _call("bignumeric_text", exp.Cast(this=node.this.copy(), to=exp.DataType.build("TEXT"), safe=False))
        return _unless_null(node.this, _record("$bignumeric", text))
    return node


def _type(node: Any) -> exp.Expression:
    if node.this == exp.DataType.Type.DECIMAL and not node.expressions:
        return NUMERIC.copy()
    if node.this in TYPES_OF_BIGNUMERIC:
        return BIGNUMERIC_TYPE.copy()
    if node.this == exp.DataType.Type.GEOGRAPHY:
        return exp.DataType.build(GEOGRAPHY, dialect="duckdb")
    return node


def _division(node: Any) -> exp.Expression:
    """DIV(a + b, c) and MOD(a + b, c) become operators: what stands around them must stay together."""
    made = node.copy()
    for key in ("this", "expression"):
        if isinstance(made.args[key], exp.Binary):
            made.set(key, exp.Paren(this=made.args[key].copy()))
    return made if isinstance(node.parent, exp.Paren) else exp.Paren(this=made)


def _anonymous(node: Any) -> exp.Expression:
    """GEOGRAPHY comes from its text and goes back to it; what it says is not looked at."""
    name = str(node.this).upper()
    if name == "ST_GEOGFROMTEXT":
        value = node.expressions[0]
        made = _record("$geography", _call("googlesql_text", value.copy()))
        return _unless_null(value, made)
    return _call("googlesql_text", node.expressions[0].copy()) if name == "ST_ASTEXT" else node


def _record(name: str, value: exp.Expression) -> exp.Expression:
    pair = exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=value)
    return exp.Struct(expressions=[pair])


def _unless_null(value: exp.Expression, made: exp.Expression) -> exp.Expression:
    absent = exp.Is(this=value.copy(), expression=exp.Null())
    return exp.Case(ifs=[exp.If(this=absent, true=exp.Null())], default=made)


def _bytes(node: Any) -> exp.Expression:
    text = "".join(f"\\x{each:02X}" for each in str(node.this).encode("latin-1", "replace"))
    return exp.Cast(this=exp.Literal.string(text), to=exp.DataType.build("BLOB", dialect="duckdb"), safe=False)


REWRITES: dict[type, Callable[[Any], exp.Expression]] = {
    exp.Anonymous: _anonymous,
    exp.ByteString: _bytes,
    exp.Cast: _cast,
    exp.DataType: _type,
    exp.IntDiv: _division,
    exp.Mod: _division,
    exp.FarmFingerprint: _fingerprint,
    exp.Literal: _literal,
    exp.TryCast: _cast,
}
