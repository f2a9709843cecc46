"""How a provider is told the answer's JSON Schema: as its own parameter, or in words.

Belongs here: the modes, the words, what they add to a request. Not here: checking the answer (job/schema.py), reading
JSON out of it (job/answer_text.py), sending (openai/chat.py).

The mode is how an endpoint is spoken to, like its address, and no part of the question: the schema is, and every answer
is checked against it, whichever way the model heard of it. So the mode and these words are not part of a row's request
hash: an account that gets another mode asks nothing again, nor does a release with better words.

JSON mode wants the word JSON in the messages, and a model that is not told to write JSON may write blanks without end.
Source: https://github.com/mem0ai/mem0/issues/3008 (the word),
https://learn.microsoft.com/en-us/dotnet/api/microsoft.semantickernel.connectors.openai.openaipromptexecutionsettings.responseformat
(the blanks; both read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson

from batch_llm.providers.base import Message

__all__ = ["StructureMode", "billed_text", "instructed", "instructions", "response_format"]

SCHEMA_NAME = "answer"

_INSTRUCTIONS = """\
Answer with exactly one JSON object that is valid against the JSON Schema below, and with nothing else: no \
introduction, no explanation, no code fence. Give every property that the schema requires, with its name spelled as \
there, and no other property. Where the schema allows null and you do not know the value, give null.

JSON Schema:
"""


class StructureMode(StrEnum):
    """How an endpoint is told the answer's schema."""

    JSON_SCHEMA = "json_schema"  # as `response_format`, strict: the provider itself keeps to it
    JSON_OBJECT = "json_object"  # the provider keeps to JSON, the schema stands in the system message
    PROMPT = "prompt"  # all of it stands in the system message


def instructions(json_schema: Mapping[str, Any]) -> str:
    """What a model is told that does not take a schema; the same text for the same schema, so that it can be cached."""
    return _INSTRUCTIONS + orjson.dumps(json_schema).decode()


def billed_text(json_schema: Mapping[str, Any] | None, mode: StructureMode) -> str:
    """What the answer's schema adds to the input that is billed with every request; to be counted before the call."""
    if json_schema is None:
        return ""
    return orjson.dumps(json_schema).decode() if mode is StructureMode.JSON_SCHEMA else instructions(json_schema)


def instructed(
    messages: tuple[Message, ...], json_schema: Mapping[str, Any] | None, mode: StructureMode
) -> tuple[Message, ...]:
    """The messages to send: where the schema goes in words, at the end of the system message, or as one."""
    if json_schema is None or mode is StructureMode.JSON_SCHEMA:
        return messages
    words = instructions(json_schema)
    if messages and messages[0].role == "system":
        return (Message("system", f"{messages[0].content}\n\n{words}"), *messages[1:])
    return (Message("system", words), *messages)


def response_format(json_schema: Mapping[str, Any] | None, mode: StructureMode) -> dict[str, Any] | None:
    """OpenAI's parameter of that name; None: it is not sent."""
    if json_schema is None or mode is StructureMode.PROMPT:
        return None
    if mode is StructureMode.JSON_OBJECT:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "strict": True, "schema": json_schema}}
