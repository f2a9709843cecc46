"""Google's batchEmbedContents over aiohttp, of the Gemini API.

Belongs here: the request's and answer's JSON. Not here: vectors as bytes (vectors.py), Vertex AI's methods
(vertex_embeddings.py), sending (transport.py), which rows go into one call (engine/packing.py).
Source: https://ai.google.dev/api/embeddings, google-genai 3.6.1, models.py and types.py (read 2026-11-29).
"""

from __future__ import annotations

from typing import Any

import orjson

from batch_llm.providers.base import EmbeddingRequest, Embeddings, RawAnswer, Sending
from batch_llm.providers.call_size import CallSize
from batch_llm.providers.google.endpoint import GoogleEndpoint
from batch_llm.providers.google.vectors import no_vectors, packed_vectors, usage_of
from batch_llm.providers.transport import Connected

__all__ = ["CALL_SIZE", "GoogleEmbeddingProvider"]

METHOD = "batchEmbedContents"
# Source: https://github.com/geldata/gel/issues/9032 (at most 100), https://github.com/garrytan/gbrain/pull/1922 (each
# counts: a call of 100 uses up 100 requests a minute; read 2026-11-29).
CALL_SIZE = CallSize(texts=100, text_is_request=True)


class GoogleEmbeddingProvider(Connected):
    """One endpoint, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: GoogleEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        super().__init__(endpoint.connection())

    async def send(
        self, request: EmbeddingRequest, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `EmbeddingProvider.send`. Each text repeats the model and the size."""
        same: dict[str, Any] = {"model": f"models/{request.model}"}
        if "dimensions" in request.params:
            same["outputDimensionality"] = request.params["dimensions"]
        asked = [{**same, "content": {"parts": [{"text": text}]}} for text in request.texts]
        url = self._endpoint.url(request.model, METHOD)
        headers = self._endpoint.attempt_headers(request.custom_id, request.attempt)
        body = orjson.dumps({"requests": asked})
        return await self._connection.post(url, body, total_s=total_s, sending=sending, headers=headers)

    def read(self, body: bytes) -> Embeddings:
        """See `EmbeddingProvider.read`. The answer does not name its model."""
        try:
            data = orjson.loads(body)
            values = [each["values"] for each in data["embeddings"]]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise no_vectors("the answer is not a list of embeddings") from None
        return Embeddings(packed_vectors(values), usage_of(data.get("usageMetadata")), "")
