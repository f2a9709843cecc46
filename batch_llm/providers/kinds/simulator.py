"""The provider simulator, in this process or elsewhere.

Belongs here: what its models are called and what it takes for a key. Not here: starting one (wiring.py), what it does
(batch_llm/simulator/).
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import SecretStr

from batch_llm.providers.account import Account
from batch_llm.providers.images import Image
from batch_llm.providers.kind import ProviderKind
from batch_llm.providers.openai.chat import OpenAIChatProvider
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.images import OPENAI_IMAGES, Patches, counted

__all__ = ["KIND"]

PREFIX = "simulator/"  # it answers to no other model name
KEY = SecretStr("simulator")  # no secret: it takes any key but wants one, as the real service does

PATCHES = Patches(1.2, 2_500)  # it counts images as gpt-5.4 does


def _image_tokens(_model: str, image: Image) -> int:
    return counted(image, PATCHES)


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
    images=replace(OPENAI_IMAGES, tokens=_image_tokens),
)
