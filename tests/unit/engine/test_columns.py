"""Columns built through buffers hold what Arrow itself would make of the values."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.engine.columns import column, repeated
from batch_llm.warehouse.base import LLM_SCHEMA, PRICE_TYPE
from tests.search import examples

MOMENTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), TEXTS),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.timestamp("us", tz="UTC"), MOMENTS),
    (pa.list_(pa.string()), st.lists(TEXTS, max_size=3)),
    (pa.struct([pa.field("a", pa.int64())]), st.fixed_dictionaries({"a": st.integers(-5, 5)})),
]


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=str)
@given(data=st.data())
@settings(max_examples=examples(60))
def test_a_column_is_what_arrow_makes_of_its_values(
    kind: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(st.none() | values, max_size=20))
    made = column(drawn, kind)
    made.validate(full=True)
    assert made.equals(pa.array(drawn, kind))


@given(st.lists(st.none() | st.integers(-(10**17), 10**17), max_size=20))
@settings(max_examples=examples(60))
def test_costs_are_billionths(units: list[int | None]) -> None:
    made = column(units, PRICE_TYPE)
    made.validate(full=True)
    assert made.to_pylist() == [None if unit is None else Decimal(unit).scaleb(-9) for unit in units]


@pytest.mark.parametrize("field", list(LLM_SCHEMA), ids=lambda field: str(field.name))
def test_a_value_for_all_rows_is_repeated(field: pa.Field) -> None:
    """None as well; for no row at all, too."""
    for count in (0, 3):
        assert repeated(None, count, field.type).equals(pa.nulls(count, field.type))
    if pa.types.is_string(field.type):
        assert repeated("x", 3, field.type).to_pylist() == ["x", "x", "x"]
