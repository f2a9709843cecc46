"""An answer to many rows is good for all of them or for none, and each row finds its own vector again."""

from __future__ import annotations

import base64
import struct

import orjson
import pytest

from batch_llm.engine.call_answers import KEPT_CALLS, CallJudge, StoredVectors
from batch_llm.errors import ErrorClass
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.providers.openai_embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai_http import OpenAIEndpoint

PROVIDER = OpenAIEmbeddingProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
JUDGE = CallJudge(PROVIDER, EmbeddingAnswer(2))


def vector(number: float, size: int = 2) -> bytes:
    return struct.pack(f"<{size}f", *[number] * size)


def body(*vectors: bytes) -> bytes:
    data = [{"index": place, "embedding": base64.b64encode(each).decode()} for place, each in enumerate(vectors)]
    return orjson.dumps({"data": data, "usage": {"prompt_tokens": 9, "total_tokens": 9}})


def test_a_good_answer_has_a_vector_for_each_row() -> None:
    verdict = JUDGE.judge(body(vector(1), vector(2)), 2)
    assert (verdict.error_class, verdict.vectors) == (None, (vector(1), vector(2)))
    assert verdict.usage is not None and verdict.usage.input_tokens == 9


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (body(vector(1)), ErrorClass.MALFORMED, "1 vectors for 2 texts"),
        (body(*[vector(1)] * 3), ErrorClass.MALFORMED, "3 vectors for 2 texts"),
        (body(), ErrorClass.EMPTY, "no vectors"),
        (
            body(vector(1, 3), vector(2, 3)),
            ErrorClass.INVALID_REQUEST,
            "vectors of 3 numbers, not 2: params.dimensions",
        ),
        (b"<html>", ErrorClass.MALFORMED, "not a list of embeddings"),
    ],
)
def test_a_bad_answer_is_bad_for_all_rows_and_its_bill_is_known_where_it_is_told(
    answer: bytes, expected: ErrorClass, words: str
) -> None:
    verdict = JUDGE.judge(answer, 2)
    assert (verdict.error_class, verdict.vectors) == (expected, ())
    assert words in verdict.message
    assert (verdict.usage is None) == (answer == b"<html>")


def test_rows_in_order_decode_each_answer_once_and_few_are_kept() -> None:
    bodies = {place: body(*(vector(place * 10 + row) for row in range(3))) for place in range(2 * KEPT_CALLS)}
    read: list[int] = []

    def stored(place: int) -> bytes:
        read.append(place)
        return bodies[place]

    vectors = StoredVectors(JUDGE, stored)
    for place in bodies:
        assert [vectors.vector(place, row, 3) for row in range(3)] == [vector(place * 10 + row) for row in range(3)]
    assert read == list(bodies)
    assert vectors.vector(0, 1, 3) == vector(1)
    assert read == [*bodies, 0]


def test_a_stored_answer_that_is_not_good_has_no_vector() -> None:
    assert StoredVectors(JUDGE, lambda _: body(vector(1))).vector(0, 0, 2) is None
