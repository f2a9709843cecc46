"""Reading a generateContent request, and what it is in OpenAI's words, so that both are answered alike.

Belongs here: the checks that Google makes and their wordings, the translation. Not here: what both check alike: ranges,
lengths, schemas (chat_request.py), limits, answers.
Source: google-genai 3.6.1, types.py (GenerateContentRequest's fields); each check names its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from batch_llm.simulator.chat_request import JSON_OBJECT
from batch_llm.simulator.google_images import as_part, at_address
from batch_llm.simulator.google_refusals import invalid, not_imitated, unknown_names

__all__ = [
    "PREFIX",
    "as_openai",
    "camel",
    "check_names",
    "content_of",
    "file_parts",
    "read_json",
    "read_object",
    "texts_of",
]

PREFIX = "simulator-"  # of models; a slash cannot stand in an address
ROLES = {"user": "user", "model": "assistant"}
PARTS = frozenset(["text", "thought", "thoughtSignature", "inlineData", "fileData"])
OTHER_PARTS = frozenset(["functionCall", "functionResponse", "executableCode", "videoMetadata"])
TOP = frozenset(["contents", "systemInstruction", "generationConfig", "safetySettings"])
OTHER_TOP = frozenset(["tools", "toolConfig", "cachedContent", "labels", "serviceTier", "store", "model"])
CONFIG = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxOutputTokens": "max_tokens",
    "seed": "seed",
    "stopSequences": "stop",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
}
OTHER_CONFIG = frozenset(
    [
        *("responseSchema", "responseModalities", "responseLogprobs", "logprobs", "speechConfig", "mediaResolution"),
        *("audioTimestamp", "routingConfig", "modelSelectionConfig", "enableEnhancedCivicAnswers", "imageConfig"),
    ]
)
READ_CONFIG = frozenset(["responseMimeType", "responseJsonSchema", "candidateCount", "thinkingConfig", "topK"])
_UNDERSCORE = re.compile(r"_([a-z])")
THINKING = frozenset(["includeThoughts", "thinkingBudget", "thinkingLevel"])


def read_json(raw: bytes) -> dict[str, Any]:
    """The body's JSON object, its own names in camel case."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received. Expected an object.")
    return dict(camel(body))


def read_object(raw: bytes) -> dict[str, Any]:
    """The body's JSON object, with no other names at its top than the API has."""
    body = read_json(raw)
    config = body["generationConfig"] = camel(body.get("generationConfig") or {})
    config_names = frozenset(CONFIG) | READ_CONFIG
    check_names([(body, "", TOP, OTHER_TOP), (config, "generation_config", config_names, OTHER_CONFIG)])
    return body


def as_openai(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The same question as a chat completion of ``model``, the name in the address."""
    config = body["generationConfig"]
    made: dict[str, Any] = {"model": f"simulator/{model.removeprefix(PREFIX)}", "messages": list(_messages(body))}
    made |= {CONFIG[name]: value for name, value in config.items() if name in CONFIG}
    _check_thinking(config.get("thinkingConfig"))
    if config.get("candidateCount") not in (None, 1):
        raise not_imitated("more than one candidate")
    form = _response_format(config)
    return made if form is None else {**made, "response_format": form}


def file_parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every address in the contents; of a request that `as_openai` took."""
    parts = (camel(part) for content in body["contents"] for part in content["parts"])
    return [camel(part["fileData"]) for part in parts if part.get("fileData") is not None]


def texts_of(openai_body: Mapping[str, Any]) -> list[str]:
    """Every text of the prompt."""
    contents = [message["content"] for message in openai_body["messages"]]
    parts = (part for each in contents for part in ([{"text": each}] if isinstance(each, str) else each))
    return [part["text"] for part in parts if "text" in part]


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The system instruction, then the contents.

    Source: https://github.com/ikechan8370/chatgpt-plugin/issues/733 (no contents),
    https://github.com/the-open-agent/openagent/issues/1666 (roles) (read 2026-11-29).
    """
    if body.get("systemInstruction") is not None:
        yield {"role": "system", "content": content_of(body["systemInstruction"], "system_instruction")}
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    for number, each in enumerate(contents):
        role = each.get("role", "user") if isinstance(each, dict) else None
        if role not in ROLES:
            raise invalid("Please use a valid role: user, model.")
        yield {"role": ROLES[role], "content": content_of(each, f"contents[{number}]")}


def content_of(content: Any, place: str) -> str | list[dict[str, Any]]:
    """One text as it is, several parts in OpenAI's form.

    Source: https://github.com/egoist/chatwise-releases/issues/250 (no parts),
    https://github.com/boldsoftware/sketch/issues/68 (a part with nothing in it) (read 2026-11-29).
    """
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not parts:
        raise invalid(f"* GenerateContentRequest.{place}.parts: contents.parts must not be empty.\n")
    found: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        here = f"{place}.parts[{number}]"
        part = camel(part)
        check_names([(part, here, PARTS, OTHER_PARTS)])
        if isinstance(part, dict) and part.get("inlineData") is not None:
            found.append(as_part(camel(part["inlineData"]), f"{here}.inline_data"))
            continue
        if isinstance(part, dict) and part.get("fileData") is not None:
            found.append(at_address(camel(part["fileData"]), f"{here}.file_data"))
            continue
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            where = f"* GenerateContentRequest.{here}.data"
            raise invalid(f"{where}: required oneof field 'data' must have one initialized field\n")
        found.append({"type": "text", "text": part["text"]})
    return found[0]["text"] if len(found) == 1 and "text" in found[0] else found


def _check_thinking(thinking: Any) -> None:
    """Source: https://github.com/sterlp/eclipse-peon-ai/issues/115 (both; read 2026-11-29)."""
    if thinking is None:
        return
    thinking = camel(thinking)
    check_names([(thinking, "generation_config.thinking_config", THINKING, frozenset())])
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        raise invalid("You can only set only one of thinking budget and thinking level.")


def _response_format(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What JSON is wanted. A schema needs neither `required` nor `additionalProperties` here.

    Source: https://ai.google.dev/gemini-api/docs/structured-output (a schema goes with application/json; read
    2026-11-29). No recording of the wording was found.
    """
    mime, schema = config.get("responseMimeType", "text/plain"), config.get("responseJsonSchema")
    if mime not in ("text/plain", "application/json"):
        raise not_imitated(f"the response_mime_type {mime!r}")
    if schema is not None and mime != "application/json":
        raise invalid("response_json_schema is only supported with response_mime_type application/json.")
    if mime == "text/plain":
        return None
    declared = {"name": "answer", "strict": False, "schema": JSON_OBJECT if schema is None else schema}
    return {"type": "json_schema", "json_schema": declared}


def camel(message: Any) -> Any:
    """A message with its own names in camel case: both are taken, and google-genai sends some in snake case.

    Source: https://protobuf.dev/programming-guides/json (read 2026-11-29).
    """
    if not isinstance(message, dict):
        return message
    return {_UNDERSCORE.sub(lambda found: found[1].upper(), name): value for name, value in message.items()}


def check_names(messages: list[tuple[Any, str, frozenset[str], frozenset[str]]]) -> None:
    """Each message with its path, the names that are read and those that are not imitated."""
    unknown = []
    for message, path, known, others in messages:
        for name in message if isinstance(message, dict) else ():
            if name in others:
                raise not_imitated(f"'{name}'")
            if name not in known:
                unknown.append((name, path))
    if unknown:
        raise unknown_names(unknown)
