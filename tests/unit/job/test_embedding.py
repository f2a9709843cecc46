"""The column of vectors, and what is known of their size."""

from __future__ import annotations

import random
import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.job.embedding import EmbeddingAnswer, embedding_model
from batch_llm.job.schema import AnswerMismatch

NUMBERS = st.floats(width=32, allow_nan=False)


def test_the_answer_is_one_column_of_lists_of_one_size_and_nothing_is_told_to_the_provider() -> None:
    answer = EmbeddingAnswer(1536)
    assert (answer.columns, answer.json_schema) == (("embedding",), None)
    assert answer.arrow_fields == [pa.field("embedding", pa.list_(pa.float32(), 1536))]


@given(rows=st.lists(st.none() | st.lists(NUMBERS, min_size=3, max_size=3), max_size=20))
def test_a_column_holds_the_numbers_that_came_and_nothing_where_none_came(rows: list[list[float] | None]) -> None:
    column = EmbeddingAnswer(3).column([None if row is None else struct.pack("<3f", *row) for row in rows])
    column.validate(full=True)
    assert column.type == pa.list_(pa.float32(), 3)
    assert column.to_pylist() == rows


def test_a_vector_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a vector of 2 numbers among those of 3"):
        EmbeddingAnswer(3).column([bytes(12), None, bytes(8)])


def test_the_column_fits_into_a_table_with_the_declared_field() -> None:
    answer = EmbeddingAnswer(2)
    numbers = [struct.pack("<2f", random.random(), 1) for _ in range(5)]
    batch = pa.RecordBatch.from_arrays([answer.column(numbers)], schema=pa.schema(answer.arrow_fields))
    assert batch.num_rows == 5


def test_no_text_is_a_vector() -> None:
    with pytest.raises(AnswerMismatch):
        EmbeddingAnswer(2).parse("[0.5, 0.5]")


@pytest.mark.parametrize(
    ("name", "dimensions", "shortens"),
    [
        ("text-embedding-3-small", 1536, True),
        ("text-embedding-3-large", 3072, True),
        ("text-embedding-ada-002", 1536, False),
        ("openai/text-embedding-3-small", 1536, True),
        ("gemini-embedding-001", 3072, True),
        ("text-embedding-005", 768, True),
    ],
)
def test_the_sizes_of_openais_and_googles_models_are_known(name: str, dimensions: int, shortens: bool) -> None:
    known = embedding_model(name)
    assert known is not None
    assert (known.dimensions, known.shortens) == (dimensions, shortens)


def test_no_other_size_is_guessed() -> None:
    assert embedding_model("text-embedding-4") is None
    assert embedding_model("my-text-embedding-3-small") is None
