"""What an answer of batchEmbedContents means."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Usage
from batch_llm.providers.google.embeddings import GoogleEmbeddingProvider
from batch_llm.providers.google.endpoint import GoogleEndpoint

PROVIDER = GoogleEmbeddingProvider("gemini", GoogleEndpoint("https://host/v1beta/models"))


def answer(*vectors: Any, **more: Any) -> bytes:
    return orjson.dumps({"embeddings": [{"values": vector} for vector in vectors], **more})


def test_vectors_are_packed_in_their_order() -> None:
    found = PROVIDER.read(answer([1, 0.5], [-2, 3], usageMetadata={"promptTokenCount": 7}))
    assert found.vectors == tuple(np.array(each, dtype="<f4").tobytes() for each in ([1, 0.5], [-2, 3]))
    assert found.usage == Usage(7, 0)


@pytest.mark.parametrize("usage", [{}, {"usageMetadata": {}}, {"usageMetadata": {"promptTokenCount": -1}}])
def test_without_a_usage_it_is_unknown_and_the_vectors_are_good(usage: Any) -> None:
    found = PROVIDER.read(answer([1.0], **usage))
    assert (found.usage, len(found.vectors)) == (None, 1)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"<html>", b'{"embeddings": [{}]}', b'{"embeddings": 7}'),
        *(answer([1.0], [1.0, 2.0]), answer([]), answer([1e39]), answer(["a"]), answer([[1.0]]), answer("1")),
        *(answer(["1", "2"]), answer([True, False]), answer([[1.0], [2.0]]), answer({"0": 1.0}), answer(1.0)),
    ],
)
def test_what_is_no_list_of_vectors_is_malformed_and_may_be_paid(body: bytes) -> None:
    with pytest.raises(ProviderError) as error:
        PROVIDER.read(body)
    assert (error.value.error_class, error.value.maybe_paid) == (ErrorClass.MALFORMED, True)
