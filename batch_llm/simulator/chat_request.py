"""Reading a chat completion request, as strictly as the real API and no stricter.

Belongs here: the checks and their wordings; hand-written, because thousands of requests a second pass here.
Not here: limits, answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from typing import Any

import orjson

from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.images import CountImage, count_image, image_tokens, too_many_images
from batch_llm.simulator.refusals import bad_request, context_exceeded
from batch_llm.simulator.request_checks import (
    is_int,
    missing,
    read_body,
    unknown_parameter,
    unsupported_value,
    wrong_type,
)
from batch_llm.simulator.schema_answers import AnswerMaker, maker_for

__all__ = ["ChatRequest", "read_chat", "token_count"]

ROLES = frozenset({"system", "developer", "user", "assistant"})
# Source: openai 3.54.0, types/chat/completion_create_params.py (read 2026-11-21).
RANGES = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
# Source: openai 3.54.0, types/shared_params/response_format_json_schema.py (read 2026-11-21).
SCHEMA_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Accepted and without effect on a simulated answer.
IGNORED = frozenset(
    [
        "metadata",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    ]
)
USED = frozenset(
    [
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
    ]
)
KNOWN = IGNORED | USED | RANGES.keys()
# Documented, and not imitated: refused aloud rather than answered as if they were not there.
NOT_IMITATED = frozenset(
    [
        "audio",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "tool_choice",
        "tools",
        "top_logprobs",
        "web_search_options",
    ]
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that the model could answer."""

    model: str
    prompt: int  # 64-bit hash of model and messages: the same prompt is the same row to the statistics
    entropy: bytes  # what the answer is derived from: simulator's seed, request's seed, model and messages
    prompt_tokens: int
    max_tokens: int | None
    stream: bool
    include_usage: bool
    make_answer: AnswerMaker | None  # None: free text
    stop: tuple[str, ...]


def token_count(size_bytes: int, config: SimulatorConfig) -> int:
    """Tokens of a text of this many UTF-8 bytes: a fixed ratio, rounded up. Not what any real tokenizer counts."""
    return ceil(size_bytes / config.chars_per_token)


def read_chat(raw: bytes, config: SimulatorConfig, count: CountImage = count_image) -> ChatRequest:
    """Read a request body; raises `Refused` with the real API's status and wording."""
    body, model = read_body(raw)
    _check_names(body)
    _check_values(body)
    messages = body.get("messages")
    size = _check_messages(messages, count)
    max_tokens = _max_tokens(body, config)
    prompt_tokens = token_count(size.text_bytes, config) + sum(size.image_tokens)
    if prompt_tokens + (max_tokens or 0) > config.context_tokens:
        raise context_exceeded(config.context_tokens, prompt_tokens, max_tokens)
    stream = bool(body.get("stream"))
    digest = blake2b(orjson.dumps([model, messages]), digest_size=24).digest()
    salt = b"%d/%d" % (config.seed, body.get("seed") or 0)
    return ChatRequest(
        model=model,
        prompt=int.from_bytes(digest[:8], "big"),
        entropy=blake2b(digest, digest_size=32, key=salt[:64]).digest(),
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        stream=stream,
        include_usage=_include_usage(body, stream),
        make_answer=_answer_maker(body.get("response_format"), messages),
        stop=_stops(body.get("stop")),
    )


def _check_names(body: Mapping[str, Any]) -> None:
    for name in body.keys() - KNOWN:
        if name not in NOT_IMITATED:
            raise unknown_parameter(name)
        if body[name] not in (None, False):
            raise bad_request(f"batch-llm's simulator does not imitate '{name}'.", name, "unsupported_parameter")


def _check_values(body: Mapping[str, Any]) -> None:
    """Refuse values of the wrong type or outside their range.

    Source: ranges: openai 3.54.0, types/chat/completion_create_params.py; wording and code: public recordings of the
    API's answers ("Expected a value <= 2, but got 200 instead.", decimal_above_max_value) (read 2026-11-21).
    """
    for name, (low, high) in RANGES.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, "a decimal", value)
        if not low <= value <= high:
            above = value > high
            raise bad_request(
                f"Invalid '{name}': decimal {'above maximum' if above else 'below minimum'} value. Expected a value "
                f"{'<=' if above else '>='} {high if above else low}, but got {value} instead.",
                name,
                "decimal_above_max_value" if above else "decimal_below_min_value",
            )
    if not is_int(seed := body.get("seed") or 0):
        raise wrong_type("seed", "an integer", seed)
    if not isinstance(stream := body.get("stream") or False, bool):
        raise wrong_type("stream", "a boolean", stream)
    if body.get("n") not in (None, 1):
        raise bad_request("batch-llm's simulator gives one choice: 'n' must be 1.", "n", "unsupported_value")


@dataclass(slots=True)
class _Size:
    """What the messages read so far hold."""

    count: CountImage
    text_bytes: int = 0
    image_tokens: list[int] = field(default_factory=list)  # of each


def _check_messages(messages: object, count: CountImage) -> _Size:
    """The UTF-8 bytes of all texts, the tokens of all images.

    Source: https://github.com/SilasMarvin/lsp-ai/issues/108 (missing), https://github.com/
    Leon-Sander/Local-Multimodal-AI-Chat/issues/43 (missing role) (read 2026-11-21).
    """
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1"
        raise bad_request(f"{message}, but got an empty array instead.", "messages", "empty_array")
    size = _Size(count)
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if not isinstance(message, dict):
            raise wrong_type(place, "an object", message)
        if "role" not in message:
            raise missing(f"{place}.role")
        if message["role"] not in ROLES:
            raise unsupported_value(f"{place}.role", message["role"], sorted(ROLES))
        _read_content(message, f"{place}.content", size)
    refused = too_many_images(len(size.image_tokens))
    if refused is not None:
        raise refused
    return size


def _read_content(message: Mapping[str, Any], place: str, size: _Size) -> None:
    content = message.get("content")
    if isinstance(content, str):
        size.text_bytes += len(content) if content.isascii() else len(content.encode())
        return
    if not isinstance(content, list) or not content:
        raise wrong_type(place, "one of a string or array of objects", content)
    # Source: openai 3.54.0, types/chat/chat_completion_*_message_param.py: only a user's message has images
    known = ["image_url", "text"] if message["role"] == "user" else ["text"]
    for number, part in enumerate(content):
        _read_part(part, f"{place}[{number}]", known, size)


def _read_part(part: object, place: str, known: list[str], size: _Size) -> None:
    if not isinstance(part, dict):
        raise wrong_type(place, "an object", part)
    kind = part.get("type")
    if kind not in known:
        raise unsupported_value(f"{place}.type", kind, known)
    if kind == "image_url":
        size.image_tokens.append(image_tokens(part, place, size.count))
        return
    if not isinstance(text := part.get("text"), str):
        raise wrong_type(f"{place}.text", "a string", text)
    size.text_bytes += len(text.encode())


def _max_tokens(body: Mapping[str, Any], config: SimulatorConfig) -> int | None:
    """Source: https://github.com/tailcallhq/forgecode/issues/1185 (too large) (read 2026-11-21)."""
    name = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    value = body.get(name)
    if value is None:
        return None
    if not is_int(value):
        raise wrong_type(name, "an integer", value)
    if value < 1:
        message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} instead."
        raise bad_request(message, name, "integer_below_min_value")
    if value > config.max_output_tokens:
        message = (
            f"{name} is too large: {value}. This model supports at most {config.max_output_tokens} completion tokens, "
            f"whereas you provided {value}."
        )
        raise bad_request(message, name, "invalid_value")
    return int(value)


def _include_usage(body: Mapping[str, Any], stream: bool) -> bool:
    """Source: openai 3.54.0, types/chat/chat_completion_stream_options_param.py (read 2026-11-21)."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise bad_request(message, "stream_options", None)
    if not isinstance(options, dict):
        raise wrong_type("stream_options", "an object", options)
    return bool(options.get("include_usage"))


def _stops(stop: object) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return ()
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise wrong_type("stop", "one of a string or array of strings", stop)
    if len(stops) > 4:
        message = "Invalid 'stop': array too long. Expected an array with maximum length 4"
        raise bad_request(
            f"{message}, but got an array with length {len(stops)} instead.", "stop", "array_above_max_length"
        )
    return tuple(stops)


def _answer_maker(response_format: object, messages: Any) -> AnswerMaker | None:
    """Source: https://github.com/mem0ai/mem0/issues/3008 (json_object needs the word) (read 2026-11-21)."""
    if response_format is None:
        return None
    if not isinstance(response_format, dict):
        raise wrong_type("response_format", "an object", response_format)
    kind = response_format.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        if b"json" not in orjson.dumps([message["content"] for message in messages]).lower():
            message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type"
            raise bad_request(f"{message} 'json_object'.", "messages", None)
        return maker_for({"name": "json_object", "schema": JSON_OBJECT})
    if kind != "json_schema":
        raise unsupported_value("response_format.type", kind, ["json_object", "json_schema", "text"])
    return _schema_maker(response_format.get("json_schema"))


def _schema_maker(declared: object) -> AnswerMaker:
    if not isinstance(declared, dict):
        raise missing("response_format.json_schema")
    for name in ("name", "schema"):
        if name not in declared:
            raise missing(f"response_format.json_schema.{name}")
    if not isinstance(declared["name"], str) or not SCHEMA_NAME.fullmatch(declared["name"]):
        place = "response_format.json_schema.name"
        message = f"Invalid '{place}': string does not match pattern. Expected a string that matches the pattern"
        raise bad_request(f"{message} '^[a-zA-Z0-9_-]+$'.", place, "invalid_value")
    return maker_for(declared)


JSON_OBJECT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "score": {"type": "number"}, "sure": {"type": "boolean"}},
}
