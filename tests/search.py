"""How long property tests look for a counterexample: short and the same each time in CI, long in `make search`.

Belongs here: the one factor. Not here: the tests' own settings, Hypothesis' profiles (conftest.py).
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["FACTOR", "examples"]

FACTOR: Final = int(os.environ.get("SEARCH_FACTOR", "1"))


def examples(count: int) -> int:
    """How many examples to try where a plain test run tries ``count``."""
    return count * max(1, FACTOR)
