"""Anything that speaks as OpenAI does: vLLM, Ollama, gateways.

Belongs here: what may be assumed of a server nobody named. Not here: its JSON (openai_chat.py, openai_embeddings.py).
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
        cap_parameter="max_tokens",  # older servers know no other
        structure=account.structure,
        idempotency_header=account.idempotency_header,
    )


KIND = ProviderKind(
    name="openai_compatible",
    base_url_example="http://host/v1",
    chat=lambda account: OpenAIChatProvider(account.provider_name, _endpoint(account)),
    embeddings=lambda account: OpenAIEmbeddingProvider(account.provider_name, _endpoint(account)),
    openai_endpoint=_endpoint,
    images=OPENAI_IMAGES,
)
