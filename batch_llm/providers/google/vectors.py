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

__all__ = ["no_vectors", "packed_vectors", "usage_of"]


def packed_vectors(each_values: Sequence[Any]) -> tuple[bytes, ...]:
    """Lists of numbers as float32, little endian; raises `ProviderError` for what are no vectors of one size."""
    try:
        with np.errstate(over="ignore"):  # too large for 4 bytes: infinite, and refused as such
            vectors = [np.array(values, dtype="<f4") for values in each_values]
    except (TypeError, ValueError):
        raise no_vectors("the answer is not a list of embeddings") from None
    if len({vector.shape for vector in vectors}) > 1 or any(vector.ndim != 1 or not vector.size for vector in vectors):
        raise no_vectors("the vectors of one answer are of several sizes, or of none")
    if not all(np.isfinite(vector).all() for vector in vectors):
        raise no_vectors("a vector holds what is no number")
    return tuple(vector.tobytes() for vector in vectors)


def no_vectors(message: str) -> ProviderError:
    """What to raise for an answer that is not what the API documents; it may be billed."""
    return ProviderError(ErrorClass.MALFORMED, message, maybe_paid=True)


def usage_of(data: object) -> Usage | None:
    """Out of a `usageMetadata`; None when it is absent, as with older models, or cannot be true."""
    given = data.get("promptTokenCount") if isinstance(data, dict) else None
    return Usage(given, 0) if type(given) is int and 0 <= given < ABSURD_TOKENS else None
