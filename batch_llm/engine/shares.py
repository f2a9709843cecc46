"""What one call cost, split over the rows it asked.

Belongs here: the split, exact in sum. Not here: what the call cost (pricing.py), which rows it asked (packing.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from batch_llm.pricing import COST_PLACES

__all__ = ["shared_cost_usd", "shared_tokens"]


def shared_tokens(tokens: int, weights: Sequence[int]) -> list[int]:
    """The tokens of a call, one number per row, in proportion to ``weights`` (its rows' predicted tokens).

    The numbers add up to ``tokens`` exactly: each row gets the whole part of its share, and what is left goes one each
    to the largest rests, the first row of equal ones first (largest remainder). No share is further than 1 from its
    proportion. Rows without any weight share evenly.

    Args:
        tokens: 0 or more.
        weights: One per row, at least one row, each 0 or more.
    """
    if not weights or tokens < 0 or min(weights) < 0:
        raise ValueError(f"{tokens} tokens cannot be shared by weights {list(weights[:3])}..")
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares = [tokens * weight // whole for weight in weights]
    rests = [tokens * weight % whole for weight in weights]
    largest = sorted(range(len(weights)), key=lambda row: -rests[row])  # stable: the first of equal ones first
    for row in largest[: tokens - sum(shares)]:
        shares[row] += 1
    return shares


def shared_cost_usd(cost_usd: Decimal, weights: Sequence[int]) -> list[Decimal]:
    """The cost of a call, US dollars of 9 places, one number per row; adds up to ``cost_usd`` exactly.

    ``weights``: what each row has of the call's tokens (`shared_tokens`), so that equal rows cost the same to a
    billionth of a dollar. ``cost_usd`` has at most 9 places, as `Price.cost` gives it.
    """
    steps = cost_usd / COST_PLACES
    if steps != int(steps):
        raise ValueError(f"{cost_usd} US dollars have more than 9 places")
    return [COST_PLACES * step for step in shared_tokens(int(steps), weights)]
