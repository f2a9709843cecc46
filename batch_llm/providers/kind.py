"""What a kind of provider is: the rules of its part of the providers file, and how its providers are made.

Belongs here: the record that every file in kinds/ fills in. Not here: what its providers are made of (account.py), any
kind's facts, finding one by its name (config/provider_kinds.py), which kind a job uses (wiring.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batch_llm.config.provider_kinds import KindRules
from batch_llm.providers.account import Account
from batch_llm.providers.base import EmbeddingProvider, Provider
from batch_llm.providers.call_size import AS_OPENAI, CallSize
from batch_llm.providers.images import ImageRules
from batch_llm.providers.openai.endpoint import OpenAIEndpoint

__all__ = ["ProviderKind"]


def _nothing(_model: str, _params: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


def _as_openai(_account: Account, _model: str) -> CallSize:
    return AS_OPENAI


@dataclass(frozen=True, kw_only=True)
class ProviderKind(KindRules):
    """A kind of provider. A user's own is one of these, named by an entry point (docs/how-to/own-provider.md)."""

    chat: Callable[[Account], Provider]
    embeddings: Callable[[Account], EmbeddingProvider] | None = None  # None: it has none
    images: ImageRules | None = None  # what it takes of them; None: none are sent there
    # of a pool and a model, where not all take the same: in the place of `images`
    images_at: Callable[[Account, str], ImageRules] | None = None
    call_size: Callable[[Account, str], CallSize] = _as_openai  # of one call for a model's vectors
    # of a model and a job's parameters: parameter: why this very model does not take it (beside `cannot`)
    cannot_for: Callable[[str, Mapping[str, Any]], Mapping[str, str]] = _nothing
    openai_endpoint: Callable[[Account], OpenAIEndpoint] | None = None  # for the openai SDK; None: it cannot send there

    def image_rules(self, account: Account, model: str) -> ImageRules | None:
        """What this model takes of images there; None: none are sent."""
        return self.images if self.images_at is None else self.images_at(account, model)
