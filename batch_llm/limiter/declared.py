"""The limits that the providers file declares, as the limiter takes them.

Belongs here: from a pool of the file to `Limits`, finding a pool by what a person calls it. Not here: reading the file
(config/providers_file.py), what is in force (views.py).
"""

from __future__ import annotations

from batch_llm.config.problems import did_you_mean
from batch_llm.config.providers_file import PoolSpec, ProvidersFile, ProviderSpec, day_resets_of, debit_of
from batch_llm.config.secrets import mask
from batch_llm.errors import ConfigurationError
from batch_llm.limiter.base import Limits

__all__ = ["declared_limits", "limits_of", "named_limits"]

GUESSED_REQUESTS_PER_MINUTE = 60.0  # where limits are `unknown`, until the provider's headers say more
GUESSED_TOKENS_PER_MINUTE = 20_000.0
# The provider's bucket stays full until our first request is there, which takes longer than any later one (a connection
# is made, thousands of requests leave at once), while ours empties from the moment it left. So much of a saved-up burst
# is left in it: without, 6,000 requests at once ended in 1 or 2 rejections (measured, latency 0.8 s).
FIRST_WAY_S = 1.0


def limits_of(provider_name: str, provider: ProviderSpec, pool: PoolSpec) -> Limits:
    """What the pool declares; a low guess where it says ``unknown``."""
    name, declared = f"{provider_name}:{pool.name}", pool.limits
    if declared == "unknown":
        return Limits(
            name,
            requests_per_minute=GUESSED_REQUESTS_PER_MINUTE,
            tokens_per_minute=GUESSED_TOKENS_PER_MINUTE,
            burst_s=_usable_s(pool.burst_s),
            window_s=pool.window_s,
            day_resets=day_resets_of(provider, pool),
            debit=debit_of(provider, pool),
            unknown=True,
        )
    return Limits(
        name,
        requests_per_minute=declared.requests_each_minute,
        tokens_per_minute=declared.tokens_each_minute,
        input_tokens_per_minute=declared.input_tokens_per_minute,
        output_tokens_per_minute=declared.output_tokens_per_minute,
        requests_per_day=declared.requests_per_day,
        tokens_per_day=declared.tokens_per_day,
        max_concurrency=declared.max_concurrency,
        enqueued_tokens=declared.enqueued_tokens,
        burst_s=_usable_s(pool.burst_s),
        window_s=pool.window_s,
        day_resets=day_resets_of(provider, pool),
        debit=debit_of(provider, pool),
    )


def _usable_s(burst_s: float) -> float:
    """What of the provider's burst is used, seconds."""
    return burst_s - min(FIRST_WAY_S, burst_s / 2)


def declared_limits(file: ProvidersFile) -> list[Limits]:
    """Every pool of the file, in its order."""
    return [limits_of(name, provider, pool) for name, provider in file.providers.items() for pool in provider.pools]


def named_limits(file: ProvidersFile, name: str) -> Limits:
    """The pool a person means: ``provider:pool``, or one of the two where that names one pool only.

    Raises `ConfigurationError` with the nearest name.
    """
    every = declared_limits(file)
    found = [limits for limits in every if limits.pool == name]
    found = found or [limits for limits in every if name in limits.pool.split(":")]
    if len(found) == 1:
        return found[0]
    names = [limits.pool for limits in every]
    if found:
        meant = ", ".join(limits.pool for limits in found)
        raise ConfigurationError(f"{mask(name)} may mean {meant}; write the whole name")
    near = did_you_mean(name, names)
    raise ConfigurationError(f"there is no pool {mask(name)} in {file.source.name}{near} (pools: {', '.join(names)})")
