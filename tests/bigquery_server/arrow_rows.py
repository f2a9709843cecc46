"""Rows as the Storage Read API writes them: Arrow, one record batch a message.

Belongs here: types and values. Not here: whose rows they are (read_sessions.py).
Source: https://cloud.google.com/bigquery/docs/reference/storage#arrow_schema_details (read 2026-11-29).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

from tests.bigquery_server.files_schema import ARROW
from tests.bigquery_server.schema import Field, Schema

__all__ = ["arrow_schema", "serialized", "serialized_schema"]

TYPES = ARROW | {"BIGNUMERIC": pa.decimal256(76, 38), "GEOGRAPHY": pa.string()}


def arrow_schema(schema: Schema) -> pa.Schema:
    """The columns of a session."""
    return pa.schema([_field(each) for each in schema])


def _field(field: Field) -> pa.Field:
    one = TYPES[field.type] if field.type != "RECORD" else pa.struct([_field(each) for each in field.fields])
    if field.mode == "REPEATED":
        return pa.field(field.name, pa.list_(pa.field("item", one)))
    return pa.field(field.name, one, nullable=field.mode != "REQUIRED")


def serialized_schema(schema: pa.Schema) -> bytes:
    """As it stands in a session and in a stream's first message."""
    return schema.serialize().to_pybytes()  # type: ignore[no-any-return]


def serialized(rows: pa.Table, schema: Schema) -> bytes:
    """Rows out of DuckDB as one record batch."""
    wanted = arrow_schema(schema)
    columns = [
        _column(rows.column(place), field, wanted.field(place).type) for place, field in enumerate(schema)
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=wanted).serialize().to_pybytes()  # type: ignore[no-any-return]


def _column(values: pa.ChunkedArray, field: Field, wanted: pa.DataType) -> pa.Array:
    if field.mode == "REPEATED" or field.type in ("BIGNUMERIC", "GEOGRAPHY", "RECORD"):
        return pa.array([_value(each, field) for each in values.to_pylist()], wanted)
    cast = values.cast(wanted)
    return cast.combine_chunks() if cast.num_chunks != 1 else cast.chunk(0)


def _value(value: Any, field: Field) -> Any:
    """One value; there is no missing array, it is an empty one."""
    if field.mode == "REPEATED":
        return [_value(each, field.element) for each in value or ()]
    if value is None:
        return None
    if field.type == "RECORD":
        return {each.name: _value(value[each.name], each) for each in field.fields}
    if field.type == "BIGNUMERIC":
        return Decimal(value["$bignumeric"])
    return value["$geography"] if field.type == "GEOGRAPHY" else value
