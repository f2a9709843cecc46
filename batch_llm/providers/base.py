"""What the engine knows of a provider.

Belongs here: the Provider and EmbeddingProvider protocols and their records. Not here: HTTP, any provider's JSON. What
is made for every single answer is a named tuple: a third of the time that a frozen dataclass takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from batch_llm.providers.images import Image

__all__ = [
    "AnyProvider",
    "Completion",
    "EmbeddingProvider",
    "EmbeddingRequest",
    "Embeddings",
    "Message",
    "Phase",
    "Provider",
    "RawAnswer",
    "Request",
    "Sending",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str  # system | user | assistant
    content: str
    images: tuple[Image, ...] = ()  # of a user's message


@dataclass(frozen=True, slots=True)
class Request:
    """One call for one row."""

    custom_id: str  # "<run>-<slice>-<row>", as in the provider batch APIs
    model: str
    messages: tuple[Message, ...]
    params: Mapping[str, Any]  # Params without the Nones
    json_schema: Mapping[str, Any] | None  # the answer's JSON Schema, None for free text
    attempt: int = 1

    @property
    def images(self) -> list[Image]:
        """Those of all messages, in order."""
        return [image for message in self.messages for image in message.images]


class Phase(StrEnum):
    """What a call waits for."""

    SIGN_IN = "the sign-in"  # nothing is sent yet, so that nothing can be billed
    ANSWER = "the first byte of an answer"
    BODY = "the rest of an answer"


@dataclass(slots=True)
class Sending:
    """How far one call has come; the provider writes it, who bounds the call's time reads it."""

    phase: Phase = Phase.ANSWER


class RawAnswer(NamedTuple):
    """A 2xx answer, as it came: what the journal stores before anybody looks into it."""

    body: bytes
    headers: Mapping[str, str]  # looked up by lower-case names
    latency_s: float
    first_byte_s: float | None = None  # of it, until the answer began; None: not known


class Usage(NamedTuple):
    """What the provider says it billed, tokens."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0


class Completion(NamedTuple):
    """What a raw answer says. A finish that is not `stop` is never good (the engine decides what follows)."""

    text: str
    finish_reason: str  # stop | length | content_filter | refusal | other
    usage: Usage | None  # None when the provider sent none, or nonsense
    model: str  # as the provider names it


class Provider(Protocol):
    """Sends one request and understands the answer. An async context manager: open once, many calls."""

    name: str  # as in the providers file

    async def send(
        self, request: Request, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """Send once, never retry. Returns any complete 2xx answer; raises `ProviderError` for all else.

        `AuthenticationFailed` and `QuotaExhausted` stop the run. ``total_s`` bounds the whole call, seconds; None: who
        called bounds it, by cancelling, and sees in ``sending`` how far it came.
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
    cut: int = 0  # texts of which only the beginning was read: their vectors are not those of the whole


class EmbeddingProvider(Protocol):
    """Sends one request for many rows and understands the answer. An async context manager, as `Provider`."""

    name: str  # as in the providers file

    async def send(
        self, request: EmbeddingRequest, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
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


AnyProvider = Provider | EmbeddingProvider
"""Whichever the job's kind wants."""
