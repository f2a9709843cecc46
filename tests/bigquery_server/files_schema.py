"""The columns of files: what Parquet and JSON files hold, in BigQuery's types, and which column may take them.

Belongs here: types of files. Not here: reading rows (loading.py).
Source: https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_conversions (read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tests.bigquery_server.errors import invalid
from tests.bigquery_server.schema import Field, Schema

__all__ = ["arrow_of", "arrow_type", "inferred_from_json", "inferred_from_parquet", "refuse_other_types"]

ARROW = {
    "BIGNUMERIC": pa.struct([("$bignumeric", pa.string())]),
    "BOOLEAN": pa.bool_(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "FLOAT": pa.float64(),
    "GEOGRAPHY": pa.struct([("$geography", pa.string())]),
    "INTEGER": pa.int64(),
    "JSON": pa.string(),
    "NUMERIC": pa.decimal128(38, 9),
    "STRING": pa.string(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}
# a file's type -> columns of other types that take it
TAKEN_BY = {
    "STRING": {"JSON", "GEOGRAPHY", "BYTES"},
    "BYTES": {"STRING", "GEOGRAPHY", "JSON"},
    "NUMERIC": {"BIGNUMERIC", "STRING"},
    "BIGNUMERIC": {"STRING"},
    "INTEGER": {"NUMERIC", "BIGNUMERIC"},
}


def arrow_type(field: Field) -> pa.DataType:
    """The Arrow type of a column's values."""
    inner = pa.struct([(each.name, arrow_type(each)) for each in field.fields])
    one = inner if field.type == "RECORD" else ARROW[field.type]
    return pa.list_(one) if field.mode == "REPEATED" else one


def arrow_of(schema: Schema) -> pa.Schema:
    """The Arrow schema of rows with these columns."""
    return pa.schema([(each.name, arrow_type(each)) for each in schema])


def inferred_from_parquet(schema: pa.Schema, *, lists: bool) -> Schema:
    """The columns BigQuery sees in the file.

    Without ``lists`` an array is what it is in Parquet: a RECORD with a REPEATED RECORD ``list`` of ``element``.
    """
    return tuple(
        field if each.nullable or field.mode == "REPEATED" else replace(field, mode="REQUIRED")
        for each in schema
        for field in [_of_arrow(each.name, each.type, lists=lists)]
    )


def _of_arrow(name: str, type_: pa.DataType, *, lists: bool) -> Field:
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        inner = _of_arrow("element", type_.value_type, lists=lists)
        if lists:
            return replace(inner, name=name, mode="REPEATED")
        repeated = Field("list", "RECORD", "REPEATED", (inner,))
        return Field(name, "RECORD", fields=(repeated,))
    if pa.types.is_struct(type_):
        return Field(name, "RECORD", fields=tuple(_of_arrow(each.name, each.type, lists=lists) for each in type_))
    return Field(name, _scalar_of_arrow(name, type_))


def _scalar_of_arrow(name: str, type_: pa.DataType) -> str:
    if pa.types.is_dictionary(type_):
        return _scalar_of_arrow(name, type_.value_type)
    if pa.types.is_timestamp(type_):
        return "TIMESTAMP" if type_.tz else "DATETIME"
    if pa.types.is_decimal(type_):
        fits = type_.scale <= 9 and type_.precision - type_.scale <= 29
        return "NUMERIC" if fits else "BIGNUMERIC"
    for known, is_it in _KINDS:
        if is_it(type_):
            return known
    raise invalid(f"Error while reading data, error message: Parquet column {name} has unsupported type {type_}")


_KINDS: Sequence[tuple[str, Any]] = (
    ("INTEGER", pa.types.is_integer),
    ("FLOAT", pa.types.is_floating),
    ("BOOLEAN", pa.types.is_boolean),
    ("STRING", lambda type_: pa.types.is_string(type_) or pa.types.is_large_string(type_)),
    ("BYTES", lambda type_: pa.types.is_binary(type_) or pa.types.is_large_binary(type_)),
    ("BYTES", pa.types.is_fixed_size_binary),
    ("DATE", pa.types.is_date),
    ("TIME", pa.types.is_time),
    ("INTEGER", pa.types.is_null),
)


def refuse_other_types(found: Schema, wanted: Schema, path: str = "") -> None:
    """An error when the file has a column that the table has not, or one of a type or mode that it does not take.

    Source: the same page; https://github.com/googleapis/python-bigquery/issues/10 (read 2026-11-28).
    """
    known = {each.name.lower(): each for each in wanted}
    for each in found:
        target = known.get(each.name.lower())
        if target is None:
            raise invalid(f"Provided Schema does not match Table. Cannot add fields (field: {path}{each.name})")
        if (each.mode, target.mode) == ("REQUIRED", "NULLABLE"):
            raise invalid(
                f"Error while reading data, error message: Provided schema is not compatible with the file. Field "
                f"'{path}{each.name}' is specified as NULLABLE in provided schema which does not match REQUIRED as "
                "specified in the file."
            )
        if (each.mode == "REPEATED") != (target.mode == "REPEATED"):
            raise invalid(
                f"Provided Schema does not match Table. Field {path}{each.name} has changed mode from {target.mode} to "
                f"{each.mode}"
            )
        if each.type == "RECORD" and target.type == "RECORD":
            refuse_other_types(each.fields, target.fields, f"{path}{each.name}.")
        elif each.type != target.type and target.type not in TAKEN_BY.get(each.type, ()):
            raise invalid(
                f"Provided Schema does not match Table. Field {path}{each.name} has changed type from {target.type} to "
                f"{each.type}"
            )


def inferred_from_json(rows: Sequence[Mapping[str, Any]]) -> Schema:
    """autodetect, for the plain cases: whole numbers, numbers, booleans, objects, arrays; all else is STRING."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return tuple(_of_values(name, [each for each in found if each is not None]) for name, found in values.items())


def _of_values(name: str, found: list[Any]) -> Field:
    if found and all(isinstance(each, list) for each in found):
        return replace(_of_values(name, [one for each in found for one in each]), mode="REPEATED")
    if found and all(isinstance(each, Mapping) for each in found):
        return Field(name, "RECORD", fields=inferred_from_json(found))
    kinds = {type(each) for each in found}
    if kinds == {bool}:
        return Field(name, "BOOLEAN")
    if kinds == {int}:
        return Field(name, "INTEGER")
    return Field(name, "FLOAT" if kinds and kinds <= {int, float} else "STRING")
