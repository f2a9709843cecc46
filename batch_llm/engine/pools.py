"""The pools that answer a job's model: what is known of each, and what it takes to ask it.

Belongs here: the records, and what several pools are together. Not here: which of them a row goes to (pipeline.py), how
one of them fares in a run (route.py), finding them in the providers file (config/providers_file.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from batch_llm.limiter.base import Limits, RateLimiter
from batch_llm.pricing import Price
from batch_llm.providers.base import AnyProvider
from batch_llm.providers.call_size import AS_OPENAI, CallSize

__all__ = ["OpenPool", "Pool", "dearest", "joint_limits", "prices_by_pool"]

RATES = (
    *("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute"),
    *("requests_per_day", "tokens_per_day", "max_concurrency"),
)


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of a pool without its key."""

    name: str  # in its provider
    limits: Limits
    price: Price | None  # None: unknown
    call_size: CallSize = AS_OPENAI  # of one call for vectors


@dataclass(frozen=True, slots=True)
class OpenPool:
    """A pool that can be asked: its connection, and the limiter that guards it."""

    pool: Pool
    provider: AnyProvider
    limiter: RateLimiter


def joint_limits(pools: Sequence[Pool]) -> Limits:
    """What they allow together; a limit that one of them does not declare is none of all."""
    first = pools[0].limits
    if len(pools) == 1:
        return first
    every = {name: [getattr(pool.limits, name) for pool in pools] for name in RATES}
    sums: dict[str, Any] = {name: None if None in values else sum(values) for name, values in every.items()}
    unknown = any(pool.limits.unknown for pool in pools)
    return replace(first, pool=" + ".join(pool.limits.pool for pool in pools), unknown=unknown, **sums)


def dearest(pools: Sequence[Pool]) -> Price | None:
    """The price of the pool where a request costs most; None when one of them is unknown."""
    prices = [pool.price for pool in pools]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return None
    return max(known, key=lambda price: price.cost_nano(1_000_000, 1_000_000, requests=1_000_000))


def prices_by_pool(pools: Sequence[Pool]) -> Mapping[str, Price | None]:
    """Each pool's price by its name; empty where there is one pool only, whose price is every answer's."""
    return {} if len(pools) == 1 else {pool.name: pool.price for pool in pools}
