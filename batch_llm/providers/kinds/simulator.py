"""The provider simulator, in this process or elsewhere.

Belongs here: what its models are called and what it takes for a key. Not here: starting one (wiring.py), what it does
(batch_llm/simulator/).
"""

from __future__ import annotations

from pydantic import SecretStr

from batch_llm.providers.account import Account
from batch_llm.providers.kind import ProviderKind
from batch_llm.providers.openai.chat import OpenAIChatProvider
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint

__all__ = ["KIND"]

PREFIX = "simulator/"  # it answers to no other model name
KEY = SecretStr("simulator")  # no secret: it takes any key but wants one, as the real service does


def _endpoint(account: Account) -> OpenAIEndpoint:
    return OpenAIEndpoint(
        account.base_url,
        KEY,
        cap_parameter="max_tokens",
        model_prefix=PREFIX,
        structure=account.structure,
        idempotency_header=account.idempotency_header,
    )


KIND = ProviderKind(
    name="simulator",
    api_key="refused",
    headers="openai",
    chat=lambda account: OpenAIChatProvider(account.provider_name, _endpoint(account)),
    embeddings=lambda account: OpenAIEmbeddingProvider(account.provider_name, _endpoint(account)),
    openai_endpoint=_endpoint,
)
