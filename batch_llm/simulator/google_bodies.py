"""The JSON of a GenerateContentResponse.

Belongs here: Google's objects. Not here: their content (answers.py), refusals (google_refusals.py).
Source: google-genai 3.6.1, types.py; a whole answer with its usage: https://github.com/google/adk-python/issues/1357
(read 2026-11-29).
"""

from __future__ import annotations

from typing import Any

import orjson

from batch_llm.simulator.bodies import Completed

__all__ = ["blocked", "embedded", "generated"]

FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS"}


def generated(completed: Completed) -> bytes:
    """One candidate. Without a text it has no parts, and a count of 0 is left out.

    Source: https://github.com/google-gemini/deprecated-generative-ai-python/issues/744 (no parts, no
    candidatesTokenCount; read 2026-11-29).
    """
    answer = completed.answer
    content: dict[str, Any] = {"parts": [{"text": answer.text}]} if answer.text else {}
    candidate = {
        "content": {**content, "role": "model"},
        "finishReason": FINISH_REASONS[answer.finish_reason],
        "index": 0,
    }
    body: dict[str, Any] = {"candidates": [candidate]}
    if completed.usage is not None:
        body["usageMetadata"] = _usage(completed.usage["prompt_tokens"], completed.usage["completion_tokens"])
    return orjson.dumps({**body, **_signed(completed.model, completed.completion_id)})


def blocked(model: str, response_id: str, prompt_tokens: int) -> bytes:
    """A prompt that was stopped: a 200 without candidates.

    Source: google-genai 3.6.1, types.py, GenerateContentResponsePromptFeedback and BlockedReason;
    https://ai.google.dev/api/generate-content (PromptFeedback) (read 2026-11-29).
    """
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": _usage(prompt_tokens, 0)}
    return orjson.dumps({**body, **_signed(model, response_id)})


def embedded(body: dict[str, Any]) -> dict[str, Any]:
    """A BatchEmbedContentsResponse, made of OpenAI's list.

    Source: google-genai 3.6.1, types.py, EmbedContentResponse (embeddings in the order of the requests; usage_metadata)
    (read 2026-11-29).
    """
    made: dict[str, Any] = {"embeddings": [{"values": each["embedding"]} for each in body["data"]]}
    if "usage" in body:
        made["usageMetadata"] = _usage(body["usage"]["prompt_tokens"], 0)
    return made


def _signed(model: str, response_id: str) -> dict[str, str]:
    return {"modelVersion": model, "responseId": response_id.removeprefix("chatcmpl-")}


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    written = {"candidatesTokenCount": output_tokens} if output_tokens else {}
    return {
        "promptTokenCount": prompt_tokens,
        **written,
        "totalTokenCount": prompt_tokens + output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt_tokens}],
    }
