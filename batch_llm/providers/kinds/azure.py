"""Azure OpenAI: OpenAI's formats, with deployments in the place of models, and keys and addresses of its own.

Belongs here: what is true of Azure. Not here: the JSON (openai/), Entra ID (azure/entra.py).

Two forms of address: the v1 API, which wants no version and takes the deployment as the model's name; and, where the
providers file gives an `api_version`, the older one, which has the deployment in its path.
Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (both; the header api-key), openai
3.54.0, lib/azure.py (the older form) (read 2026-11-28).
"""

from __future__ import annotations

from functools import partial
from urllib.parse import quote, urlsplit

from batch_llm.providers.account import Account
from batch_llm.providers.azure.entra import EntraToken
from batch_llm.providers.kind import ProviderKind
from batch_llm.providers.openai.chat import OpenAIChatProvider
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.images import AZURE_IMAGES
from batch_llm.providers.openai.models import why_not

__all__ = ["KIND"]

V1 = "/openai/v1"
# One resource has an address in each of these, as base_urls in public repositories show; no page was found that lists
# them (looked for 2026-11-29).
DOMAINS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
# 2024-08-01-preview refuses the argument max_completion_tokens, newer models take no other name.
# Source: https://github.com/openai/openai-python/issues/1724 (read 2026-11-28).
CAP_RENAMED = "2024-09-01"


def _bare(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix(V1).removesuffix("/openai")


def _resource(base_url: str) -> str:
    """Azure's own name for it; behind a gateway, host and path."""
    parts = urlsplit(_bare(base_url))
    host = (parts.hostname or "").rstrip(".")
    named = next((host.removesuffix(domain) for domain in DOMAINS if host.endswith(domain)), None)
    return named or f"{parts.netloc.lower()}{parts.path}"


def _endpoint(account: Account) -> OpenAIEndpoint:
    resource = _bare(account.base_url)
    endpoint = partial(
        OpenAIEndpoint,
        api_key=account.api_key,
        key_header="api-key",
        signing=None if account.api_key else EntraToken().headers,
        structure=account.structure,
        idempotency_header=account.idempotency_header,
        deployment=account.deployment,
    )
    version = account.api_version
    if version is None:
        return endpoint(resource + V1)
    return endpoint(
        f"{resource}/openai/deployments/{quote(account.deployment or '', safe='')}",
        query=f"?api-version={version}",
        cap_parameter="max_tokens" if version < CAP_RENAMED else "max_completion_tokens",
    )


KIND = ProviderKind(
    name="azure",
    price_list="azure",
    without_key="signs in with Entra ID",
    base_url_example="https://NAME.openai.azure.com",
    resource=_resource,
    own_keys=frozenset({"deployment", "api_version"}),
    headers="azure",
    debit="input_plus_max_tokens",
    cannot_for=why_not,
    chat=lambda account: OpenAIChatProvider(account.provider_name, _endpoint(account)),
    embeddings=lambda account: OpenAIEmbeddingProvider(account.provider_name, _endpoint(account)),
    openai_endpoint=_endpoint,
    images=AZURE_IMAGES,
)
