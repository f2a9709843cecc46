"""Anything that speaks as OpenAI does: vLLM, Ollama, gateways.

Belongs here: what may be assumed of a server nobody named. Not here: its JSON (openai/chat.py, openai/embeddings.py).
"""

from __future__ import annotations

from batch_llm.providers.account import Account
from batch_llm.providers.kind import ProviderKind
from batch_llm.providers.openai.chat import OpenAIChatProvider
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.images import OPENAI_IMAGES

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
