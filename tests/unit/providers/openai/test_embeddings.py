"""What a stored embeddings body says, and what is refused."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint

PROVIDER = OpenAIEmbeddingProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def body(*vectors: Any, **changes: Any) -> bytes:
    data = [
        {"index": place, "embedding": base64.b64encode(each).decode() if isinstance(each, bytes) else each}
        for place, each in enumerate(vectors)
    ]
    return orjson.dumps({"data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}, **changes})


def test_vectors_stay_the_bytes_that_came() -> None:
    read = PROVIDER.read(body(packed(1, 2), packed(0.1, -3)))
    assert read.vectors == (packed(1, 2), packed(0.1, -3))
    assert read.model == "m"
    assert read.usage is not None
    assert (read.usage.input_tokens, read.usage.output_tokens, read.usage.cached_input_tokens) == (3, 0, 0)


def test_plain_numbers_are_packed() -> None:
    """Some compatible servers send them, whatever they are asked for."""
    assert PROVIDER.read(body([1, 2.5], [0.1, -3])).vectors == (packed(1, 2.5), packed(0.1, -3))


def test_vectors_are_told_by_their_index_not_by_their_order() -> None:
    data = [{"index": place, "embedding": [place]} for place in (2, 0, 1)]
    assert PROVIDER.read(body(data=data)).vectors == (packed(0), packed(1), packed(2))


def test_an_answer_without_vectors_is_read_as_that() -> None:
    """How many there must be is for the caller to know."""
    assert PROVIDER.read(body()).vectors == ()


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        b"[]",
        b"7",
        b"{}",
        body(data=None),
        body(data=[7]),
        body(data=[{"embedding": [1]}]),
        body(data=[{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]),
        body(data=[{"index": 1, "embedding": [1]}]),
        body(data=[{"index": 0}]),
        body(data=[{"index": [], "embedding": [1]}]),
        body(None),
        body([]),
        body(""),
        body("!!!!"),
        body("AAA="),  # two bytes
        body([1, "a"]),
        body([1, None]),
        body([1, [2]]),
        body(["1", "2"]),
        body([True, False]),
        body([[1.0], [2.0]]),
        body({"0": 1.0}),
        body([1e300]),
        body(packed(1, float("nan"))),
        body(packed(float("inf"))),
        body(packed(1, 2), packed(1)),
    ],
)
def test_what_the_api_does_not_document_is_malformed_and_may_be_paid(wrong: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        PROVIDER.read(wrong)
    assert caught.value.error_class is ErrorClass.MALFORMED
    assert caught.value.maybe_paid


@pytest.mark.parametrize(
    "usage",
    [
        None,
        7,
        {},
        {"prompt_tokens": -1, "total_tokens": -1},
        {"prompt_tokens": 10**12, "total_tokens": 10**12},
        {"prompt_tokens": "3", "total_tokens": 3},
        {"prompt_tokens": 3, "total_tokens": 4},
    ],
)
def test_a_usage_that_cannot_be_true_is_unknown(usage: Any) -> None:
    assert PROVIDER.read(body(packed(1), usage=usage)).usage is None
