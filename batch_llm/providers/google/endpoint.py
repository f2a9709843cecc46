"""Where Google answers for its models, and on whose behalf: the Gemini API, or a project's Vertex AI.

Belongs here: addresses, keys. Not here: any request's or answer's JSON (chat.py, embeddings.py), what an
error answer means (refusals.py), tokens (token.py), which of the two it is (kinds/google.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pydantic import SecretStr

from batch_llm.providers.google.refusals import refusal
from batch_llm.providers.structured_output import StructureMode
from batch_llm.providers.transport import Connection, Signing

__all__ = ["ABSURD_TOKENS", "GoogleEndpoint"]

ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense


@dataclass(frozen=True, slots=True)
class GoogleEndpoint:
    """Where to send, and how to say who asks."""

    models_url: str  # what /<model>:<method> is put behind
    api_key: SecretStr | None = None
    signing: Signing | None = None  # in the place of a key
    structure: StructureMode = StructureMode.JSON_SCHEMA  # how it is told the answer's schema
    idempotency_header: str | None = None  # which header names an attempt; None: none does

    def url(self, model: str, method: str) -> str:
        """The address of one of a model's methods."""
        return f"{self.models_url}/{quote(model, safe='')}:{method}"

    def attempt_headers(self, custom_id: str, attempt: int) -> dict[str, str] | None:
        """The attempt's name, where a gateway honours one."""
        return None if self.idempotency_header is None else {self.idempotency_header: f"{custom_id}-{attempt}"}

    def connection(self) -> Connection:
        """Connections to it; nothing is opened yet. The key is in a header, never in an address.

        Source: https://ai.google.dev/api (x-goog-api-key) (read 2026-11-29).
        """
        key = {} if self.api_key is None else {"x-goog-api-key": self.api_key.get_secret_value()}
        return Connection(key, refusal, self.signing)
