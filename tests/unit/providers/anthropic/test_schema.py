"""An answer's schema as Anthropic takes it: what the vendor's own SDK makes of it, and of several types."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from anthropic import transform_schema

from batch_llm.errors import ConfigurationError
from batch_llm.providers.anthropic.schema import wire_schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"},
        {"type": "string", "maxLength": 9},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "iri"},
        {"type": "string", "enum": ["a", "b"]},
        {"type": "array", "items": {"type": "number", "multipleOf": 2}, "minItems": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 3},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": "boolean"}},
            "required": ["a"],
            "$defs": {"A": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": True}},
        },
    ],
)
def test_one_type_per_node_becomes_what_the_sdk_makes_of_it(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    assert wire_schema(schema) == transform_schema(copy.deepcopy(schema))
    assert schema == before


def test_of_several_types_each_is_a_choice_of_its_own() -> None:
    assert wire_schema({"type": ["integer", "null"], "minimum": 0}) == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "{minimum: 0}",
    }
    nullable = {"type": ["object", "null"], "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert wire_schema(nullable) == {
        "anyOf": [
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            {"type": "null"},
        ]
    }


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            {"type": "object", "properties": {"a": True}},
            "json_schema: properties.a: Anthropic takes no schema that is T",
        ),
        ({"anyOf": [False]}, "json_schema: anyOf: Anthropic takes no schema that is False: say its type"),
        ({"type": "object"}, "json_schema: Anthropic takes no object of free keys"),
        ({"type": ["object", "null"]}, "json_schema: Anthropic takes no object of free keys"),
        (
            {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}}},
            "json_schema: properties.m: Anthropic takes no object of free keys: name each in `properties`",
        ),
        (
            {"type": "array", "items": {"type": "object", "patternProperties": {"^a": {"type": "string"}}}},
            "json_schema: items: Anthropic takes no object of free keys",
        ),
    ],
)
def test_what_no_words_can_mend_is_refused_with_its_place(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        wire_schema(schema)
    assert str(error.value).startswith(said)


def test_an_object_without_keys_is_one() -> None:
    schema = {"type": "object", "additionalProperties": False}
    assert wire_schema(schema) == schema
