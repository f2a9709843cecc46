"""What an input's key and its date column must be, in words.

Belongs here: the complaints, the same whatever the warehouse. Not here: finding out (each warehouse's freezing.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from batch_llm.errors import InputError

__all__ = ["EXAMPLES", "duplicate_key", "no_dates", "null_key"]

EXAMPLES = 5  # of rows with a bad key
_EXAMPLE_CHARACTERS = 80


def null_key(
    source: str, key: Sequence[str], counts: Sequence[int], examples: Sequence[Sequence[object]]
) -> InputError:
    """``counts``: of each key column, the rows where it is null. ``examples``: the key columns of some."""
    missing = ", ".join(f"{name} in {rows:,}" for name, rows in zip(key, counts, strict=True) if rows)
    return InputError(
        f"input {source!r}: the key is null ({missing} rows), for example {_shown(key, examples)}. "
        "Name columns in input.key that are never null, or leave those rows out with input.where"
    )


def duplicate_key(
    source: str, key: Sequence[str], keys: int, rows: int, examples: Sequence[Sequence[object]]
) -> InputError:
    """``keys`` stand in ``rows`` rows altogether. ``examples``: the key columns of some, and in how many rows each."""
    return InputError(
        f"input {source!r}: the key ({', '.join(key)}) is not unique: "
        f"{keys:,} {'key stands' if keys == 1 else 'keys stand'} in {rows:,} rows, "
        f"for example {_shown(key, examples)}. "
        "Name more columns in input.key that together are unique, or filter with input.where"
    )


def no_dates(source: str, column: str, kind: str) -> InputError:
    """``kind``: the column's type, as the warehouse calls it."""
    return InputError(
        f"input {source!r}: the column {column!r} is {kind}, and dates are wanted (DATE, DATETIME or TIMESTAMP). "
        "Name another column in schedule.column, or turn it into a date in a view and take that as the input"
    )


def _shown(key: Sequence[str], examples: Sequence[Sequence[object]]) -> str:
    texts = []
    for row in examples:
        values = [value if value is None or isinstance(value, int | float) else str(value) for value in row]
        pairs = ", ".join(f"{name}={_cut(value)}" for name, value in zip(key, values[: len(key)], strict=True))
        texts.append(pairs + (f" ({values[-1]} rows)" if len(values) > len(key) else ""))
    return "; ".join(texts)


def _cut(value: object) -> str:
    text = "NULL" if value is None else repr(value)
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[:_EXAMPLE_CHARACTERS] + ".."
