"""Python objects of a column beside what Arrow made of them: where one became another.

Belongs here: comparing objects. Not here: which types can be frozen (frame_types.py), tables (frames.py).
Arrow takes one type for a column and fits every object to it where it can, without a word: a date and time beside a
date loses its time, 7 beside 2.5 becomes 7.0, text beside bytes becomes bytes. Where the types of the objects alone say
that nothing was fitted, no value is compared: most columns cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from math import isnan
from reprlib import Repr
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa

from batch_llm.python.frame_types import local_zone

__all__ = ["Change", "first_change"]

_AT_ONCE = 256  # objects that are compared at a time: their copies are held

_NULLS = frozenset({type(None), type(pd.NA), type(pd.NaT)})
_EXACT = {  # an object of exactly this type, in a column of that one, is kept as it is
    str: pa.string(),
    bytes: pa.binary(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    date: pa.date32(),
    UUID: pa.uuid(),
}
_SCALED = {Decimal: pa.types.is_decimal, np.datetime64: pa.types.is_timestamp}  # Arrow refuses what does not fit
_KINDS: dict[type, type] = {  # what counts as one type; subclasses (an enum of texts) count as the nearest of these
    **{kind: kind for kind in (str, bytes, bool, int, float, Decimal, datetime, date, time, UUID)},
    bytearray: bytes,
    memoryview: bytes,
    np.bool_: bool,
    np.integer: int,
    np.floating: float,
    np.datetime64: datetime,
}

_short = Repr()
_short.maxstring, _short.maxother = 40, 80  # characters


@dataclass(frozen=True)
class Change:
    """An object that Arrow made into something else."""

    place: str  # as Python finds it in the column: [1]['at'][0], counted from 0
    given: Any
    made: Any

    def __str__(self) -> str:
        advice = _advice(self.given, self.made)
        return f"{self.place} is {_named(self.given)} and would become {_named(self.made)}; {advice}, or make them text"


def first_change(objects: np.ndarray[Any, np.dtype[np.object_]], made: pa.Array) -> Change | None:
    """The first of the ``objects`` that differs in value or type from what was ``made`` of them, also inside of it.

    The same are: nulls of every kind, and a key that a dict has not; numbers, texts and bytes of Python and of numpy;
    a list, a tuple, an array; decimals of several scales; times of a zone that are the same instant, where the zone
    of the column tells that they are not in UTC (`local_zone`).
    """
    for start in range(0, len(objects), _AT_ONCE):
        given = objects[start : start + _AT_ONCE].tolist()
        if _exact(given, made.type):
            continue
        pairs = zip(given, made.slice(start, _AT_ONCE).to_pylist(), strict=True)
        for row, (was, became) in enumerate(pairs, start):
            if change := _change(f"[{row}]", was, became):
                return change
    return None


def _exact(values: list[Any], kind: pa.DataType) -> bool:
    """Whether types alone say that all are kept; no is no answer."""
    types = set(map(type, values)) - _NULLS
    if float in types and kind != _EXACT[float] and all(isnan(value) for value in values if type(value) is float):
        types.remove(float)  # NaN, pandas' null
    if len(types) != 1:
        return not types
    (only,) = types
    if only is dict:
        return pa.types.is_struct(kind) and _exact_fields([value for value in values if type(value) is dict], kind)
    if only in (list, tuple):
        inner = chain.from_iterable(value for value in values if type(value) is only)
        return pa.types.is_list(kind) and _exact(list(inner), kind.value_type)
    if only is np.ndarray:
        dtypes = {value.dtype for value in values if type(value) is only}
        return pa.types.is_list(kind) and all(
            dtype.kind in "biufM" and pa.from_numpy_dtype(dtype) == kind.value_type for dtype in dtypes
        )
    if only in (datetime, pd.Timestamp):
        return _exact_times([value for value in values if type(value) is only], kind)
    if only in _SCALED:
        return bool(_SCALED[only](kind))
    return bool(_EXACT.get(only) == kind)


def _exact_fields(values: list[dict[Any, Any]], kind: pa.StructType) -> bool:
    keys = set(chain.from_iterable(values))
    return all(
        type(key) is str and _exact([value[key] for value in values if key in value], kind.field(key).type)
        for key in keys
    )


def _exact_times(values: list[datetime], kind: pa.DataType) -> bool:
    if not pa.types.is_timestamp(kind) or kind.unit != "us":
        return False
    if any(getattr(value, "nanosecond", 0) for value in values):
        return False
    if kind.tz is None:
        return all(value.tzinfo is None for value in values)
    told = local_zone(kind) is not None
    return all(value.tzinfo is not None and (told or value.tzinfo is UTC) for value in values)


def _change(place: str, given: Any, made: Any) -> Change | None:
    if isinstance(given, pa.Scalar):
        given = given.as_py()
    pairs: Iterable[tuple[Any, Any, Any]] | None = None
    if isinstance(made, dict) and isinstance(given, dict):
        pairs = ((key, given.get(key), made.get(key)) for key in dict.fromkeys([*given, *made]))
    elif isinstance(made, list) and isinstance(given, Iterable) and not isinstance(given, str | bytes | dict):
        parts = list(given)
        if len(parts) == len(made):
            pairs = ((position, *pair) for position, pair in enumerate(zip(parts, made, strict=True)))
    if pairs is not None:
        inner = (_change(f"{place}[{key!r}]", was, became) for key, was, became in pairs)
        return next((change for change in inner if change), None)
    return None if _same(given, made) else Change(place, given, made)


def _same(given: Any, made: Any) -> bool:
    if made is None:
        return _is_null(given)
    kind = _kind(given)
    if kind is None or kind is not _kind(made):
        return False
    if kind is datetime:
        return _same_time(pd.Timestamp(given) if isinstance(given, np.datetime64) else given, made)
    return bool((bytes(given) if kind is bytes else given) == made)


def _same_time(given: datetime, made: datetime) -> bool:
    """By wall clock and offset, as the hour that a clock repeats equals nothing in another zone."""
    was, became = given.utcoffset(), made.utcoffset()
    if was is None or became is None:
        return was is became and bool(given.replace(tzinfo=None) == made.replace(tzinfo=None))
    if was != became and local_zone(pa.timestamp("us", str(made.tzinfo))) is None:
        return False  # another zone in a column of UTC, of which nobody would be told
    apart: timedelta = made.replace(tzinfo=None) - given.replace(tzinfo=None)
    return bool(apart == became - was)


def _is_null(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _kind(value: Any) -> type | None:
    return next((_KINDS[base] for base in type(value).__mro__ if base in _KINDS), None)


def _advice(given: Any, made: Any) -> str:
    if not (isinstance(given, datetime) and isinstance(made, datetime)):
        return "give all its values one type"
    finer = given.utcoffset() == made.utcoffset()  # Arrow takes no nanoseconds from objects
    return "convert the column with pd.to_datetime" if finer else "give all its times one time zone, or none"


def _named(value: Any) -> str:
    return "null" if value is None else f"{_short.repr(value)} ({type(value).__name__})"
