"""What several tests of the providers file look up.

Belongs here: look-ups. Not here: promises.
"""

from __future__ import annotations

from batch_llm.config.providers_file import PoolSpec, ProvidersFile, ProviderSpec, find_pools

__all__ = ["find_pool"]


def find_pool(file: ProvidersFile, provider_name: str, model_name: str) -> tuple[ProviderSpec, PoolSpec]:
    """The first pool of the model."""
    provider, pools = find_pools(file, provider_name, model_name)
    return provider, pools[0]
