"""Query parameters: what a request says of them, as nodes of the statement.

Belongs here: names, types and values of parameters. Not here: the statement's other parts (translating.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/QueryParameter (read 2026-11-28).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlglot import exp

from tests.bigquery_server.errors import invalid_query
from tests.bigquery_server.schema import ALIASES, SCALARS, Field
from tests.bigquery_server.values import stored

__all__ = ["Parameters"]


class Parameters:
    """Of one query; named or in order, never both."""

    def __init__(self, said: Sequence[Mapping[str, Any]]) -> None:
        self._named = {str(each["name"]).lower(): _node(each) for each in said if each.get("name")}
        self._in_order = [_node(each) for each in said if not each.get("name")]
        if self._named and self._in_order:
            raise invalid_query("Query parameters must be all named or all positional")

    def put_into(self, statement: exp.Expression) -> None:
        """Replace each `@name` and `?` by its value."""
        for node in list(statement.find_all(exp.Parameter)):
            name = node.name.lower()
            if name not in self._named:
                raise invalid_query(f"Query parameter '{name}' not found")
            node.replace(self._named[name].copy())
        marks = list(statement.find_all(exp.Placeholder, bfs=False))
        if len(marks) > len(self._in_order):
            raise invalid_query(f"Query parameter number {len(self._in_order) + 1} is not defined")
        for mark, value in zip(marks, self._in_order, strict=False):
            mark.replace(value.copy())


def _node(said: Mapping[str, Any]) -> exp.Expression:
    field = _field(str(said.get("name") or "parameter"), said.get("parameterType") or {})
    return _literal(field, said.get("parameterValue") or {})


def _field(name: str, type_: Mapping[str, Any]) -> Field:
    kind = ALIASES.get(str(type_.get("type")), str(type_.get("type")))
    if kind == "ARRAY":
        return replace(_field(name, type_["arrayType"]), mode="REPEATED")
    if kind == "RECORD":
        return Field(name, kind, fields=tuple(_field(each["name"], each["type"]) for each in type_["structTypes"]))
    if kind not in SCALARS:
        raise invalid_query(f"Invalid type of query parameter {name}: {kind}")
    return Field(name, kind)


def _literal(field: Field, value: Mapping[str, Any]) -> exp.Expression:
    if field.mode == "REPEATED":
        each = [_literal(field.element, one) for one in value.get("arrayValues") or ()]
        return _cast(exp.Array(expressions=each), field)
    if field.type == "RECORD":
        inside = value.get("structValues") or {}
        pairs = [
            exp.PropertyEQ(this=exp.to_identifier(each.name), expression=_literal(each, inside.get(each.name) or {}))
            for each in field.fields
        ]
        return _cast(exp.Struct(expressions=pairs), field)
    if value.get("value") is None:
        return _cast(exp.null(), field)
    return _cast(exp.Literal.string(_text(field, str(value["value"]))), field)


def _text(field: Field, value: str) -> str:
    """The text that DuckDB casts to the parameter's type; refuses one that is no such value."""
    if field.type == "BYTES":
        return "".join(f"\\x{each:02X}" for each in base64.b64decode(value))
    parsed = stored(field, value)
    if field.type == "GEOGRAPHY":
        return f"{{'$geography': '{value}'}}"
    return value if field.type in ("STRING", "JSON", "BIGNUMERIC") else str(parsed)


def _cast(node: exp.Expression, field: Field) -> exp.Expression:
    return exp.Cast(this=node, to=exp.DataType.build(field.duckdb, dialect="duckdb", udt=True), safe=False)
