"""Google: the Gemini API with a key, and Vertex AI with a project's credentials. Both speak generateContent.

Belongs here: what is true of Google's two doors. Not here: the JSON (google/chat.py, google/embeddings.py,
google/vertex_embeddings.py), signing in (google/token.py).

Source: https://ai.google.dev/api (the Gemini API, v1beta), google-genai 3.6.1, _api_client.py (Vertex AI's addresses),
https://ai.google.dev/gemini-api/docs/rate-limits (days begin at midnight in California) (read 2026-11-29).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batch_llm.providers.account import Account
from batch_llm.providers.base import EmbeddingProvider
from batch_llm.providers.call_size import CallSize
from batch_llm.providers.google import vertex_embeddings
from batch_llm.providers.google.chat import GoogleChatProvider
from batch_llm.providers.google.embeddings import CALL_SIZE, GoogleEmbeddingProvider
from batch_llm.providers.google.endpoint import GoogleEndpoint
from batch_llm.providers.google.images import image_rules
from batch_llm.providers.google.thinking import why_not
from batch_llm.providers.google.token import GoogleToken
from batch_llm.providers.kind import ProviderKind

__all__ = ["KIND"]

GEMINI_VERSION, VERTEX_VERSION = "v1beta", "v1"  # where the file's address ends in none
_VERSION = re.compile(r"/(v1(?:beta1?)?)$")
MULTI_REGIONS = ("eu", "us")
SEED_MOST = 2**31 - 1  # Source: https://ai.google.dev/api/generate-content (an integer, of 32 bits; read 2026-11-29)
# Which models take no penalty but 0: those of 2.5 and later, also by the names that mean the newest.
# Source: https://github.com/google-gemini/cookbook/issues/1290, https://github.com/vercel/ai/issues/8943 (read
# 2026-11-29).
PENALTIES = ("frequency_penalty", "presence_penalty")
_UNPENALIZED = re.compile(r"gemini-(?:2\.5|[3-9]|(?:pro|flash|flash-lite)-latest)")


def _vertex_host(location: str) -> str:
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _endpoint(account: Account) -> GoogleEndpoint:
    base = account.base_url.rstrip("/")
    if account.project is None:
        version, path = GEMINI_VERSION, "models"
    else:
        version = VERTEX_VERSION
        path = f"projects/{account.project}/locations/{account.location}/publishers/google/models"
    if not _VERSION.search(base):
        base = f"{base}/{version}"
    return GoogleEndpoint(
        f"{base}/{path}",
        account.api_key,
        None if account.project is None else GoogleToken().headers,
        account.structure,
        account.idempotency_header,
    )


def _embeddings(account: Account) -> EmbeddingProvider:
    asked = GoogleEmbeddingProvider if account.project is None else vertex_embeddings.VertexEmbeddingProvider
    return asked(account.provider_name, _endpoint(account))


def _call_size(account: Account, model: str) -> CallSize:
    return CALL_SIZE if account.project is None else vertex_embeddings.call_size(model)


def _cannot_for(model: str, params: Mapping[str, Any]) -> dict[str, str]:
    effort = params.get("reasoning_effort")
    why = None if effort is None else why_not(model, effort)
    cannot = {} if why is None else {"reasoning_effort": why}
    if _UNPENALIZED.match(model):
        cannot |= {name: f"{model} takes no penalty" for name in PENALTIES if params.get(name)}
    return cannot


KIND = ProviderKind(
    name="google",
    price_list="google",
    api_key="required",
    project_for_key=True,
    without_key="signs in with application-default credentials",
    base_url="https://generativelanguage.googleapis.com",
    base_url_at=_vertex_host,
    own_keys=frozenset({"project", "location"}),
    day_resets="America/Los_Angeles",
    chat=lambda account: GoogleChatProvider(account.provider_name, _endpoint(account)),
    embeddings=_embeddings,
    most={"seed": SEED_MOST},
    call_size=_call_size,
    cannot_for=_cannot_for,
    images_at=lambda account, model: image_rules(model, is_vertex=account.project is not None),
)
