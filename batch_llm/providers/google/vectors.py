"""Vectors in Google's JSON, as bytes.

Belongs here: what all its methods for vectors have in common. Not here: a method's request and answer (embeddings.py,
vertex_embeddings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Usage
from batch_llm.providers.google.endpoint import ABSURD_TOKENS
from batch_llm.providers.plain_vector import packed_numbers

__all__ = ["no_vectors", "packed_vectors", "usage_of"]


def packed_vectors(each_values: Sequence[Any]) -> tuple[bytes, ...]:
    """Lists of numbers as float32, little endian; raises `ProviderError` for what are no vectors of one size."""
    try:
        vectors = tuple(map(packed_numbers, each_values))  # one too large for 4 bytes is infinite, and refused as such
    except (TypeError, ValueError):
        raise no_vectors("the answer is not a list of embeddings") from None
    if len({len(vector) for vector in vectors}) > 1:
        raise no_vectors("the vectors of one answer are of several sizes")
    if not np.isfinite(np.frombuffer(b"".join(vectors), dtype="<f4")).all():
        raise no_vectors("a vector holds what is no number")
    return vectors


def no_vectors(message: str) -> ProviderError:
    """What to raise for an answer that is not what the API documents; it may be billed."""
    return ProviderError(ErrorClass.MALFORMED, message, maybe_paid=True)


def usage_of(data: object) -> Usage | None:
    """Out of a `usageMetadata`; None when it is absent, as with older models, or cannot be true."""
    given = data.get("promptTokenCount") if isinstance(data, dict) else None
    return Usage(given, 0) if type(given) is int and 0 <= given < ABSURD_TOKENS else None
