"""What an answer of Vertex AI's predict or embedContent means."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Usage
from batch_llm.providers.google.endpoint import GoogleEndpoint
from batch_llm.providers.google.vertex_embeddings import VertexEmbeddingProvider, call_size

PROVIDER = VertexEmbeddingProvider("vertex", GoogleEndpoint("https://host/v1/projects/p/locations/l/publishers/google"))


def predicted(*each: tuple[Any, Any]) -> bytes:
    """An answer of predict: (values, statistics) per text."""
    made = [{"embeddings": {"values": values, "statistics": told}} for values, told in each]
    return orjson.dumps({"predictions": made, "metadata": {"billableCharacterCount": 9}})


def test_predictions_are_packed_in_their_order_and_their_tokens_added_up() -> None:
    found = PROVIDER.read(predicted(([1, 0.5], {"token_count": 3}), ([-2, 3], {"token_count": 4.0})))
    assert found.vectors == tuple(np.array(each, dtype="<f4").tobytes() for each in ([1, 0.5], [-2, 3]))
    assert (found.usage, found.cut) == (Usage(7, 0), 0)


def test_an_embedding_has_a_usage_of_its_own() -> None:
    found = PROVIDER.read(orjson.dumps({"embedding": {"values": [1.0]}, "usageMetadata": {"promptTokenCount": 5}}))
    assert (len(found.vectors), found.usage, found.cut) == (1, Usage(5, 0), 0)


@pytest.mark.parametrize("told", [None, {}, {"token_count": -1}, {"token_count": 1e12}, {"token_count": "3"}])
def test_without_all_counts_the_usage_is_unknown_and_the_vectors_are_good(told: Any) -> None:
    found = PROVIDER.read(predicted(([1.0], {"token_count": 3}), ([2.0], told)))
    assert (found.usage, len(found.vectors)) == (None, 2)


def test_texts_that_were_cut_are_told() -> None:
    cut = {"token_count": 2_048, "truncated": True}
    assert PROVIDER.read(predicted(([1.0], cut), ([1.0], {"token_count": 1, "truncated": False}))).cut == 1
    assert PROVIDER.read(orjson.dumps({"embedding": {"values": [1.0]}, "truncated": True})).cut == 1


def test_an_answer_without_vectors_has_none() -> None:
    assert PROVIDER.read(predicted()).vectors == PROVIDER.read(b'{"embedding": {}}').vectors == ()


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"<html>", b'{"predictions": 7}', b'{"predictions": [{}]}', b'{"embedding": 7}'),
        *(
            predicted(([1.0], {}), ([1.0, 2.0], {})),
            predicted(([], {})),
            predicted(([1e39], {})),
            predicted((None, {})),
        ),
    ],
)
def test_what_are_no_vectors_is_malformed_and_may_be_paid(body: bytes) -> None:
    with pytest.raises(ProviderError) as error:
        PROVIDER.read(body)
    assert (error.value.error_class, error.value.maybe_paid) == (ErrorClass.MALFORMED, True)


def test_a_gemini_model_takes_one_text() -> None:
    assert [
        call_size(model).texts for model in ("text-embedding-005", "gemini-embedding-001", "gemini-embedding-2")
    ] == [
        250,
        1,
        1,
    ]
