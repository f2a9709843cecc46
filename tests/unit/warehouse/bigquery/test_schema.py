"""Types: Arrow's into BigQuery's and back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.cloud.bigquery import SchemaField

from batch_llm.warehouse.base import LLM_SCHEMA
from batch_llm.warehouse.bigquery.loading import file_type
from batch_llm.warehouse.bigquery.schema import (
    Unstorable,
    answers_schema,
    arrow_schema,
    field_of,
    is_plain,
    shaped,
    storable,
    type_word,
)

PLACE = pa.struct([("x", pa.int16()), ("names", pa.list_(pa.string()))])


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (pa.bool_(), "BOOL"),
        (pa.int8(), "INT64"),
        (pa.uint32(), "INT64"),
        (pa.uint64(), "NUMERIC"),
        (pa.float16(), "FLOAT64"),
        (pa.float64(), "FLOAT64"),
        (pa.decimal128(18, 9), "NUMERIC"),
        (pa.decimal128(38, 0), "BIGNUMERIC"),
        (pa.decimal256(76, 38), "BIGNUMERIC"),
        (pa.string(), "STRING"),
        (pa.large_string(), "STRING"),
        (pa.null(), "STRING"),
        (pa.dictionary(pa.int8(), pa.string()), "STRING"),
        (pa.binary(), "BYTES"),
        (pa.binary(4), "BYTES"),
        (pa.date32(), "DATE"),
        (pa.time32("s"), "TIME"),
        (pa.timestamp("ns"), "DATETIME"),
        (pa.timestamp("us", tz="Europe/Berlin"), "TIMESTAMP"),
        (pa.list_(pa.int8()), "ARRAY<INT64>"),
        (pa.list_(pa.float32(), 5), "FLOAT[5]"),
        (PLACE, "STRUCT<x INT64, names ARRAY<STRING>>"),
        (pa.map_(pa.string(), pa.int64()), "ARRAY<STRUCT<key STRING, value INT64>>"),
    ],
)
def test_every_type_has_its_type_in_bigquery(kind: pa.DataType, word: str) -> None:
    assert type_word(field_of(pa.field("c", kind))) == word


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (pa.list_(pa.list_(pa.int8())), "lists of lists"),
        (pa.struct([]), "objects without fields"),
        (pa.duration("s"), "duration"),
        (pa.decimal256(76, 0), "decimal256"),
    ],
)
def test_what_bigquery_cannot_hold_is_refused_with_the_reason(kind: pa.DataType, why: str) -> None:
    with pytest.raises(Unstorable, match=f"'c'.*{why}"):
        field_of(pa.field("c", kind))


def test_the_apis_older_names_are_the_same_types() -> None:
    old = [SchemaField("a", "INTEGER"), SchemaField("b", "RECORD", fields=[SchemaField("c", "BOOLEAN")])]
    assert [type_word(field) for field in old] == ["INT64", "STRUCT<c BOOL>"]


def test_what_only_sql_can_read_is_not_plain() -> None:
    assert is_plain(SchemaField("a", "NUMERIC", mode="REPEATED"))
    for kind in ("JSON", "GEOGRAPHY", "INTERVAL", "RANGE"):
        inner = SchemaField("a", kind)
        assert not is_plain(inner)
        assert not is_plain(SchemaField("b", "RECORD", fields=[SchemaField("i", "INT64"), inner]))


def through(values: list[Any], kind: pa.DataType) -> list[Any]:
    """Into the file that is loaded, and back as BigQuery hands it out."""
    field = field_of(pa.field("c", kind))
    batch = pa.RecordBatch.from_arrays([pa.array(values, kind)], names=["c"])
    stored = storable(batch, [field])
    assert stored.schema.field("c").type == file_type(field)
    schema = arrow_schema([field])
    came = shaped(stored, schema)
    assert came.schema == schema
    return came.column(0).to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.uint64(), [2**64 - 1, None]),
        (pa.decimal256(76, 38), [Decimal("1." + "1" * 38), None]),
        (pa.decimal128(18, 9), [Decimal("0.000000125")]),
        (pa.float32(), [0.5, float("inf"), None]),
        (pa.time64("us"), [dt.time(23, 59, 59, 999999)]),
        (pa.timestamp("us", tz="UTC"), [dt.datetime(1, 1, 1, tzinfo=dt.UTC), None]),
        (pa.binary(2), [b"\0\xff"]),
        (pa.list_(pa.string()), [["ä", ""], []]),
        (pa.list_(pa.float32(), 2), [[1.5, 2.5], None, [0.1, 0.2], None]),
        (PLACE, [{"x": 1, "names": ["a"]}, None, {"x": None, "names": []}]),
        (pa.list_(PLACE), [[{"x": 1, "names": ["a", "b"]}, {"x": 2, "names": []}], []]),
    ],
)
def test_values_come_back_as_they_were(kind: pa.DataType, values: list[Any]) -> None:
    assert through(values, kind) == pa.array(values, kind).to_pylist()


def test_what_bigquery_has_not_is_left_out() -> None:
    """Missing elements of lists, at any depth; a missing list is an empty one; nanoseconds are cut."""
    assert through([["a", None, "b"], None], pa.list_(pa.string())) == [["a", "b"], []]
    assert through([{"x": 1, "names": [None, "b"]}], PLACE) == [{"x": 1, "names": ["b"]}]
    assert through([1_500_000_000_000_000_001], pa.timestamp("ns")) == [dt.datetime(2017, 7, 14, 2, 40)]  # noqa: DTZ001  it has none


def test_a_slice_of_a_batch_is_stored_like_the_whole() -> None:
    """Offsets of lists and structs."""
    kinds = {"l": pa.list_(pa.string()), "v": pa.list_(pa.float32(), 2), "p": PLACE}
    rows = [
        {"l": ["a", None], "v": [1.0, 2.0], "p": {"x": 1, "names": ["q"]}},
        {"l": None, "v": None, "p": None},
        {"l": ["b"], "v": [3.0, 4.0], "p": {"x": 2, "names": [None, "r"]}},
    ]
    schema = pa.schema(list(kinds.items()))
    fields = [field_of(field) for field in schema]
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    expected = storable(batch, fields).to_pylist()
    assert [storable(batch.slice(n, 1), fields).to_pylist()[0] for n in range(3)] == expected
    assert shaped(storable(batch, fields).slice(1), arrow_schema(fields)).to_pylist()[1]["v"] == [3.0, 4.0]


def test_our_own_columns_keep_our_own_types() -> None:
    assert answers_schema([field_of(field) for field in LLM_SCHEMA]) == LLM_SCHEMA


def test_columns_that_are_only_called_as_ours_keep_theirs() -> None:
    """Of an input all, in objects, and where the type is another: the table is somebody else's."""
    llm_slice = SchemaField("llm_slice", "INT64")
    assert arrow_schema([llm_slice]).types == [pa.int64()]
    theirs = [
        SchemaField("a", "STRUCT", fields=[llm_slice]),
        SchemaField("llm_slice", "STRING"),
        SchemaField("llm_slice", "INT64", mode="REPEATED"),
    ]
    assert answers_schema(theirs).types == [pa.struct([("llm_slice", pa.int64())]), pa.string(), pa.list_(pa.int64())]
