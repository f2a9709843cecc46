"""OpenAI's embeddings over aiohttp, for every kind of provider that speaks it (kinds/).

Belongs here: the request's and answer's JSON; vectors as bytes, never as Python floats. Not here: sending
(transport.py), which rows go into one call (engine/packing.py), the column (job/embedding.py).
Source: openai 3.54.0, types/embedding_create_params.py, types/create_embedding_response.py,
lib/_parsing/_embeddings.py (read 2026-11-28).
"""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np
import orjson

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import EmbeddingRequest, Embeddings, RawAnswer, Sending, Usage
from batch_llm.providers.openai.endpoint import ABSURD_TOKENS, OpenAIEndpoint
from batch_llm.providers.plain_vector import packed_numbers
from batch_llm.providers.transport import Connected

__all__ = ["OpenAIEmbeddingProvider"]

FLOAT_BYTES = 4


class OpenAIEmbeddingProvider(Connected):
    """One endpoint, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: OpenAIEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        self._url = endpoint.url("/embeddings")
        super().__init__(endpoint.connection())

    @property
    def endpoint(self) -> OpenAIEndpoint:
        """Where this provider sends."""
        return self._endpoint

    async def send(
        self, request: EmbeddingRequest, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `EmbeddingProvider.send`."""
        body = {
            "model": self._endpoint.wire_model(request.model),
            "input": request.texts,
            "encoding_format": "base64",
            **request.params,
        }
        headers = self._endpoint.attempt_headers(request.custom_id, request.attempt)
        return await self._connection.post(
            self._url, orjson.dumps(body), total_s=total_s, sending=sending, headers=headers
        )

    def read(self, body: bytes) -> Embeddings:
        """See `EmbeddingProvider.read`. 80 µs per vector of 1,536 numbers: JSON and base64."""
        try:
            data = orjson.loads(body)
            listed = data["data"]
            by_place = {item["index"]: _packed(item["embedding"]) for item in listed}
            vectors = tuple(by_place[place] for place in range(len(listed)))
            model = data.get("model")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise _malformed("the answer is not a list of embeddings") from None
        if len({len(vector) for vector in vectors}) > 1:
            raise _malformed("the vectors of one answer are of several sizes")
        if not np.isfinite(np.frombuffer(b"".join(vectors), dtype="<f4")).all():
            raise _malformed("a vector holds what is no number")
        return Embeddings(vectors, _usage(data.get("usage")), model if isinstance(model, str) else "")


def _packed(vector: Any) -> bytes:
    """Float32, little endian. Some compatible servers send plain numbers, whatever they are asked for.

    Source: https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/756 (read 2026-11-28).
    """
    if not isinstance(vector, str):
        return packed_numbers(vector)  # one too large for 4 bytes is infinite, and refused as such
    packed = binascii.a2b_base64(vector, strict_mode=True)
    if not packed or len(packed) % FLOAT_BYTES:
        raise ValueError("no whole numbers of 4 bytes")
    return packed


def _malformed(message: str) -> ProviderError:
    return ProviderError(ErrorClass.MALFORMED, message, maybe_paid=True)


def _usage(data: object) -> Usage | None:
    """The usage an answer states; None when it is absent or cannot be true."""
    if not isinstance(data, dict):
        return None
    given, total = data.get("prompt_tokens"), data.get("total_tokens")
    if type(given) is not int or not 0 <= given < ABSURD_TOKENS:
        return None
    if isinstance(total, int) and total != given:
        return None
    return Usage(input_tokens=given, output_tokens=0)
