"""Google's generateContent over aiohttp, of the Gemini API and of Vertex AI.

Belongs here: the request's and answer's JSON. Not here: sending (transport.py), addresses and keys
(endpoint.py), what an error answer means (refusals.py), pacing (limiter).
Source: https://ai.google.dev/api/generate-content, google-genai 3.6.1, types.py (read 2026-11-29).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import orjson

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Completion, Message, RawAnswer, Request, Sending, Usage
from batch_llm.providers.google.endpoint import ABSURD_TOKENS, GoogleEndpoint
from batch_llm.providers.google.thinking import thinking_config
from batch_llm.providers.images import Image
from batch_llm.providers.structured_output import StructureMode, instructed
from batch_llm.providers.transport import Connected

__all__ = ["GoogleChatProvider"]

METHOD = "generateContent"
ROLES = {"user": "user", "assistant": "model"}
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "max_output_tokens": "maxOutputTokens",  # thoughts count against it
    "seed": "seed",
    "stop": "stopSequences",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
# Why an answer ended; whatever is not here is `other`.
FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION"),
        "content_filter",
    ),
    **dict.fromkeys(
        ("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"),
        "content_filter",
    ),
}


class GoogleChatProvider(Connected):
    """One endpoint, many concurrent calls over kept connections. Open it with ``async with``."""

    def __init__(self, name: str, endpoint: GoogleEndpoint) -> None:
        """``name``: as in the providers file."""
        self.name = name
        self._endpoint = endpoint
        super().__init__(endpoint.connection())
        self._last: tuple[tuple[Any, Any, str], dict[str, Any]] = (({}, None, ""), {})

    async def send(
        self, request: Request, *, total_s: float | None = None, sending: Sending | None = None
    ) -> RawAnswer:
        """See `Provider.send`."""
        url = self._endpoint.url(request.model, METHOD)
        headers = self._endpoint.attempt_headers(request.custom_id, request.attempt)
        return await self._connection.post(url, self._body(request), total_s=total_s, sending=sending, headers=headers)

    def read(self, body: bytes) -> Completion:
        """See `Provider.read`."""
        try:
            data = orjson.loads(body)
            text, reason = _said(data)
            model = data.get("modelVersion")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            raise ProviderError(ErrorClass.MALFORMED, f"the answer is not one of {METHOD}", maybe_paid=True) from None
        return Completion(text, reason, _usage(data.get("usageMetadata")), model if isinstance(model, str) else "")

    def _body(self, request: Request) -> bytes:
        messages = instructed(request.messages, request.json_schema, self._endpoint.structure)
        told = [_content(message) for message in messages if message.role != "system"]
        body: dict[str, Any] = {"contents": told}
        system = [message.content for message in messages if message.role == "system"]
        if system:
            body["systemInstruction"] = {"parts": [{"text": "\n\n".join(system)}]}
        config = self._config(request)
        if config:
            body["generationConfig"] = config
        return orjson.dumps(body)

    def _config(self, request: Request) -> dict[str, Any]:
        """What all requests of a job have in common, made once: they share the very objects."""
        (params, json_schema, model), made = self._last
        if request.params is params and request.json_schema is json_schema and request.model == model:
            return made
        made = {PARAMETERS[name]: value for name, value in request.params.items() if name in PARAMETERS}
        effort = request.params.get("reasoning_effort")
        if effort is not None:
            made["thinkingConfig"] = thinking_config(request.model, effort)
        made.update(_answer_form(request.json_schema, self._endpoint.structure))
        self._last = ((request.params, request.json_schema, request.model), made)
        return made


def _content(message: Message) -> dict[str, Any]:
    """Text goes behind an image: https://ai.google.dev/gemini-api/docs/image-understanding (read 2026-11-29)."""
    images = (_image_part(image) for image in message.images)
    text = [{"text": message.content}] if message.content or not message.images else []
    return {"role": ROLES[message.role], "parts": [*images, *text]}


def _image_part(image: Image) -> dict[str, Any]:
    if image.url is not None:
        return {"fileData": {"mimeType": image.mime_type, "fileUri": image.url}}
    return {"inlineData": {"mimeType": image.mime_type, "data": b64encode(image.data).decode()}}


def _answer_form(json_schema: Mapping[str, Any] | None, mode: StructureMode) -> dict[str, Any]:
    """What tells the API the answer's schema.

    Source: https://ai.google.dev/gemini-api/docs/structured-output (responseMimeType with responseJsonSchema, which
    takes JSON Schema as it is) (read 2026-11-29).
    """
    if json_schema is None or mode is StructureMode.PROMPT:
        return {}
    form: dict[str, Any] = {"responseMimeType": "application/json"}
    if mode is StructureMode.JSON_SCHEMA:
        form["responseJsonSchema"] = json_schema
    return form


def _said(data: dict[str, Any]) -> tuple[str, str]:
    """Text and finish reason. A prompt that was blocked has no candidate, an answer without text no parts.

    Source: https://github.com/google/adk-python/issues/1357 (no parts: all of the cap was thought away),
    https://github.com/google/generative-ai-docs/issues/235 (no content) (read 2026-11-29).
    """
    candidates = data.get("candidates")
    if not candidates:
        if data["promptFeedback"]["blockReason"]:
            return "", "content_filter"
        raise KeyError("candidates")
    first = candidates[0]
    why = first["finishReason"]
    reason = FINISH_REASONS.get(why, "other") if isinstance(why, str) else "other"
    parts = (first.get("content") or {}).get("parts") or []
    return "".join(part.get("text", "") for part in parts if not part.get("thought")), reason


def _usage(data: object) -> Usage | None:
    """The usage an answer states; None when it is absent or cannot be true. A count of 0 is left out of the JSON.

    Thoughts are billed as output.
    Source: https://ai.google.dev/gemini-api/docs/thinking (pricing); google-genai 3.6.1, types.py,
    GenerateContentResponseUsageMetadata (what the total is the sum of) (read 2026-11-29).
    """
    if not isinstance(data, dict):
        return None
    counts = [
        data.get(f"{name}TokenCount", 0) for name in ("prompt", "toolUsePrompt", "candidates", "thoughts", "total")
    ]
    if "promptTokenCount" not in data or not all(type(n) is int and 0 <= n < ABSURD_TOKENS for n in counts):
        return None
    prompt, tools, written, thoughts, total = counts
    if "totalTokenCount" in data and total != prompt + tools + written + thoughts:
        return None
    cached = data.get("cachedContentTokenCount", 0)
    return Usage(
        input_tokens=prompt + tools,
        output_tokens=written + thoughts,
        cached_input_tokens=cached if type(cached) is int and 0 <= cached <= prompt else 0,
        reasoning_tokens=thoughts,
    )
