"""OpenAI itself.

Belongs here: what is true of OpenAI's own API. Not here: its JSON (openai/chat.py, openai/embeddings.py), what is
compatible with it (openai_compatible.py).
"""

from __future__ import annotations

from batch_llm.providers.account import Account
from batch_llm.providers.kind import ProviderKind
from batch_llm.providers.openai.chat import OpenAIChatProvider
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.images import OPENAI_IMAGES
from batch_llm.providers.openai.models import why_not

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
    price_list="openai",
    api_key="required",
    base_url="https://api.openai.com/v1",
    headers="openai",
    cannot_for=why_not,
    chat=lambda account: OpenAIChatProvider(account.provider_name, _endpoint(account)),
    embeddings=lambda account: OpenAIEmbeddingProvider(account.provider_name, _endpoint(account)),
    openai_endpoint=_endpoint,
    images=OPENAI_IMAGES,
)
