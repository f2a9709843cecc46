"""Anthropic's messages API over aiohttp.

Belongs here: the request's and answer's JSON. Not here: sending (transport.py), what an error answer means
(refusals.py), the answer's schema (schema.py), trying again (engine/retry.py), pacing (limiter).
Source: anthropic 2.14.0, types/message_create_params.py, types/message.py, types/usage.py (read 2026-11-28).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import orjson

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.account import Account
from batch_llm.providers.anthropic.refusals import refusal
from batch_llm.providers.anthropic.schema import wire_schema
from batch_llm.providers.base import Completion, Message, RawAnswer, Request, Sending, Usage
from batch_llm.providers.images import Image
from batch_llm.providers.structured_output import StructureMode, instructed
from batch_llm.providers.transport import Connected, Connection

__all__ = ["AnthropicProvider"]

VERSION = "2023-06-01"  # Source: https://docs.anthropic.com/en/api/versioning; the SDK sends the same
ABSURD_TOKENS = 10**8  # no call can use so many: the usage is nonsense
NAMES = {"max_output_tokens": "max_tokens", "stop": "stop_sequences"}
FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicProvider(Connected):
    """One account, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, account: Account) -> None:
        """There is no JSON mode: where the account has that one, the schema is told in words."""
        self.name = account.provider_name
        self._url = f"{account.base_url.rstrip('/').removesuffix('/v1')}/v1/messages"
        self._structure = account.structure
        self._attempt_header = account.idempotency_header
        headers = {"anthropic-version": VERSION}
        if account.api_key is not None:
            headers["x-api-key"] = account.api_key.get_secret_value()
        super().__init__(Connection(headers, refusal))
        self._last: tuple[Mapping[str, Any], Mapping[str, Any] | None, dict[str, Any]] = ({}, None, {})

    async def send(
        self, request: Request, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `Provider.send`."""
        name = self._attempt_header
        headers = {name: f"{request.custom_id}-{request.attempt}"} if name else None
        return await self._connection.post(
            self._url, self._body(request), total_s=total_s, sending=sending, headers=headers
        )

    def read(self, body: bytes) -> Completion:
        """See `Provider.read`."""
        try:
            data = orjson.loads(body)
            texts = [block["text"] for block in data["content"] if block["type"] == "text"]
            text = "".join(texts)
            reason, model = data["stop_reason"], data.get("model")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise ProviderError(ErrorClass.MALFORMED, "the answer is not a message", maybe_paid=True) from None
        finish = FINISHES.get(reason, "other") if isinstance(reason, str) else "other"
        return Completion(text, finish, _usage(data.get("usage")), model if isinstance(model, str) else "")

    def _body(self, request: Request) -> bytes:
        if "max_output_tokens" not in request.params:
            raise ProviderError(ErrorClass.INVALID_REQUEST, "Anthropic wants max_output_tokens with every request")
        messages = instructed(request.messages, request.json_schema, self._structure)
        told = [{"role": each.role, "content": _content(each)} for each in messages if each.role != "system"]
        system = "\n\n".join(each.content for each in messages if each.role == "system")
        body = {"model": request.model, "messages": told, **self._unchanging(request)}
        return orjson.dumps(body | {"system": system} if system else body)

    def _unchanging(self, request: Request) -> dict[str, Any]:
        """What all requests of a job have in common, made once: they share the very objects."""
        params, json_schema, made = self._last
        if request.params is params and request.json_schema is json_schema and made:
            return made
        made = {NAMES.get(name, name): value for name, value in request.params.items()}
        output: dict[str, Any] = {}
        if "reasoning_effort" in made:
            output["effort"] = made.pop("reasoning_effort")
        if request.json_schema is not None and self._structure is StructureMode.JSON_SCHEMA:
            output["format"] = {"type": "json_schema", "schema": wire_schema(request.json_schema)}
        if output:
            made["output_config"] = output
        self._last = (request.params, request.json_schema, made)
        return made


def _content(message: Message) -> str | list[dict[str, Any]]:
    """Images come before text: https://platform.claude.com/docs/en/build-with-claude/vision (read 2026-11-29)."""
    if not message.images:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content else []
    return [*({"type": "image", "source": _source(image)} for image in message.images), *text]


def _source(image: Image) -> dict[str, str]:
    if image.url is not None:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.mime_type, "data": b64encode(image.data).decode()}


def _usage(data: object) -> Usage | None:
    """The usage an answer states; None when it is absent or cannot be true. Input is what was not cached, and the rest.

    Source: anthropic 2.14.0, types/message.py: total input tokens are the sum of the three (read 2026-11-28).
    """
    if not isinstance(data, dict):
        return None
    details = data.get("output_tokens_details")
    cached = data.get("cache_read_input_tokens") or 0
    thinking = details.get("thinking_tokens", 0) if isinstance(details, dict) else 0
    found = [data.get("input_tokens"), data.get("output_tokens"), data.get("cache_creation_input_tokens") or 0]
    numbers = [each for each in (*found, cached, thinking) if type(each) is int and 0 <= each < ABSURD_TOKENS]
    if len(numbers) < 5:
        return None
    fresh, made, written, cached, thinking = numbers
    return Usage(fresh + written + cached, made, cached_input_tokens=cached, reasoning_tokens=thinking)
