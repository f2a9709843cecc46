"""What ``{{ value }}`` prints: an allow-list, as whatever is printed is sent and paid.

Belongs here: which values have a text, and that of lists and objects. Not here: templates (template.py).
Invariant: equal values print equally in every process, so that a row that did not change is never asked again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

from jinja2 import Undefined

__all__ = ["NoTextError", "printed", "with_text"]

_PLAIN = frozenset({str, int, float, bool})
_NESTED = (list, tuple, dict)
_WRITTEN = (Decimal, dt.date, dt.time, dt.timedelta, UUID)  # a datetime is a date
_TEXTS = (str, int, float, *_WRITTEN)


class NoTextError(TypeError):
    """A value that has no text. The message says what to do and holds no value of the row."""


def printed(value: Any) -> Any:
    """The value as Jinja2 may print it: nothing for a null. Raises `NoTextError`."""
    if type(value) in _PLAIN:
        return value
    if value is None:
        return ""
    if isinstance(value, _NESTED):
        return _nested(value)
    return with_text(value)


def with_text(value: Any) -> Any:
    """The value itself, if it has a text or says itself why not. Raises `NoTextError`."""
    if value is None or isinstance(value, (*_TEXTS, Undefined)):
        return value
    if isinstance(value, _NESTED):
        _nested(value)
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        raise NoTextError("a column of bytes cannot stand in a prompt, nor can a list or an object with bytes in it")
    if callable(value):
        raise NoTextError("a function cannot stand in a prompt; call it with ()")
    if hasattr(value, "__iter__"):
        raise NoTextError(
            "what comes one by one (from map, select, unique, range, ..) cannot stand in a prompt; "
            "add | join(', ') or | list"
        )
    raise NoTextError("an object that has no text cannot stand in a prompt; print its fields")


def _nested(value: Any) -> Any:
    """The list or object itself where Python writes it as a reader would; else one that prints so."""
    waiting, written = [value], False
    while waiting:  # a stack: a list may be nested deeper than functions may call each other
        for member in _members(waiting.pop()):
            if type(member) in _PLAIN or member is None:
                continue
            if isinstance(member, _NESTED):
                waiting.append(member)
            elif isinstance(member, Undefined):
                str(member)  # raises, and says which field is missing
            else:
                written = isinstance(with_text(member), _WRITTEN) or written
    return _as_written(value) if written else value


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    else:
        yield from value


class _Digits(str):
    """A number's digits, which stand in a list without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _as_written(value: Any) -> Any:
    if isinstance(value, dict):
        return {_as_written(key): _as_written(member) for key, member in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_as_written, value))
    if isinstance(value, list):
        return [_as_written(member) for member in value]
    if isinstance(value, Decimal):
        return _Digits(f"{value:f}")
    return str(value) if isinstance(value, _WRITTEN) else value
