"""Vectors where people read: cut on a page, as JSON in a file.

Belongs here: the looks of vectors, without a Python float per number where there are many. Not here: other columns
(export.py, show.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from batch_llm.cli.json_values import json_bytes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["rows_with_vectors", "shortened", "vector_in_words", "vectors_as_text"]

SHOWN_NUMBERS = 4
SHOWN_CHARACTERS = 24
LONG_LIST = 16  # numbers; shorter lists are shown whole

# The vectors of a stored answer: base64, or plain numbers. A text of a chat does not stand behind this key.
_STORED = re.compile(rf'("embedding"\s*:\s*)(?:"([^"]{{{SHOWN_CHARACTERS},}})"|\[([^\]]{{{SHOWN_CHARACTERS},}})\])')
LONGEST_ANSWER = 4_000  # characters; a call asks up to 2,048 rows, and one of them is asked for


def shortened(body: str) -> str:
    """A stored answer, for a page: of each vector the beginning, and of many vectors the first ones."""
    cut, vectors = _STORED.subn(_beginning, body)
    if not vectors or len(cut) <= LONGEST_ANSWER:
        return cut
    return f"{cut[:LONGEST_ANSWER]}.. ({len(body):,} characters in all, {vectors:,} vectors)"


def _beginning(found: re.Match[str]) -> str:
    inside = found[2] or found[3]
    opens, closes = ('"', '"') if found[2] else ("[", "]")
    return f"{found[1]}{opens}{inside[:SHOWN_CHARACTERS]}.. ({len(inside):,} characters){closes}"


def vector_in_words(value: Any) -> Any:
    """A long list of numbers by its first ones and its length; everything else as it is."""
    if not isinstance(value, list) or len(value) <= LONG_LIST or not all(isinstance(each, float) for each in value):
        return value
    first = ", ".join(f"{number:.6g}" for number in value[:SHOWN_NUMBERS])
    return f"[{first}, ..] ({len(value):,} numbers)"


def vectors_as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with each column of vectors as JSON texts."""
    import pyarrow as pa

    for place in _vector_columns(batch.schema):
        texts = [None if numbers is None else json_bytes(numbers).decode() for numbers in _numbers(batch.column(place))]
        batch = batch.set_column(place, batch.schema.field(place).name, pa.array(texts, pa.string()))
    return batch


def rows_with_vectors(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The batch's rows as Python values, vectors as numpy arrays of their own precision."""
    places = _vector_columns(batch.schema)
    names = [batch.schema.field(place).name for place in places]
    vectors = zip(*(_numbers(batch.column(place)) for place in places), strict=True)
    for row in batch.drop_columns(names).to_pylist() if names else batch.to_pylist():
        numbers = dict(zip(names, next(vectors), strict=True)) if names else {}
        yield {name: numbers[name] if name in numbers else row[name] for name in batch.schema.names}


def _vector_columns(schema: pa.Schema) -> list[int]:
    import pyarrow as pa

    return [
        place
        for place, field in enumerate(schema)
        if pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type)
    ]


def _numbers(column: pa.FixedSizeListArray) -> list[Any]:
    """A numpy array per row, None where there is no vector; a list of numpy's numbers where some are none."""
    import numpy as np

    size, values = column.type.list_size, column.values
    flat = values.slice(column.offset * size, len(column) * size).to_numpy(zero_copy_only=False)
    rows: list[Any] = []
    for row, valid in enumerate(column.is_valid().to_pylist()):
        numbers = flat[row * size : (row + 1) * size]
        if valid and not np.isfinite(numbers).all():  # numpy has no null: it is a NaN there
            members = column[row].as_py()
            numbers = [None if member is None else flat.dtype.type(member) for member in members]
        rows.append(numbers if valid else None)
    return rows
