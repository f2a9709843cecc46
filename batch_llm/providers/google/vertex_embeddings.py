"""Vectors of Vertex AI over aiohttp: `predict` for many texts, `embedContent` for the models that have no other method.

Belongs here: both requests' and answers' JSON, which model wants which. Not here: vectors as bytes (vectors.py), the
Gemini API's method (embeddings.py), sending (transport.py), which rows go into one call (engine/packing.py).

A text that is too long is refused and not cut: `autoTruncate` is on where it is not said.
Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api (instances,
parameters, statistics), https://docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings (250
texts and 20,000 tokens of a request, 2,048 of a text, one text for gemini-embedding-001),
https://github.com/vercel/ai/issues/15853 and https://github.com/agentgateway/agentgateway/pull/2968 (gemini-embedding-2
has embedContent only, with these fields, and one text), google-cloud-ai_platform-v1 1.36.0, EmbedContentRequest and
EmbedContentResponse (read 2026-11-29).
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from batch_llm.providers.base import EmbeddingRequest, Embeddings, RawAnswer, Sending, Usage
from batch_llm.providers.call_size import CallSize
from batch_llm.providers.google.endpoint import ABSURD_TOKENS, GoogleEndpoint
from batch_llm.providers.google.vectors import no_vectors, packed_vectors, usage_of
from batch_llm.providers.transport import Connected

__all__ = ["VertexEmbeddingProvider", "call_size"]

PREDICT, EMBED_CONTENT = "predict", "embedContent"
_ONE_TEXT = re.compile(r"gemini-embedding")
_WITHOUT_PREDICT = re.compile(r"gemini-embedding-(?!001)")


def call_size(model: str) -> CallSize:
    """What one call for this model's vectors may hold."""
    return CallSize(texts=1 if _ONE_TEXT.search(model) else 250, tokens=20_000, text_tokens=2_048)


class VertexEmbeddingProvider(Connected):
    """One project, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: GoogleEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        super().__init__(endpoint.connection())

    async def send(
        self, request: EmbeddingRequest, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `EmbeddingProvider.send`."""
        alone = _WITHOUT_PREDICT.search(request.model) is not None
        url = self._endpoint.url(request.model, EMBED_CONTENT if alone else PREDICT)
        body = orjson.dumps(_content(request) if alone else _instances(request))
        headers = self._endpoint.attempt_headers(request.custom_id, request.attempt)
        return await self._connection.post(url, body, total_s=total_s, sending=sending, headers=headers)

    def read(self, body: bytes) -> Embeddings:
        """See `EmbeddingProvider.read`. The answer does not name its model."""
        try:
            data = orjson.loads(body)
            return _predicted(data["predictions"]) if "predictions" in data else _embedded(data)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise no_vectors("the answer is neither predictions nor an embedding") from None


def _instances(request: EmbeddingRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {"autoTruncate": False}
    if "dimensions" in request.params:
        parameters["outputDimensionality"] = request.params["dimensions"]
    return {"instances": [{"content": text} for text in request.texts], "parameters": parameters}


def _content(request: EmbeddingRequest) -> dict[str, Any]:
    (text,) = request.texts
    body: dict[str, Any] = {"content": {"parts": [{"text": text}]}, "autoTruncate": False}
    if "dimensions" in request.params:
        body["outputDimensionality"] = request.params["dimensions"]
    return body


def _predicted(predictions: list[dict[str, Any]]) -> Embeddings:
    made = [each["embeddings"] for each in predictions]
    told = [each.get("statistics") or {} for each in made]
    vectors = packed_vectors([each["values"] for each in made])
    return Embeddings(vectors, _counted(told), "", sum(each.get("truncated") is True for each in told))


def _counted(told: list[dict[str, Any]]) -> Usage | None:
    """The tokens of all texts; None when one is not told, or cannot be true. JSON of a Struct has no whole numbers."""
    counts = [each.get("token_count") for each in told]
    known = [count for count in counts if isinstance(count, int | float) and 0 <= count < ABSURD_TOKENS]
    return Usage(int(sum(known)), 0) if known and len(known) == len(counts) else None


def _embedded(data: dict[str, Any]) -> Embeddings:
    values = data["embedding"].get("values")
    vectors = () if values is None else packed_vectors([values])
    return Embeddings(vectors, usage_of(data.get("usageMetadata")), "", int(data.get("truncated") is True))
