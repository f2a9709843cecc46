"""Schemas that are refused, each with its path and why."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.errors import JobFileError
from batch_llm.job.schema import AnswerSchema, SchemaError


def refused(declared: dict[str, Any]) -> str:
    with pytest.raises(SchemaError) as caught:
        AnswerSchema.from_declared(declared)
    assert isinstance(caught.value, JobFileError)
    return str(caught.value)


def nested(levels: int) -> Any:
    declared: Any = "string"
    for _ in range(levels):
        declared = {"type": "array", "items": declared}
    return declared


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("strng", "'strng' is not one of string, number, integer, boolean, array, object; did you mean 'string'?"),
        ("int", "did you mean 'integer'?"),
        ("bool", "did you mean 'boolean'?"),
        ("date", "write {type: string, format: date}"),
        (3, "must be a type (string, number, integer, boolean, array, object) or a mapping, got 3"),
        (None, "or a mapping, got nothing"),
        ({}, "needs a `type`"),
        ("null", "only null is possible"),
        (["string", "number"], "number or string: a column has one type"),
        ("array", "an array needs `items`"),
        ("object", "an object needs `properties`"),
        (nested(12), "more than 10 levels"),
    ],
)
def test_a_type_that_is_none(declared: Any, expected: str) -> None:
    text = refused({"a": declared})
    assert text.startswith("output.schema.a")
    assert expected in text


@pytest.mark.parametrize(
    ("declared", "path", "expected"),
    [
        ({"enum": []}, "a.enum", "no answer is in an empty one"),
        ({"enum": "x"}, "a.enum", "must be a list"),
        ({"enum": ["x", 1]}, "a", "integer or string: a column has one type"),
        ({"enum": ["x", "x"]}, "a.enum[1]", "'x' stands twice"),
        ({"enum": [["x"]]}, "a.enum[0]", "must be text, a number, true, false or null, got a list"),
        ({"enum": [None]}, "a", "only null is possible"),
        ({"type": "integer", "enum": ["x"]}, "a.enum", "no answer can be 'x'"),
        ({"type": "string", "enum": ["x", "yyy"], "maxLength": 2}, "a.enum", "no answer can be 'yyy'"),
        ({"type": "number", "minimum": 3, "maximum": 1}, "a", "nothing lies between 3 and 1"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "a", "nothing lies between 1 and 1"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "a", "no whole number lies between 1.2 and 1.8"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "a", "no whole number"),
        ({"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 4}, "a", "no multiple of 5"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "a", "minLength 3 is larger than maxLength 2"),
        (
            {"type": "array", "items": "string", "minItems": 3, "maxItems": 2},
            "a",
            "minItems 3 is larger than maxItems 2",
        ),
        ({"type": "array", "items": {"enum": ["x"]}, "minItems": 2, "uniqueItems": True}, "a", "there are only 1"),
    ],
)
def test_what_no_answer_can_meet(declared: Any, path: str, expected: str) -> None:
    text = refused({"a": declared})
    assert text.startswith(f"output.schema.{path}: ")
    assert expected in text


def test_steps_are_compared_exactly() -> None:
    """0.3 is three steps of 0.1, though not as floats."""
    schema = AnswerSchema.from_declared({"a": {"type": "number", "multipleOf": 0.1, "minimum": 0.3, "maximum": 0.3}})
    assert schema.json_schema["properties"]["a"]["multipleOf"] == 0.1


@pytest.mark.parametrize(
    ("declared", "path", "expected"),
    [
        ({"enums": ["x"]}, "a.enums", "cannot be used here; did you mean 'enum'?"),
        ({"not": {"type": "string"}}, "a.not", "cannot be used here"),
        ({"type": "string", "minimum": 1}, "a.minimum", "has no meaning for type string"),
        ({"type": "string", "format": "dat"}, "a.format", "did you mean 'date'?"),
        ({"type": "string", "pattern": "("}, "a.pattern", "is not a valid JSON Schema"),
        ({"type": "string", "minLength": -1}, "a.minLength", "is not a valid JSON Schema"),
        ({"type": "number", "minimum": "x"}, "a.minimum", "is not a valid JSON Schema"),
        ({"type": "string", "description": 3}, "a.description", "must be text, got 3"),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, "a.anyOf", "a column has one type"),
        ({"anyOf": "x"}, "a.anyOf", "must be a list"),
        ({"type": "object", "properties": {}}, "a.properties", "names no column"),
        (
            {"type": "object", "properties": {"x": "string"}, "additionalProperties": True},
            "a.additionalProperties",
            "must be false",
        ),
        (
            {"type": "object", "properties": {"x": "string"}, "required": ["y"]},
            "a.required",
            "names that stand in `properties`",
        ),
        (
            {"type": "object", "properties": {"x": "string"}, "required": [["x"]]},
            "a.required",
            "must be a list of names",
        ),
        (
            {"type": "object", "properties": {"x": {"type": "array", "items": "txt"}}},
            "a.properties.x.items",
            "'txt' is not one of",
        ),
        ({"$ref": "https://example.com/schema"}, "a.$ref", "none is fetched"),
        ({"$ref": "#/$defs/Gone"}, "a.$ref", "is no definition of this schema"),
    ],
)
def test_what_no_column_can_hold_or_strict_mode_does_not_know(declared: Any, path: str, expected: str) -> None:
    text = refused({"a": declared})
    assert text.startswith(f"output.schema.{path}: ")
    assert expected in text


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, "output.schema: names no column"),
        ({"llm_tone": "string"}, "output.schema.llm_tone: names that begin with llm_ are reserved"),
        (
            {"type": "object", "properties": {"LLM_x": "string"}},
            "output.schema.properties.LLM_x: names that begin with llm_",
        ),
        ({"Tone": "string", "tone": "string"}, "'tone' and 'Tone' are the same column"),
        ({"a b": "string"}, "output.schema.a b: a column's name is letters, digits and _"),
        ({"1a": "string"}, "a column's name is letters"),
        ({1: "string"}, "a column's name is letters"),
        ({"properties": {"a": "string"}}, "a full JSON Schema begins with `type: object`"),
        ({"type": "string"}, "an answer is an object with a value per column"),
        ({"type": "object"}, "output.schema: an object needs `properties`"),
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/X"}},
                "$defs": {"X": {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}}},
            },
            "#/$defs/X contains itself",
        ),
        (  # as pydantic writes a model that holds itself
            {
                "$defs": {"X": {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}}},
                "$ref": "#/$defs/X",
            },
            "#/$defs/X contains itself",
        ),
        ({"$defs": {"X": {"type": "string"}}, "$ref": "#/$defs/X"}, "a value per column, and this is one string"),
        *(
            (
                {
                    "type": "object",
                    "properties": {"a": {"$ref": "#/$defs/X", "description": "read", **beside}},
                    "$defs": {"X": {"type": "string"}},
                },
                f"output.schema.properties.a.{next(iter(beside))}: must stand in the definition: beside `$ref`",
            )
            for beside in ({"enum": ["b"]}, {"maxLength": 3}, {"mispelt": 1}, {"type": "string"})
        ),
    ],
)
def test_what_no_table_can_be(declared: dict[str, Any], expected: str) -> None:
    assert expected in refused(declared)


def test_a_column_may_be_called_type() -> None:
    assert AnswerSchema.from_declared({"type": {"enum": ["a"]}, "reason": "string"}).columns == ("type", "reason")
