"""Which types columns get: those in which every value stays what is written, and which travel to Parquet and back.

Belongs here: the choice of a type. Not here: reading files (files.py), choosing columns (sources.py). DuckDB's own
detection reads 0x1F as 31, "9:05" as a time, a UUID in small letters, and two ids of 23 digits as one DOUBLE
(measured, 2.0.0), so numbers and dates in files of text are looked at here as the texts they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
from duckdb.sqltypes import DuckDBPyType

from batch_llm.warehouse.duckdb.names import quoted
from batch_llm.warehouse.duckdb.statements import statement

__all__ = ["json_type", "may_be_more_than_text", "portable_type", "types_of_texts"]

# what sql/text_kind.sql tells of a text
_INTEGER, _BIGINT, _HUGEINT, _NUMBER, _NO_NUMBER, _DATE, _TIMESTAMP, _TEXT, _PADDED = (1 << bit for bit in range(9))
_KINDS = _PADDED - 1
_LENGTH_BITS = 9
_TYPES = (
    ("VARCHAR", 0),  # no value at all
    ("BIGINT", _INTEGER | _BIGINT),
    ("HUGEINT", _INTEGER | _BIGINT | _HUGEINT),
    ("VARCHAR", _NO_NUMBER),  # nan, inf: words, unless there are numbers
    ("DOUBLE", _INTEGER | _NUMBER | _NO_NUMBER),
    ("DATE", _DATE),
    ("TIMESTAMP", _TIMESTAMP),
)

_FROM_JSON_STRINGS = ("date", "time", "timestamp", "uuid")
# without a Parquet or Arrow counterpart that comes back as itself
_AS_TEXT = (
    "enum", "interval", "union", "time with time zone", "bit", "bignum", "uhugeint", "variant", "geometry", "uuid",
    "null",  # of a column without any value, since DuckDB 2.0; INTEGER or JSON before
)  # fmt: skip


def types_of_texts(connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str]) -> dict[str, str]:
    """The type for each of these VARCHAR columns; they are read through once."""
    if not columns:
        return {}
    kinds = ", ".join(f"bit_or({statement('text_kind', column=quoted(column))})" for column in columns)
    found = connection.execute(statement("text_kinds", kinds=kinds, relation=relation)).fetchall()[0]
    return {column: _type_of(kind or 0) for column, kind in zip(columns, found, strict=True)}


def _type_of(found: int) -> str:
    kinds, lengths = found & _KINDS, found >> _LENGTH_BITS  # a bit for each length of a fraction
    if found & _PADDED:  # 2.50: a DOUBLE would not keep it
        is_alike = not kinds and lengths.bit_count() == 1  # else 1.1 and 1.10 may be two sections of a book
        return f"DECIMAL(18, {lengths.bit_length()})" if is_alike else "VARCHAR"
    kinds |= _NUMBER if lengths else 0
    return next((name for name, fitting in _TYPES if kinds | fitting == fitting), "VARCHAR")


def json_type(detected: str) -> str:
    """For a type that DuckDB found in JSON: strings stay strings, and values of several kinds become their text."""
    return _with_leaves(detected, lambda leaf: "VARCHAR" if _is_json(leaf) or leaf.id in _FROM_JSON_STRINGS else None)


def may_be_more_than_text(detected: str) -> bool:
    """Whether a JSON column of this type is to be read as text first: `types_of_texts` tells what it is."""
    return detected in ("DATE", "TIMESTAMP", "DOUBLE")


def portable_type(type_name: str) -> str | None:
    """The type to cast a column to before it leaves DuckDB; None where it may go as it is."""
    cast = _with_leaves(type_name, lambda leaf: "VARCHAR" if _is_json(leaf) or leaf.id in _AS_TEXT else None)
    return None if cast == _with_leaves(type_name, lambda leaf: None) else cast


def _is_json(leaf: DuckDBPyType) -> bool:
    return str(leaf) == "JSON"  # its id is the one of VARCHAR


def _with_leaves(type_name: str, change: Callable[[DuckDBPyType], str | None]) -> str:
    """The type with its innermost types changed; None leaves one as it is."""
    return _changed(DuckDBPyType(type_name), change)


def _changed(at: DuckDBPyType, change: Callable[[DuckDBPyType], str | None]) -> str:
    match at.id:
        case "struct":
            return f"STRUCT({', '.join(f'{quoted(name)} {inner}' for name, inner in _inner(at, change))})"
        case "map":
            return f"MAP({', '.join(inner for _, inner in _inner(at, change))})"
        case "list":
            return f"{_inner(at, change)[0][1]}[]"
        case "array":
            (_, element), (_, size) = _inner(at, change)
            return f"{element}[{size}]"
    return change(at) or str(at)


def _inner(at: DuckDBPyType, change: Callable[[DuckDBPyType], str | None]) -> list[tuple[str, str]]:
    return [
        (name, _changed(child, change) if isinstance(child, DuckDBPyType) else str(child))  # the length of an array
        for name, child in at.children
    ]
