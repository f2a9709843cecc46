"""Frames as a stream of rows that can be frozen: pandas, pyarrow, polars, whatever has ``__arrow_c_stream__``.

Belongs here: choosing columns, pandas' index, types. Not here: files (warehouse/uploads.py), the job (jobs.py).
A type that Parquet and DuckDB hold as something else, or objects that Arrow makes into something else, would come
through changed without a word: their column is refused when the job uses it, and left out when it does not.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa

from batch_llm.errors import InputError
from batch_llm.python.frame_objects import first_change
from batch_llm.python.frame_types import plain, storable

__all__ = ["Frame", "frame_of"]

CHUNK_ROWS = 256  # of a pandas frame made into Arrow at a time

_OPAQUE = "it holds Python objects that polars does not tell; give all its values one type, or make them text"


class Frame(Protocol):
    """A table from a program's memory."""

    def columns(self, needed: Collection[str]) -> list[str]:
        """The names of its columns; pandas: with the index levels that are ``needed`` and no column."""
        ...

    def reader(self, chosen: Sequence[str], needed: Collection[str]) -> pa.RecordBatchReader:
        """The rows of the ``chosen`` columns, in types that can be frozen; those that cannot are left out.

        Raises `InputError` when one of those is ``needed``, naming column and type.
        """
        ...


def frame_of(table: Any) -> Frame:
    """Raises `InputError` for what is no table."""
    if isinstance(table, pd.DataFrame):
        return _PandasFrame(table)
    if hasattr(table, "__arrow_c_stream__"):
        try:
            return _ArrowFrame(pa.RecordBatchReader.from_stream(table), _polars_objects(table))
        except pa.ArrowException as error:
            raise InputError(f"the table ({_kind(table)}) is no stream of rows that Arrow can read: {error}") from error
    hint = "; collect() it first" if hasattr(table, "collect") else ""
    raise InputError(
        f"the table is a {_kind(table)}{hint}; give a pandas, pyarrow or polars frame, a file, or a warehouse table"
    )


def _kind(table: Any) -> str:
    return f"{type(table).__module__.split('.')[0]} {type(table).__name__}"


def _refused(name: str, kind: object, why: str) -> InputError:
    return InputError(f"column {name!r} ({kind}) cannot be frozen: {why}")


def _unique(names: Sequence[str]) -> None:
    lowered = Counter(name.lower() for name in names)
    twice = sorted({name for name in names if lowered[name.lower()] > 1})
    if twice:
        raise InputError(f"the table has columns twice (upper and lower case are one): {', '.join(twice)}; rename them")


def _polars_objects(table: Any) -> frozenset[str]:
    """The columns of Python objects: polars hands over where they lie in memory, as bytes."""
    polars = sys.modules.get("polars")
    if polars is None or not isinstance(table, polars.DataFrame):
        return frozenset()
    return frozenset(name for name, kind in table.schema.items() if kind == polars.Object)


class _ArrowFrame:
    def __init__(self, stream: pa.RecordBatchReader, objects: Collection[str]) -> None:
        self._stream = stream
        self._objects = objects

    def columns(self, needed: Collection[str]) -> list[str]:
        names: list[str] = self._stream.schema.names
        _unique(names)
        return names

    def reader(self, chosen: Sequence[str], needed: Collection[str]) -> pa.RecordBatchReader:
        source = self._stream.schema
        fields = []
        for name in chosen:
            opaque = name in self._objects
            target = _OPAQUE if opaque else storable(source.field(name).type)
            if isinstance(target, pa.DataType):
                fields.append(pa.field(name, target))
            elif name in needed:
                raise _refused(name, "Object" if opaque else source.field(name).type, target)
        schema = pa.schema(fields)
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in self._stream:
            arrays = [_converted(field, batch.column(field.name)) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _converted(field: pa.Field, array: pa.Array) -> pa.Array:
    try:
        return plain(array, field.type)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _refused(field.name, array.type, str(error)) from error


class _PandasFrame:
    """Values go through Arrow column by column, some rows at a time; the index is no column unless the job uses it."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def columns(self, needed: Collection[str]) -> list[str]:
        names = [str(name) for name in self._frame.columns]
        _unique(names)
        levels = [str(name) for name in self._frame.index.names if name is not None]
        return [*names, *(name for name in levels if name in needed and name not in names)]

    def reader(self, chosen: Sequence[str], needed: Collection[str]) -> pa.RecordBatchReader:
        series, fields = {}, []
        for name in chosen:
            values = self._values(name)
            target = _pandas_type(name, values)
            if isinstance(target, pa.DataType):
                series[name] = values
                fields.append(pa.field(name, target))
            elif name in needed:
                raise target
        schema = pa.schema(fields)
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, series))

    def _values(self, name: str) -> pd.Series[Any]:
        for place, column in enumerate(self._frame.columns):
            if str(column) == name:
                return self._frame.iloc[:, place]
        level = next(place for place, found in enumerate(self._frame.index.names) if str(found) == name)
        return self._frame.index.get_level_values(level).to_series()

    def _batches(self, schema: pa.Schema, series: dict[str, pd.Series[Any]]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(self._frame), CHUNK_ROWS):
            arrays = []
            for field in schema:
                values = series[field.name].iloc[start : start + CHUNK_ROWS]
                arrays.append(_converted(field, _from_pandas(field.name, values, field.type)))
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _pandas_type(name: str, values: pd.Series[Any]) -> pa.DataType | InputError:
    """The type of a whole column, or why it has none."""
    try:
        array = _from_pandas(name, values if values.dtype == object else values.iloc[:1])
    except InputError as error:
        return error
    target = storable(array.type)
    why = _change(values, array) if isinstance(target, pa.DataType) else target
    return target if why is None else _refused(name, values.dtype, why)


def _change(values: pd.Series[Any], array: pa.Array) -> str | None:
    """What Arrow changed when it made the ``array``: of the objects, or of those that are categories."""
    where = ".iloc"
    if isinstance(values.dtype, pd.CategoricalDtype):
        values, array, where = values.cat.categories.to_series(), array.dictionary, ".cat.categories"
    if values.dtype != object:
        return None
    try:
        change = first_change(values.to_numpy(), array)
    except OverflowError as error:  # a time that Python's years do not hold, beside others
        return f"{error}; give all its values one type, or make them text"
    return None if change is None else f"{where}{change}"


def _from_pandas(name: str, values: pd.Series[Any], target: pa.DataType | None = None) -> pa.Array:
    try:
        # objects are told their type, as a chunk alone may look otherwise; the others have one
        kind = target if values.dtype == object else None
        array = pa.Array.from_pandas(values, type=kind)
    except UnicodeEncodeError as error:
        why = "it holds half a character (a lone surrogate), which is no Unicode text; replace it"
        raise _refused(name, values.dtype, why) from error
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise _refused(name, values.dtype, f"{error}; give all its values one type") from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
