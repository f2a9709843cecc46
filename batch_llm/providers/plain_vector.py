"""A vector that comes as plain JSON numbers, as bytes.

Belongs here: what is one, whoever's JSON it stands in. Not here: a provider's answer, vectors in base64
(openai/embeddings.py), whether all vectors of an answer are of one size (the readers).
"""

from __future__ import annotations

from array import array

import numpy as np

__all__ = ["packed_numbers"]


def packed_numbers(values: object) -> bytes:
    """A list of numbers as float32, little endian; one that is too large for that becomes infinite.

    `array` takes real numbers only, and gives up at the first that is none. NumPy would read texts as numbers; left to
    find the type itself, it would make room in every place for the longest text of the list. A truth value is a number
    to both: it is looked for in the first place only, as a look at all of them takes twice as long as the rest.

    Raises:
        TypeError: It is no list of numbers, or has none.
    """
    if not isinstance(values, list) or not values or isinstance(values[0], bool):
        raise TypeError("no list of numbers")
    return np.array(array("f", values), dtype="<f4").tobytes()
