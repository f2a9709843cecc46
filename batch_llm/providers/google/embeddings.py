"""Google's batchEmbedContents over aiohttp, of the Gemini API.

Belongs here: the request's and answer's JSON; vectors as bytes. Not here: sending (transport.py), which rows go into
one call (engine/packing.py), the column (job/embedding.py).
Source: https://ai.google.dev/api/embeddings, google-genai 3.6.1, models.py and types.py (read 2026-11-29).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import EmbeddingRequest, Embeddings, RawAnswer, Sending, Usage
from batch_llm.providers.google.endpoint import ABSURD_TOKENS, GoogleEndpoint
from batch_llm.providers.transport import Connected

__all__ = ["CALL_TEXTS", "GoogleEmbeddingProvider"]

METHOD = "batchEmbedContents"
# Source: https://github.com/geldata/gel/issues/9032 (read 2026-11-29).
CALL_TEXTS = 100


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
            with np.errstate(over="ignore"):  # too large for 4 bytes: infinite, and refused as such
                vectors = [np.array(each["values"], dtype="<f4") for each in data["embeddings"]]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise _malformed("the answer is not a list of embeddings") from None
        if len({vector.shape for vector in vectors}) > 1 or any(
            vector.ndim != 1 or not vector.size for vector in vectors
        ):
            raise _malformed("the vectors of one answer are of several sizes, or of none")
        if not all(np.isfinite(vector).all() for vector in vectors):
            raise _malformed("a vector holds what is no number")
        return Embeddings(tuple(vector.tobytes() for vector in vectors), _usage(data.get("usageMetadata")), "")


def _malformed(message: str) -> ProviderError:
    return ProviderError(ErrorClass.MALFORMED, message, maybe_paid=True)


def _usage(data: object) -> Usage | None:
    """The usage an answer states; None when it is absent, as with older models, or cannot be true."""
    given = data.get("promptTokenCount") if isinstance(data, dict) else None
    return Usage(given, 0) if isinstance(given, int) and 0 <= given < ABSURD_TOKENS else None
