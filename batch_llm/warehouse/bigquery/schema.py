"""Types: Arrow's into BigQuery's and back, without loss where BigQuery has the type.

Belongs here: columns' types and the casts of whole batches. Not here: reading or writing rows (listing.py, loading.py).
What BigQuery cannot hold: a list in a list (refused), a missing element of a list (left out), and a missing list, which
becomes an empty one.
Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types (read 2026-11-28)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.cloud.bigquery import SchemaField

from batch_llm.warehouse.base import LLM_SCHEMA

__all__ = [
    "Unstorable",
    "answers_schema",
    "arrow_schema",
    "cut_key",
    "field_of",
    "is_plain",
    "kind_of",
    "shaped",
    "storable",
    "type_word",
]

NUMERIC = pa.decimal128(38, 9)
BIGNUMERIC = pa.decimal256(76, 38)
_BIGNUMERIC_DIGITS = 38  # before the point; the 39th is not always there
_NUMERIC_DIGITS = 29

_ARROW = {
    "BOOL": pa.bool_(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "FLOAT64": pa.float64(),
    "INT64": pa.int64(),
    "NUMERIC": NUMERIC,
    "BIGNUMERIC": BIGNUMERIC,
    "STRING": pa.string(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
_MODERN = {"BOOLEAN": "BOOL", "FLOAT": "FLOAT64", "INTEGER": "INT64", "RECORD": "STRUCT"}  # the API's older names
_VECTOR = re.compile(r"float32\[([0-9]+)\]")


class Unstorable(ValueError):
    """A column that BigQuery cannot hold; says why."""


def kind_of(field: SchemaField) -> str:
    """BigQuery's name of a column's type as SQL knows it, whatever the API calls it."""
    return _MODERN.get(field.field_type, field.field_type)


def type_word(field: SchemaField) -> str:
    """A column's type in one word, for messages and for telling whether two are the same."""
    if size := _vector_size(field):
        return f"FLOAT[{size}]"
    word = kind_of(field)
    if word == "STRUCT":
        word = f"STRUCT<{', '.join(f'{part.name} {type_word(part)}' for part in field.fields)}>"
    return f"ARRAY<{word}>" if field.mode == "REPEATED" else word


def is_plain(field: SchemaField) -> bool:
    """Whether its values come out of a table as they are; others are turned into text by a statement."""
    kind = kind_of(field)
    return all(is_plain(part) for part in field.fields) if kind == "STRUCT" else kind in _ARROW


# ---- BigQuery to Arrow


def arrow_schema(fields: Sequence[SchemaField]) -> pa.Schema:
    """The columns as our readers get them; vectors have their size."""
    return pa.schema([pa.field(field.name, _arrow_type(field)) for field in fields])


def answers_schema(fields: Sequence[SchemaField]) -> pa.Schema:
    """The columns of published rows and outputs: as `arrow_schema`, but ``llm_*`` as `LLM_SCHEMA` says."""
    ours = {(field.name, type_word(field_of(field))): field for field in LLM_SCHEMA}
    return pa.schema(
        [ours.get((field.name, type_word(field)), own) for field, own in zip(fields, arrow_schema(fields), strict=True)]
    )


def _arrow_type(field: SchemaField) -> pa.DataType:
    if size := _vector_size(field):
        return pa.list_(pa.float32(), size)
    kind = kind_of(field)
    if kind == "STRUCT":
        inner = pa.struct([pa.field(part.name, _arrow_type(part)) for part in field.fields])
    else:
        inner = _ARROW.get(kind, pa.string())
    return pa.list_(inner) if field.mode == "REPEATED" else inner


def _vector_size(field: SchemaField) -> int | None:
    found = _VECTOR.fullmatch(field.description or "")
    return int(found.group(1)) if found and field.mode == "REPEATED" else None


def shaped(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as they came from BigQuery, in the types of `arrow_schema`."""
    columns = [_shaped(batch.column(place), field.type) for place, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _shaped(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    if values.type.equals(wanted):
        return values
    if pa.types.is_fixed_size_list(wanted):
        return _vectors(values, wanted)
    return values.cast(wanted)


def _vectors(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Lists of one length as vectors; an empty list was none."""
    there = pc.fill_null(pc.equal(pc.list_value_length(values), wanted.list_size), fill_value=False)
    filled = pa.FixedSizeListArray.from_arrays(
        values.filter(there).flatten().cast(wanted.value_type), type=pa.list_(wanted.value_type, wanted.list_size)
    )
    place = pc.subtract(pc.cumulative_sum(there.cast(pa.int64())), 1)
    return filled.take(pc.if_else(there, place, pa.scalar(None, pa.int64())))


# ---- Arrow to BigQuery


def field_of(field: pa.Field) -> SchemaField:
    """A column of these values. Raises `Unstorable`."""
    kind = _storage_type(field.type)
    if pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type):
        return SchemaField(field.name, "FLOAT64", mode="REPEATED", description=f"float32[{kind.list_size}]")
    if _is_list(kind):
        inner = field_of(pa.field(field.name, kind.value_type))
        if inner.mode == "REPEATED":
            raise Unstorable(f"column {field.name!r} holds lists of lists: put the inner list into an object")
        return SchemaField(field.name, inner.field_type, mode="REPEATED", fields=inner.fields)
    if pa.types.is_struct(kind):
        if not kind.num_fields:
            raise Unstorable(f"column {field.name!r} holds objects without fields")
        return SchemaField(field.name, "STRUCT", fields=[field_of(part) for part in kind])
    return SchemaField(field.name, _scalar(field.name, kind))


def cut_key(schema: pa.Schema, key: Sequence[str]) -> str | None:
    """What is wrong with a key that would be cut: two of its values could become one. None: nothing."""
    kinds = {column: schema.field(column).type for column in key}
    cut = [name for name, kind in kinds.items() if _is_time_of_day_or_moment(kind) and kind.unit == "ns"]
    return (
        f"the key column {', '.join(map(repr, cut))} has nanoseconds, which BigQuery cuts to microseconds: two keys "
        "could become one; store it as text (or in microseconds), or name another key"
        if cut
        else None
    )


def _is_time_of_day_or_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_time64(kind))


def _scalar(name: str, kind: pa.DataType) -> str:  # one line per type
    for word, belongs in _SCALARS:
        if belongs(kind):
            return word
    if pa.types.is_timestamp(kind):
        return "DATETIME" if kind.tz is None else "TIMESTAMP"
    if pa.types.is_decimal(kind):
        digits = kind.precision - kind.scale
        if kind.scale <= NUMERIC.scale and digits <= _NUMERIC_DIGITS:
            return "NUMERIC"
        if kind.scale <= BIGNUMERIC.scale and digits <= _BIGNUMERIC_DIGITS:
            return "BIGNUMERIC"
    raise Unstorable(f"column {name!r} is of type {kind}, which BigQuery does not have")


_SCALARS = (
    ("BOOL", pa.types.is_boolean),
    ("NUMERIC", pa.types.is_uint64),  # half of them are above BigQuery's largest integer
    ("INT64", pa.types.is_integer),
    ("FLOAT64", pa.types.is_floating),
    ("STRING", pa.types.is_string),
    ("STRING", pa.types.is_large_string),
    ("STRING", pa.types.is_string_view),
    ("STRING", pa.types.is_null),
    ("BYTES", pa.types.is_binary),
    ("BYTES", pa.types.is_large_binary),
    ("BYTES", pa.types.is_binary_view),
    ("BYTES", pa.types.is_fixed_size_binary),
    ("DATE", pa.types.is_date),
    ("TIME", pa.types.is_time),
)


def storable(batch: pa.RecordBatch, fields: Sequence[SchemaField]) -> pa.RecordBatch:
    """The rows as a file holds them that is loaded into these columns."""
    columns = [_storable(batch.column(place), field) for place, field in enumerate(fields)]
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in fields])


def _storable(values: pa.Array, field: SchemaField) -> pa.Array:
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if field.mode == "REPEATED":
        return _stored_list(values, field)
    if kind_of(field) == "STRUCT":
        parts = [_storable(part, inner) for part, inner in zip(values.flatten(), field.fields, strict=True)]
        return pa.StructArray.from_arrays(parts, names=[inner.name for inner in field.fields], mask=values.is_null())
    # nanoseconds are cut to BigQuery's microseconds; everything else that would be lost is an error
    return values.cast(_ARROW[kind_of(field)], safe=not pa.types.is_temporal(values.type))


def _stored_list(values: pa.Array, field: SchemaField) -> pa.Array:
    """One list per row, without the elements that are missing."""
    element = SchemaField(field.name, field.field_type, fields=field.fields)
    if not pa.types.is_list(values.type):
        values = values.cast(pa.list_(_storage_type(values.type).value_type))
    elements = values.flatten()  # a missing list has none here, whatever lies below it
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    if elements.null_count:
        there = elements.is_valid()
        owners = np.repeat(np.arange(len(values)), lengths)[there.to_numpy(zero_copy_only=False)]
        elements, lengths = elements.filter(there), np.bincount(owners, minlength=len(values))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, _storable(elements, element))


def _is_list(kind: pa.DataType) -> bool:
    return any((pa.types.is_list(kind), pa.types.is_large_list(kind), pa.types.is_fixed_size_list(kind)))


def _storage_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_map(kind):
        kind = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
    return kind
