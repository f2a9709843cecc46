"""What an answer in OpenAI's formats says was billed: the one reader of it, for jobs and for the openai SDK.

Belongs here: the usage of the chat and the responses API. Not here: that of vectors (embeddings.py), prices.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import orjson

from batch_llm.providers.base import Usage
from batch_llm.providers.openai.endpoint import ABSURD_TOKENS

__all__ = ["is_count", "read_usage", "usage_in"]

# The chat API's names for what goes in and what comes out, and the responses API's.
# Source: openai 3.54.0, types/completion_usage.py, types/responses/response_usage.py (read 2026-11-29).
NAMES = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))


def usage_in(content: bytes) -> Usage | None:
    """The usage of a whole answer; None when it states none that can be true (a streamed one, for instance)."""
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return read_usage(data.get("usage")) if isinstance(data, dict) else None


def read_usage(data: object) -> Usage | None:
    """The usage an answer states; None when it is absent or cannot be true.

    Some servers leave a model's thoughts out of the completion and count them in the total only; they are billed as
    output. Source: https://docs.x.ai/docs/key-information/consumption-and-rate-limits (xAI: reasoning tokens are no
    part of completion_tokens, but of total_tokens), https://github.com/Clarifai/clarifai-python/pull/978 (Gemini's
    endpoint for OpenAI's formats, which gives no details; both read 2026-11-29).
    """
    if not isinstance(data, dict):
        return None
    name_in, name_out = NAMES[0] if NAMES[0][0] in data else NAMES[1]
    given, made = data.get(name_in), data.get(name_out)
    if not (is_count(given) and is_count(made)):
        return None
    reasoning = _detail(data, f"{name_out}_details", "reasoning_tokens")
    total = data.get("total_tokens")
    apart = total - given - made if isinstance(total, int) else 0
    if not is_count(apart) or (apart and reasoning not in (0, apart)):
        return None
    return Usage(
        input_tokens=given,
        output_tokens=made + apart,
        cached_input_tokens=_detail(data, f"{name_in}_details", "cached_tokens"),
        reasoning_tokens=reasoning or apart,
    )


def is_count(value: object) -> TypeGuard[int]:
    """Whether it can be a number of tokens. Python's True is an int; a column of whole numbers takes none."""
    return type(value) is int and 0 <= value < ABSURD_TOKENS


def _detail(usage: dict[str, Any], part: str, name: str) -> int:
    """A number inside a part of the usage; 0 where it is absent or nonsense, for the total is what is billed."""
    details = usage.get(part)
    value = details.get(name) if isinstance(details, dict) else None
    return value if is_count(value) else 0
