"""Reading a request of Anthropic's messages API, as strictly as the real one and no stricter.

Belongs here: the checks that only this API makes, the request in OpenAI's form. Not here: what both check
(chat_request.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from batch_llm.simulator.anthropic_images import MOST_IMAGES, as_part
from batch_llm.simulator.refusals import Refused, bad_request

__all__ = ["as_openai"]

# Source: anthropic 2.14.0, types/message_create_params.py (names, and which are required);
# https://github.com/openshift/lightspeed-service/pull/3036 (temperature of 0 to 1, for the models that take one)
# (read 2026-11-28).
REQUIRED = ("model", "messages", "max_tokens")
IGNORED = frozenset({"metadata", "service_tier", "top_p", "top_k"})
USED = frozenset({*REQUIRED, "system", "stop_sequences", "temperature", "output_config", "stream"})
NOT_IMITATED = frozenset(
    {"cache_control", "container", "diagnostics", "inference_geo", "speed", "thinking", "tool_choice", "tools"}
)
ROLES = ("user", "assistant")
EFFORTS = ("low", "medium", "high", "xhigh", "max")
# Keywords that a schema must not have. Source: https://github.com/agentjido/req_llm/issues/302 (minimum),
# https://github.com/ghostlobster/memorize-everything/issues/93 (minItems, minLength); the list: what the vendor's SDK
# takes out (anthropic 2.14.0, lib/_parse/_transform.py) (read 2026-11-28).
REFUSED = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength")


def as_openai(raw: bytes) -> bytes:
    """The body of the chat completion that asks the same; raises `Refused`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise _invalid("The request body is not valid JSON.")
    _check_names(body)
    asked: dict[str, Any] = {"model": body["model"], "max_tokens": body["max_tokens"], "messages": _messages(body)}
    if "temperature" in body:
        if not isinstance(body["temperature"], int | float) or not 0 <= body["temperature"] <= 1:
            raise _invalid("temperature: range: 0..1")
        asked["temperature"] = body["temperature"]
    if body.get("stop_sequences"):
        asked["stop"] = body["stop_sequences"]
    schema = _schema(body.get("output_config") or {})
    if schema is not None:
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return orjson.dumps(asked)


def _check_names(body: Mapping[str, Any]) -> None:
    """Source: https://github.com/droidrun/mobilerun/pull/348 (a field that is missing),
    https://github.com/amrit110/oli/issues/7 (one that is not known) (read 2026-11-28).
    """  # noqa: D205
    for name in REQUIRED:
        if name not in body:
            raise _invalid(f"{name}: Field required")
    for name in body.keys() - USED - IGNORED:
        if name not in NOT_IMITATED:
            raise _invalid(f"{name}: Extra inputs are not permitted")
        raise _invalid(f"batch-llm's simulator does not imitate '{name}'.")
    if body.get("stream"):
        raise _invalid("batch-llm's simulator does not imitate 'stream' here.")


def _messages(body: Mapping[str, Any]) -> list[Any]:
    """The messages with the system prompt first. No recording of the wording about a role was found."""
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages: at least one message is required")
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise _invalid(f"messages.{number}.role: Input should be 'user' or 'assistant'")
    images = sum(_is_image(block) for message in messages for block in _blocks(message))
    if images > MOST_IMAGES:
        raise _invalid(f"messages: at most {MOST_IMAGES} images are supported, got {images}")
    told = [
        _told(message, f"messages.{number}", images) if images else message for number, message in enumerate(messages)
    ]
    system = body.get("system")
    return [{"role": "system", "content": system}, *told] if system else told


def _blocks(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _is_image(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "image"


def _told(message: Mapping[str, Any], place: str, images: int) -> Mapping[str, Any]:
    """A message with its images in OpenAI's form."""
    blocks = [
        as_part(block, f"{place}.content.{number}", images) if _is_image(block) else block
        for number, block in enumerate(_blocks(message))
    ]
    return {**message, "content": blocks} if blocks else message


def _schema(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer's schema, None for free text.

    Source: anthropic 2.14.0, types/output_config_param.py, json_output_format_param.py (read 2026-11-28).
    """
    if config.get("effort") is not None and config["effort"] not in EFFORTS:
        raise _invalid(f"output_config.effort: Input should be one of {', '.join(EFFORTS)}")
    wanted = config.get("format")
    if wanted is None:
        return None
    if (
        not isinstance(wanted, dict)
        or wanted.get("type") != "json_schema"
        or not isinstance(wanted.get("schema"), dict)
    ):
        raise _invalid("output_config.format: a schema of type json_schema is required")
    _check_schema(wanted["schema"])
    return dict(wanted["schema"])


def _check_schema(node: object) -> None:
    """Refuse what the service does not compile; ``node``: any part of a schema."""
    if isinstance(node, dict):
        _check_node(node)
    parts = node if isinstance(node, list) else node.values() if isinstance(node, dict) else ()
    for each in parts:
        _check_schema(each)


def _check_node(node: Mapping[str, Any]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    for name in REFUSED:
        if name in node:
            raise _schema_fault(f"For '{kind}' type, property '{name}' is not supported")
    if node.get("minItems", 0) not in (0, 1):
        raise _schema_fault("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if kind == "object" and node.get("additionalProperties") is not False:
        raise _schema_fault("For 'object' type, 'additionalProperties' must be explicitly set to false")


def _schema_fault(message: str) -> Refused:
    return _invalid(f"output_config.format.schema: {message}")


def _invalid(message: str) -> Refused:
    return bad_request(message, None, None)
