"""Arrow types as they can be frozen: which become what, which are refused.

Belongs here: types and the conversion of one array. Not here: tables (frames.py). Measured with pyarrow 26 and DuckDB
2.0: DuckDB reads a duration, a pandas period or interval in Parquet as bare integers, and decimal256 as a float.
"""

from __future__ import annotations

import pyarrow as pa

__all__ = ["local_zone", "plain", "storable"]

_UTC = frozenset({"UTC", "Etc/UTC", "Z", "+00:00"})

_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary(), pa.float16(): pa.float32()}
_KEPT_EXTENSIONS = ("arrow.uuid", "arrow.json")  # they come through as text
_REFUSED = {
    "pandas.period": "convert it, with .astype(str) or .dt.to_timestamp()",
    "pandas.interval": "convert it, with .astype(str)",
}
_DURATION = "a length of time would become a bare number; convert it, with .dt.total_seconds() or to text"


def storable(kind: pa.DataType) -> pa.DataType | str:
    """The type that it is frozen as; or, in words, why it cannot be."""
    if kind in _VIEWS:
        return _VIEWS[kind]
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return storable(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(kind)
    if pa.types.is_nested(kind):
        return _nested(kind)
    if pa.types.is_duration(kind):
        return _DURATION
    if pa.types.is_decimal256(kind):
        return "it has more than 38 digits; convert it to text"
    if pa.types.is_interval(kind):
        return "Parquet has no such type; convert it to text"
    return kind


def plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array as the type that `storable` said. Raises `pyarrow.ArrowException` when a value does not fit."""
    if array.type == kind:
        return array
    if pa.types.is_dictionary(array.type):
        return plain(array.dictionary, kind).take(array.indices)
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage, kind)
    return array.cast(kind)


def local_zone(kind: pa.DataType) -> str | None:
    """The time zone of its times, or of times inside of it, where that is not UTC: their instants alone are frozen."""
    if pa.types.is_timestamp(kind):
        return None if kind.tz is None or kind.tz in _UTC else str(kind.tz)
    inner = (local_zone(kind.field(place).type) for place in range(kind.num_fields))
    return next((zone for zone in inner if zone is not None), None)


def _extension(kind: pa.BaseExtensionType) -> pa.DataType | str:
    if kind.extension_name in _KEPT_EXTENSIONS:
        return kind
    return _REFUSED.get(kind.extension_name) or storable(kind.storage_type)


def _nested(kind: pa.DataType) -> pa.DataType | str:
    if pa.types.is_union(kind):
        return "Parquet has no such type; convert it to text"
    parts = [storable(kind.field(place).type) for place in range(kind.num_fields)]
    for part in parts:
        if not isinstance(part, pa.DataType):
            return f"inside of it: {part}"
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(kind.field(place).name, part) for place, part in enumerate(parts)])
    if pa.types.is_map(kind):
        return pa.map_(storable(kind.key_type), storable(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(parts[0], kind.list_size)
    return pa.large_list(parts[0]) if pa.types.is_large_list(kind) else pa.list_(parts[0])
