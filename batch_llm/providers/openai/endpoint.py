"""An endpoint that speaks OpenAI's formats, and how it differs from OpenAI's own.

Belongs here: addresses, keys, the model's name on the wire. Not here: any request's or answer's JSON (chat.py,
embeddings.py), sending (transport.py), whose endpoint it is (kinds/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from batch_llm.providers.openai.refusals import refusal
from batch_llm.providers.structured_output import StructureMode
from batch_llm.providers.transport import Connection, Signing

__all__ = ["ABSURD_TOKENS", "OpenAIEndpoint"]

ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense
BEARER = "Authorization"


@dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """Where to send, and how this endpoint differs from OpenAI's own."""

    base_url: str  # what /chat/completions is put behind
    api_key: SecretStr | None
    cap_parameter: str = "max_completion_tokens"  # older servers know only max_tokens
    model_prefix: str = ""  # put before the model's name on the wire
    structure: StructureMode = StructureMode.JSON_SCHEMA  # how it is told the answer's schema
    idempotency_header: str | None = None  # which header names an attempt, so that it is billed once; None: none does
    key_header: str = BEARER  # any other one carries the bare key
    signing: Signing | None = None  # in the place of a key that stays the same
    query: str = ""  # put behind every address: "?name=value"
    deployment: str | None = None  # the only model there is, whatever name a request gives

    def url(self, path: str) -> str:
        """The address of ``path``, which begins with a slash."""
        return self.base_url.rstrip("/") + path + self.query

    def wire_model(self, name: str) -> str:
        """What the model is called on the wire."""
        return self.deployment or self.model_prefix + name

    def key_headers(self) -> dict[str, str]:
        """The headers that carry the key, which goes into no message and no log."""
        if self.api_key is None:
            return {}
        key = self.api_key.get_secret_value()
        return {self.key_header: f"Bearer {key}" if self.key_header == BEARER else key}

    async def auth_headers(self) -> Mapping[str, str]:
        """The headers that say who asks: the key's, or what signs a request made now."""
        return self.key_headers() if self.signing is None else await self.signing()

    def attempt_headers(self, custom_id: str, attempt: int) -> dict[str, str] | None:
        """The attempt's name where the endpoint honours one: the same again when it is repeated after a crash."""
        return None if self.idempotency_header is None else {self.idempotency_header: f"{custom_id}-{attempt}"}

    def connection(self) -> Connection:
        """Connections to it; nothing is opened yet."""
        return Connection(self.key_headers(), refusal, self.signing)
