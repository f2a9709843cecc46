"""OpenAI itself.

Belongs here: what is true of OpenAI's own API. Not here: its JSON (openai_chat.py, openai_embeddings.py), what is
compatible with it (openai_compatible.py).
"""

from __future__ import annotations

from batch_llm.providers.kind import Account, ProviderKind
from batch_llm.providers.openai_chat import OpenAIChatProvider
from batch_llm.providers.openai_embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai_endpoint import OpenAIEndpoint
from batch_llm.providers.openai_images import OPENAI_IMAGES

__all__ = ["KIND"]


def _endpoint(account: Account) -> OpenAIEndpoint:
    return OpenAIEndpoint(
        account.base_url,
        account.api_key,
        structure=account.structure,
        idempotency_header=account.idempotency_header,
    )


KIND = ProviderKind(
    name="openai",
    api_key="required",
    base_url="https://api.openai.com/v1",
    headers="openai",
    chat=lambda account: OpenAIChatProvider(account.provider_name, _endpoint(account)),
    embeddings=lambda account: OpenAIEmbeddingProvider(account.provider_name, _endpoint(account)),
    openai_endpoint=_endpoint,
    images=OPENAI_IMAGES,
)
