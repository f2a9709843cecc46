"""What a user may write for KEY, and finding the row it names.

Belongs here: reading a key, comparing it with a table's rows. Not here: what is shown of the row (show.py).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from batch_llm.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["find_key", "parse_key"]


def parse_key(text: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The values of the key columns, as text, in the order of ``columns``.

    Takes ``value``, ``value,value`` in the key's order, or ``column=value,column=value`` in any order; a value with a
    comma stands in double quotes when the key has several columns. Raises `ConfigurationError`.
    """
    if len(columns) == 1:
        return (text.removeprefix(f"{columns[0]}="),)
    parts = [part.strip() for part in next(csv.reader([text], skipinitialspace=True), [])]
    if len(parts) != len(columns):
        raise ConfigurationError(
            f"the key {text!r} has {len(parts)} parts; this job's key has {len(columns)}: {', '.join(columns)}. "
            f"Write {','.join(f'{name}=..' for name in columns)}"
        )
    named = dict(part.split("=", 1) for part in parts if part.split("=", 1)[0] in columns)
    return tuple(named[name] for name in columns) if len(named) == len(columns) else tuple(parts)


def find_key(batch: pa.RecordBatch, columns: Sequence[str], key: Sequence[str]) -> int | None:
    """The position in ``batch`` of the row with this key, if it is there; values are compared as text."""
    for at, values in enumerate(zip(*(batch.column(name).to_pylist() for name in columns), strict=True)):
        if all(_same(value, wanted) for value, wanted in zip(values, key, strict=True)):
            return at
    return None


def _moments(value: datetime) -> Iterator[str]:
    """How one may write a time: with or without its zone, at midnight also as the day alone."""
    local = value.replace(tzinfo=None)
    yield from (str(value), str(local))
    if value.utcoffset() == timedelta(0):
        yield f"{local}Z"
    if local.time() == time():
        yield str(local.date())


def _same(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, float) and value.is_integer():
        return wanted in (str(value), str(int(value)))
    if isinstance(value, datetime):
        return wanted.replace("T", " ") in _moments(value)
    return str(value) == wanted
