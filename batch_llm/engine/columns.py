"""Arrow columns from the values of rows, fast.

Belongs here: how a column is built. Not here: which columns an output has (publish.py, warehouse/base.py).

Numbers and texts go into Arrow's buffers without an object in between. Arrow's own way from Python values loads pandas
(43 MB and half a second, once), which only nested answers need here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["column", "repeated"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DECIMAL_BYTES = 16
_NUMBERS: dict[pa.DataType, type] = {pa.int32(): np.int32, pa.int64(): np.int64, pa.float64(): np.float64}


def repeated(value: Any, count: int, kind: pa.DataType) -> pa.Array:
    """A column that holds one value in every row."""
    return column([value] * count, kind)


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of these values. Of a decimal: whole units of its last place; of a timestamp: aware datetimes.

    None is null.
    """
    first = values[0] if values else None
    if first is None and all(value is None for value in values):
        return pa.nulls(len(values), kind)
    build = _BUILDERS.get(kind.id)
    return pa.array(values, kind) if build is None else build(values, kind)


def _texts(values: Sequence[str | None], _kind: pa.DataType) -> pa.Array:
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _truths(values: Sequence[bool | None], kind: pa.DataType) -> pa.Array:
    bits, valid = _filled(values, np.bool_)
    packed = pa.py_buffer(np.packbits(bits, bitorder="little"))
    known = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [known, packed])


def _numbers(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return _from_numpy(*_filled(values, _NUMBERS[kind]), kind)


def _moments(values: Sequence[datetime | None], kind: pa.DataType) -> pa.Array:
    micros = [None if value is None else _micros(value) for value in values]
    return _from_numpy(*_filled(micros, np.int64), kind)


def _micros(moment: datetime) -> int:
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _decimals(values: Sequence[int | None], kind: pa.DataType) -> pa.Array:
    """Whole units, below 2**63: 9.2 billion dollars in billionths."""
    units, valid = _filled(values, np.int64)
    wide = np.zeros((len(units), DECIMAL_BYTES // 8), dtype=np.int64)
    wide[:, 0] = units
    wide[:, 1] = units >> 63  # the sign
    return _from_numpy(wide, valid, kind)


def _filled(values: Sequence[Any], number: type) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """The values with 0 for None, and which ones are there; None: all."""
    if None not in values:
        return np.fromiter(values, number, len(values)), None
    valid = np.fromiter((value is not None for value in values), np.bool_, len(values))
    return np.fromiter((value or 0 for value in values), number, len(values)), valid


def _from_numpy(data: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, kind: pa.DataType) -> pa.Array:
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(data), [bits, pa.py_buffer(data)])


_BUILDERS: dict[int, Callable[[Sequence[Any], pa.DataType], pa.Array]] = {
    pa.string().id: _texts,
    pa.bool_().id: _truths,
    pa.int32().id: _numbers,
    pa.int64().id: _numbers,
    pa.float64().id: _numbers,
    pa.timestamp("us", tz="UTC").id: _moments,
    pa.decimal128(18, 9).id: _decimals,
}
