"""The values of rows as JSON, none of them changed without a word.

Belongs here: what JSON has no word for. Not here: files (export.py), vectors (vectors.py).
Decimals are numbers with all their digits, bytes base64, NaN and the infinities texts.
"""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from math import isfinite, isnan
from numbers import Real
from typing import Any

import orjson

__all__ = ["json_bytes"]

_NULL = b"null"


def json_bytes(value: Any) -> bytes:
    """The value as JSON."""
    found = _dumped(value)
    # a number that is none is written as null: only where there is a null, each value is looked at
    return _dumped(_with_words(value)) if _NULL in found else found


def _dumped(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}") if value.is_finite() else _word(float(value))
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _with_words(value: Any) -> Any:
    """The value with words in the place of numbers that are none."""
    if isinstance(value, dict):
        return {name: _with_words(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_words(member) for member in value]
    return _word(float(value)) if isinstance(value, Real) and not isfinite(value) else value


def _word(number: float) -> str:
    """As DuckDB, Python and JavaScript read it."""
    if isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
