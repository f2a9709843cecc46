"""The simulated model's vectors.

Belongs here: a vector as a function of text, model, seed and size. Not here: the JSON around it (embeddings.py).
"""

from __future__ import annotations

from hashlib import blake2b, shake_128

import numpy as np

__all__ = ["unit_vector"]


def unit_vector(content: bytes, model: str, seed: int, dimensions: int) -> bytes:
    """A vector of length 1: ``dimensions`` numbers, float32, little endian. 80 µs for 1,536.

    Always the same for the same arguments. A shorter one is the beginning of the longer, brought to length 1 again.
    Source: https://developers.openai.com/api/docs/guides/embeddings ("shorten embeddings (i.e. remove some numbers from
    the end of the sequence)", normalised to length 1) (public copies, read 2026-11-28).
    """
    start = blake2b(content, digest_size=32, key=f"{seed}/{model}".encode()[:64]).digest()
    drawn = np.frombuffer(shake_128(start).digest(4 * dimensions), dtype="<i4").astype(np.float64)
    return (drawn / np.linalg.norm(drawn)).astype("<f4").tobytes()
