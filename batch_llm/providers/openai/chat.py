"""OpenAI's chat completions over aiohttp, for every kind of provider that speaks it (kinds/).

Belongs here: the request's and answer's JSON. Not here: sending (transport.py), what an error answer means
(refusals.py), trying again (engine/retry.py), pacing (limiter).
Source: https://platform.openai.com/docs/api-reference/chat (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Completion, Message, RawAnswer, Request, Sending
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.openai.images import DETAIL
from batch_llm.providers.openai.usage import read_usage
from batch_llm.providers.structured_output import instructed, response_format
from batch_llm.providers.transport import Connected

__all__ = ["OpenAIChatProvider", "OpenAIEndpoint"]

FINISH_REASONS = {"stop", "length", "content_filter"}


class OpenAIChatProvider(Connected):
    """One endpoint, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: OpenAIEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        self._url = endpoint.url("/chat/completions")
        super().__init__(endpoint.connection())
        self._last: tuple[Mapping[str, Any], Mapping[str, Any] | None, dict[str, Any]] = ({}, None, {})

    @property
    def endpoint(self) -> OpenAIEndpoint:
        """Where this provider sends."""
        return self._endpoint

    async def send(
        self, request: Request, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `Provider.send`."""
        headers = self._endpoint.attempt_headers(request.custom_id, request.attempt)
        return await self._connection.post(
            self._url, self._body(request), total_s=total_s, sending=sending, headers=headers
        )

    def read(self, body: bytes) -> Completion:
        """See `Provider.read`."""
        try:
            data = orjson.loads(body)
            choice = data["choices"][0]
            message = choice["message"]
            text = message.get("content")
            refusal = message.get("refusal")
            reason, model = choice.get("finish_reason"), data.get("model")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            raise ProviderError(ErrorClass.MALFORMED, "the answer is not a chat completion", maybe_paid=True) from None
        if refusal:
            reason = "refusal"
        elif not isinstance(reason, str) or reason not in FINISH_REASONS:
            reason = "other"
        return Completion(
            text=text if isinstance(text, str) else "",
            finish_reason=reason,
            usage=read_usage(data.get("usage")),
            model=model if isinstance(model, str) else "",
        )

    def _body(self, request: Request) -> bytes:
        messages = instructed(request.messages, request.json_schema, self._endpoint.structure)
        told = [{"role": message.role, "content": _content(message)} for message in messages]
        model = self._endpoint.wire_model(request.model)
        return orjson.dumps({"model": model, "messages": told, **self._unchanging(request)})

    def _unchanging(self, request: Request) -> dict[str, Any]:
        """What all requests of a job have in common, made once: they share the very objects."""
        params, json_schema, made = self._last
        if request.params is params and request.json_schema is json_schema:
            return made
        names = {"max_output_tokens": self._endpoint.cap_parameter}
        made = {names.get(name, name): value for name, value in request.params.items()}
        form = response_format(request.json_schema, self._endpoint.structure)
        if form is not None:
            made["response_format"] = form
        self._last = (request.params, request.json_schema, made)
        return made


def _content(message: Message) -> str | list[dict[str, Any]]:
    """Source: openai 3.54.0, types/chat/chat_completion_content_part_image_param.py (read 2026-11-29)."""
    if not message.images:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content else []
    images = ({"url": image.data_url, "detail": DETAIL} for image in message.images)
    return [*text, *({"type": "image_url", "image_url": image} for image in images)]
