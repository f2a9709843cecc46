"""What the engine knows of a provider.

Belongs here: the Provider and EmbeddingProvider protocols and their records. Not here: HTTP, any provider's JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "Completion",
    "EmbeddingProvider",
    "EmbeddingRequest",
    "Embeddings",
    "Message",
    "Provider",
    "RawAnswer",
    "Request",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str  # system | user | assistant
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call for one row."""

    custom_id: str  # "<run>-<slice>-<row>", as in the provider batch APIs
    model: str
    messages: tuple[Message, ...]
    params: Mapping[str, Any]  # Params without the Nones
    json_schema: Mapping[str, Any] | None  # the answer's JSON Schema, None for free text
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A 2xx answer, as it came: what the journal stores before anybody looks into it."""

    body: bytes
    headers: Mapping[str, str]  # lower-case names
    latency_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider says it billed, tokens."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a raw answer says. A finish that is not `stop` is never good (the engine decides what follows)."""

    text: str
    finish_reason: str  # stop | length | content_filter | refusal | other
    usage: Usage | None  # None when the provider sent none, or nonsense
    model: str  # as the provider names it


class Provider(Protocol):
    """Sends one request and understands the answer. An async context manager: open once, many calls."""

    name: str  # as in the providers file

    async def send(self, request: Request, *, total_s: float) -> RawAnswer:
        """Send once, never retry. Returns any complete 2xx answer; raises `ProviderError` for all else.

        `AuthenticationFailed` and `QuotaExhausted` stop the run. ``total_s`` bounds the whole call, seconds.
        """
        ...

    def read(self, body: bytes) -> Completion:
        """Parse a stored body; pure. Raises `ProviderError` (malformed) when it is not what the API documents."""
        ...

    async def __aenter__(self) -> Provider:
        """Open connections."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Close connections."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """One call for the vectors of many rows."""

    custom_id: str  # of its first row
    model: str
    texts: tuple[str, ...]  # one per row, none empty
    params: Mapping[str, Any]  # `dimensions`, or nothing
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a raw answer holds."""

    vectors: tuple[bytes, ...]  # in the order of the texts; float32, little endian; finite numbers only
    usage: Usage | None  # of all rows together; None when the provider sent none, or nonsense
    model: str  # as the provider names it


class EmbeddingProvider(Protocol):
    """Sends one request for many rows and understands the answer. An async context manager, as `Provider`."""

    name: str  # as in the providers file

    async def send(self, request: EmbeddingRequest, *, total_s: float) -> RawAnswer:
        """As `Provider.send`."""
        ...

    def read(self, body: bytes) -> Embeddings:
        """Parse a stored body; pure. Raises `ProviderError` (malformed) when it is not what the API documents."""
        ...

    async def __aenter__(self) -> EmbeddingProvider:
        """Open connections."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Close connections."""
        ...
