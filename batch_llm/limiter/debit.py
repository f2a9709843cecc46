"""What a request takes from each dimension, by the provider's own formula.

Belongs here: the debit rules. Not here: when it may be sent (rate_clock.py), how tokens are predicted (tokens.py).
Reserving by the provider's formula, not the quality of the prediction, decides how many requests it rejects.
"""

from __future__ import annotations

from batch_llm.limiter.base import Cost, Limits

__all__ = ["DIMENSIONS", "amounts_of", "declared_limits", "is_corrected"]

DIMENSIONS = ("requests", "tokens", "input_tokens", "output_tokens")


def declared_limits(limits: Limits) -> dict[int, float]:
    """The pool's limits per minute by their place in `DIMENSIONS`; only those there are."""
    everything = (
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.input_tokens_per_minute,
        limits.output_tokens_per_minute,
    )
    return {place: limit for place, limit in enumerate(everything) if limit is not None}


def is_corrected(limits: Limits) -> bool:
    """Whether the provider's count follows the tokens that were really used."""
    return limits.debit != "input_plus_max_tokens"


def amounts_of(limits: Limits, cost: Cost) -> tuple[float, float, float, float]:
    """What to reserve for ``cost``, in the order of `DIMENSIONS`.

    Without a cap on the output the prediction stands in for it.
    """
    output = cost.output_tokens
    if limits.debit != "actual" and cost.max_output_tokens is not None:
        output = cost.max_output_tokens
    return (cost.requests, cost.input_tokens + output, cost.input_tokens, output)
