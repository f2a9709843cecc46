"""Columns of BigQuery: their types and modes, in REST's JSON and in DuckDB.

Belongs here: names of types in the three worlds, what a schema may say, how one schema follows from another.
Not here: values (values.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema (read 2026-11-28).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from duckdb.sqltypes import DuckDBPyType

from tests.bigquery_server.errors import invalid

__all__ = [
    "BIGNUMERIC",
    "GEOGRAPHY",
    "SCALARS",
    "Field",
    "Schema",
    "fields_of_duckdb",
    "quoted",
    "schema_from_json",
    "schema_to_json",
    "type_of_duckdb",
]

# BigQuery has 76 digits there and DuckDB 38; and a type of its own must not come out of a query as STRING.
BIGNUMERIC = 'STRUCT("$bignumeric" VARCHAR)'
GEOGRAPHY = 'STRUCT("$geography" VARCHAR)'

SCALARS = {
    "BIGNUMERIC": BIGNUMERIC,
    "BOOLEAN": "BOOLEAN",
    "BYTES": "BLOB",
    "DATE": "DATE",
    "DATETIME": "TIMESTAMP",
    "FLOAT": "DOUBLE",
    "GEOGRAPHY": GEOGRAPHY,
    "INTEGER": "BIGINT",
    "JSON": "JSON",
    "NUMERIC": "DECIMAL(38,9)",
    "STRING": "VARCHAR",
    "TIME": "TIME",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
}
ALIASES = {
    "BIGDECIMAL": "BIGNUMERIC",
    "BOOL": "BOOLEAN",
    "DECIMAL": "NUMERIC",
    "FLOAT64": "FLOAT",
    "INT64": "INTEGER",
    "STRUCT": "RECORD",
}
SQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
MODES = ("NULLABLE", "REQUIRED", "REPEATED")
NAME = re.compile(r"[\w\-& %=+:'<>#|]{1,300}")
OF_DUCKDB = {
    "bigint": "INTEGER",
    "blob": "BYTES",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "decimal": "NUMERIC",
    "double": "FLOAT",
    "enum": "STRING",
    "float": "FLOAT",
    "hugeint": "INTEGER",
    "integer": "INTEGER",
    "null": "INTEGER",  # BigQuery's type of a NULL that says nothing
    '"null"': "INTEGER",
    "smallint": "INTEGER",
    "time": "TIME",
    "timestamp": "DATETIME",
    "timestamp with time zone": "TIMESTAMP",
    "timestamp_ms": "DATETIME",
    "timestamp_ns": "DATETIME",
    "timestamp_s": "DATETIME",
    "tinyint": "INTEGER",
    "ubigint": "INTEGER",
    "uhugeint": "INTEGER",
    "uinteger": "INTEGER",
    "usmallint": "INTEGER",
    "utinyint": "INTEGER",
    "uuid": "STRING",
    "varchar": "STRING",
}


@dataclass(frozen=True)
class Field:
    """One column, or one field of a RECORD."""

    name: str
    type: str  # REST's name: INTEGER, FLOAT, BOOLEAN, RECORD, ...
    mode: str = "NULLABLE"
    fields: tuple[Field, ...] = ()  # of a RECORD
    extra: tuple[tuple[str, Any], ...] = ()  # description, maxLength, precision, ...: kept and given back

    @property
    def element(self) -> Field:
        """One value of a REPEATED column; itself otherwise."""
        return replace(self, mode="NULLABLE") if self.mode == "REPEATED" else self

    @property
    def duckdb(self) -> str:
        """Its type in DuckDB."""
        if self.type == "RECORD":
            one = f"STRUCT({', '.join(f'{quoted(each.name)} {each.duckdb}' for each in self.fields)})"
        else:
            one = SCALARS[self.type]
        return one + ("[]" if self.mode == "REPEATED" else "")

    @property
    def sql(self) -> str:
        """Its type as GoogleSQL says it."""
        one = SQL_NAMES.get(self.type, self.type)
        if self.type == "RECORD":
            one = f"STRUCT<{', '.join(f'{each.name} {each.sql}' for each in self.fields)}>"
        return f"ARRAY<{one}>" if self.mode == "REPEATED" else one

    def to_json(self) -> dict[str, Any]:
        """As REST shows it."""
        told: dict[str, Any] = {"name": self.name, "type": self.type, "mode": self.mode, **dict(self.extra)}
        return told | ({"fields": [each.to_json() for each in self.fields]} if self.fields else {})


Schema = tuple[Field, ...]


def quoted(name: str) -> str:
    """A name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def schema_from_json(said: Mapping[str, Any] | None) -> Schema:
    """Of ``schema`` in a request; refuses what BigQuery refuses."""
    return _fields((said or {}).get("fields") or ())


def _fields(said: Iterable[Mapping[str, Any]]) -> Schema:
    fields = tuple(_field(each) for each in said)
    names = [each.name.lower() for each in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise invalid(f"Duplicate field name '{twice}' in schema: field names are case-insensitive.")
    return fields


def _field(said: Mapping[str, Any]) -> Field:
    name, type_ = str(said.get("name", "")), str(said.get("type", "")).upper()
    type_ = ALIASES.get(type_, type_)
    mode = str(said.get("mode") or "NULLABLE").upper()
    if not NAME.fullmatch(name):
        raise invalid(
            f'Invalid field name "{name}". Fields must contain the allowed characters, and be at most 300 long.'
        )
    if type_ not in SCALARS and type_ != "RECORD":
        raise invalid(f"Invalid value for type: {said.get('type')} is not a valid value")
    if mode not in MODES:
        raise invalid(f"Invalid value for mode: {mode} is not a valid value")
    inner = _fields(said.get("fields") or ())
    if (type_ == "RECORD") != bool(inner):
        raise invalid(f"Field {name} is type RECORD but has no schema" if not inner else f"Field {name} has fields")
    extra = tuple((key, value) for key, value in said.items() if key not in ("name", "type", "mode", "fields"))
    return Field(name, type_, mode, inner, extra)


def schema_to_json(schema: Schema) -> dict[str, Any]:
    """As REST shows it."""
    return {"fields": [each.to_json() for each in schema]}


def fields_of_duckdb(names: Sequence[str], types: Sequence[DuckDBPyType]) -> Schema:
    """The columns of a query's result."""
    return tuple(type_of_duckdb(name, type_) for name, type_ in zip(names, types, strict=True))


def type_of_duckdb(name: str, said: DuckDBPyType) -> Field:
    """The column that holds values of a DuckDB type."""
    if str(said) == "JSON":
        return Field(name, "JSON")
    if said.id in ("list", "array"):
        inner = type_of_duckdb(name, dict(said.children)["child"])
        if inner.mode == "REPEATED":
            raise invalid(f"Cannot query: column {name} would be an array of arrays, which is not supported")
        return replace(inner, mode="REPEATED")
    if said.id == "struct":
        inside = dict(said.children)
        if list(inside) in (["$bignumeric"], ["$geography"]):
            return Field(name, next(iter(inside))[1:].upper())
        return Field(name, "RECORD", fields=tuple(type_of_duckdb(each, type_) for each, type_ in inside.items()))
    if said.id not in OF_DUCKDB:
        raise invalid(f"This fake of BigQuery has no type for DuckDB's {said} (column {name})")
    return Field(name, OF_DUCKDB[said.id])
