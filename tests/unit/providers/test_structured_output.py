"""How a provider is told the answer's schema."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from batch_llm.providers.base import Message
from batch_llm.providers.structured_output import (
    StructureMode,
    billed_text,
    instructed,
    instructions,
    response_format,
)

SCHEMA = {"type": "object", "properties": {"tone": {"type": "string"}}, "required": ["tone"]}
ASKED = (Message("system", "You grade."), Message("user", "Grade this."), Message("assistant", "?"))
IN_WORDS = (StructureMode.JSON_OBJECT, StructureMode.PROMPT)


@pytest.mark.parametrize("mode", StructureMode)
def test_free_text_is_asked_as_it_is_whatever_the_mode(mode: StructureMode) -> None:
    assert instructed(ASKED, None, mode) == ASKED
    assert response_format(None, mode) is None
    assert billed_text(None, mode) == ""


def test_a_provider_that_takes_a_schema_gets_it_and_no_words() -> None:
    assert instructed(ASKED, SCHEMA, StructureMode.JSON_SCHEMA) == ASKED
    assert response_format(SCHEMA, StructureMode.JSON_SCHEMA) == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
    }


@pytest.mark.parametrize("mode", IN_WORDS)
def test_in_words_the_schema_ends_the_system_message_or_is_one(mode: StructureMode) -> None:
    words = instructions(SCHEMA)
    assert instructed(ASKED, SCHEMA, mode) == (Message("system", f"You grade.\n\n{words}"), *ASKED[1:])
    assert instructed(ASKED[1:], SCHEMA, mode) == (Message("system", words), *ASKED[1:])
    assert orjson.loads(words[words.index("{") :]) == SCHEMA
    assert "JSON" in words  # JSON mode wants the word


def test_json_mode_is_asked_for_where_the_provider_has_it() -> None:
    assert response_format(SCHEMA, StructureMode.JSON_OBJECT) == {"type": "json_object"}
    assert response_format(SCHEMA, StructureMode.PROMPT) is None


@pytest.mark.parametrize("mode", StructureMode)
def test_what_is_billed_is_what_is_added(mode: StructureMode) -> None:
    """All that the schema adds to the messages is in the text that is counted."""
    added = sum(len(one.content) for one in instructed(ASKED, SCHEMA, mode)) - sum(len(one.content) for one in ASKED)
    text = billed_text(SCHEMA, mode)
    assert orjson.dumps(SCHEMA).decode() in text
    assert added in (0, len(text) + len("\n\n"))


def test_the_words_are_the_same_for_the_same_schema() -> None:
    """A prefix that a provider can cache."""
    copy: dict[str, Any] = orjson.loads(orjson.dumps(SCHEMA))
    assert instructions(copy) == instructions(SCHEMA)
