"""What is sent to generateContent for a request, and what its answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from google.genai.types import BlockedReason, FinishReason

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.providers.base import Completion, Message, Request, Usage
from batch_llm.providers.google.chat import GoogleChatProvider
from batch_llm.providers.google.endpoint import GoogleEndpoint
from batch_llm.providers.structured_output import StructureMode

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def provider(structure: StructureMode = StructureMode.JSON_SCHEMA) -> GoogleChatProvider:
    return GoogleChatProvider("gemini", GoogleEndpoint("https://host/v1beta/models", structure=structure))


def sent(
    *messages: Message, schema: Any = None, structure: Any = StructureMode.JSON_SCHEMA, **params: Any
) -> dict[str, Any]:
    """The body of a request."""
    told = messages or (Message("user", "hello"),)
    found: dict[str, Any] = orjson.loads(
        provider(structure)._body(Request("r-0-1", "gemini-2.5-flash", told, params, schema))
    )
    return found


def test_messages_become_contents_and_the_system_message_an_instruction() -> None:
    body = sent(
        Message("system", "be brief"), Message("user", "one"), Message("assistant", "1"), Message("user", "two")
    )
    assert body == {
        "contents": [
            {"role": "user", "parts": [{"text": "one"}]},
            {"role": "model", "parts": [{"text": "1"}]},
            {"role": "user", "parts": [{"text": "two"}]},
        ],
        "systemInstruction": {"parts": [{"text": "be brief"}]},
    }


def test_every_parameter_of_a_job_has_its_name_there() -> None:
    body = sent(
        temperature=0.5, top_p=0.9, max_output_tokens=60, seed=7, stop=["STOP"], frequency_penalty=0.1,
        presence_penalty=0.2, reasoning_effort="low",
    )  # fmt: skip
    assert body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "maxOutputTokens": 60,
        "seed": 7,
        "stopSequences": ["STOP"],
        "frequencyPenalty": 0.1,
        "presencePenalty": 0.2,
        "thinkingConfig": {"thinkingBudget": 1024},
    }


@pytest.mark.parametrize(
    ("structure", "config"),
    [
        (StructureMode.JSON_SCHEMA, {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}),
        (StructureMode.JSON_OBJECT, {"responseMimeType": "application/json"}),
        (StructureMode.PROMPT, None),
    ],
)
def test_the_answers_schema_is_told_in_each_mode(structure: StructureMode, config: Any) -> None:
    body = sent(schema=SCHEMA, structure=structure)
    assert body.get("generationConfig") == config
    assert ("systemInstruction" in body) == (structure is not StructureMode.JSON_SCHEMA)


def read(body: Mapping[str, Any]) -> Completion:
    return provider().read(orjson.dumps(body))


def answered(reason: str = "STOP", content: Any = None, **usage: Any) -> dict[str, Any]:
    candidate = {"content": content or {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": reason, "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}


def test_thoughts_are_no_part_of_the_text_and_billed_as_output() -> None:
    content = {"parts": [{"text": "hm", "thought": True}, {"text": "hi "}, {"text": "you"}], "role": "model"}
    counts = {"promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 20, "totalTokenCount": 33}
    assert read(answered(content=content, **counts, cachedContentTokenCount=4)) == Completion(
        "hi you", "stop", Usage(10, 23, cached_input_tokens=4, reasoning_tokens=20), "gemini-2.5-flash"
    )


def test_a_cap_that_was_thought_away_leaves_an_answer_without_parts() -> None:
    """Source: https://github.com/google/adk-python/issues/1357 (read 2026-11-29)."""
    body = answered(
        "MAX_TOKENS", {"role": "model"}, promptTokenCount=1706, thoughtsTokenCount=2999, totalTokenCount=4705
    )
    assert read(body)[:3] == ("", "length", Usage(1706, 2999, reasoning_tokens=2999))


@pytest.mark.parametrize("reason", list(FinishReason))
def test_every_reason_that_google_names_has_a_meaning(reason: FinishReason) -> None:
    """Nothing but STOP is a good answer."""
    filtered = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION"}
    filtered |= {"LANGUAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"}
    expected = {"STOP": "stop", "MAX_TOKENS": "length"} | dict.fromkeys(filtered, "content_filter")
    assert read(answered(reason.value)).finish_reason == expected.get(reason.value, "other")


@pytest.mark.parametrize("reason", list(BlockedReason))
def test_a_prompt_that_was_blocked_is_filtered(reason: BlockedReason) -> None:
    body = {"promptFeedback": {"blockReason": reason.value}, "usageMetadata": {"promptTokenCount": 5}}
    assert read(body)[:3] == ("", "content_filter", Usage(5, 0))


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"candidatesTokenCount": 3},
        {"promptTokenCount": -1},
        {"promptTokenCount": 10**12},
        {"promptTokenCount": "10"},
        {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 14},
    ],
)
def test_a_usage_that_cannot_be_true_is_unknown(usage: Any) -> None:
    assert read(answered(**usage)).usage is None


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{}", b'{"candidates": []}', b'{"candidates": [{}]}', b"7"])
def test_what_is_no_answer_is_malformed_and_may_be_paid(body: bytes) -> None:
    with pytest.raises(ProviderError) as error:
        provider().read(body)
    assert (error.value.error_class, error.value.maybe_paid) == (ErrorClass.MALFORMED, True)
