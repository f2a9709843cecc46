"""Answers obey the schema they were asked for, whatever the bits."""

import re
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.simulator.draws import Draw
from batch_llm.simulator.refusals import Refused
from batch_llm.simulator.schema_answers import maker_for


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _make(schema: Any, start: int = 1, *, strict: bool = True) -> Any:
    return maker_for({"name": "answer", "schema": schema, "strict": strict})(Draw(start))


NUMBERS = st.integers(-1_000, 1_000)
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["string", "null"]}),
    st.lists(st.text(max_size=8), min_size=1, max_size=4).map(lambda values: {"type": "string", "enum": values}),
    st.integers(-5, 5).map(lambda value: {"const": value, "type": "integer"}),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
        lambda ends: {"type": "string", "minLength": min(ends), "maxLength": max(ends)}
    ),
    st.sampled_from(["integer", "number"]).map(lambda kind: {"type": kind}),
    st.tuples(st.sampled_from(["integer", "number"]), NUMBERS, NUMBERS).map(
        lambda t: {"type": t[0], "minimum": min(t[1:]), "maximum": max(t[1:])}
    ),
    st.tuples(NUMBERS, st.integers(2, 9)).map(
        lambda t: {"type": "integer", "exclusiveMinimum": t[0], "exclusiveMaximum": t[0] + t[1]}
    ),
    NUMBERS.map(lambda end: {"type": "number", "exclusiveMinimum": end}),
    NUMBERS.map(lambda end: {"type": "number", "maximum": end}),
    st.sampled_from([1, 5, 0.25]).map(
        lambda step: {"type": "number", "multipleOf": step, "minimum": -3, "maximum": 40}
    ),
    st.sampled_from(["date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname", "duration"]).map(
        lambda form: {"type": "string", "format": form}
    ),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.dictionaries(st.text(min_size=1, max_size=5), parts, max_size=4).map(lambda fields: _object(**fields)),
        st.tuples(parts, st.integers(0, 3), st.integers(0, 3)).map(
            lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
        ),
        st.lists(parts, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.integers(0, 2**64 - 1))
def test_every_answer_obeys_its_schema(part: Any, start: int) -> None:
    schema = _object(answer=part)
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    assert list(validator.iter_errors(_make(schema, start))) == []


def test_the_same_bits_give_the_same_answer_and_others_another() -> None:
    schema = _object(score={"type": "number"}, word={"type": "string"})
    assert _make(schema, 5) == _make(schema, 5)
    assert len({str(_make(schema, start)) for start in range(50)}) > 45


def test_every_value_of_an_enum_is_given_sometimes() -> None:
    schema = _object(tone={"type": "string", "enum": ["hawkish", "neutral", "dovish"]})
    tones = [_make(schema, start)["tone"] for start in range(300)]
    assert {tones.count(tone) > 60 for tone in ("hawkish", "neutral", "dovish")} == {True}


def test_a_nullable_value_is_null_sometimes() -> None:
    values = [_make(_object(name={"type": ["string", "null"]}), start)["name"] for start in range(200)]
    assert 5 < values.count(None) < 60


def test_a_number_without_bounds_looks_like_a_confidence() -> None:
    values = [_make(_object(confidence={"type": "number"}), start)["confidence"] for start in range(100)]
    assert all(0 < value < 1 for value in values)


def test_definitions_and_recursion_are_followed_and_end() -> None:
    schema = {
        **_object(tree={"$ref": "#/$defs/node"}),
        "$defs": {
            "node": _object(
                name={"type": "string"},
                children={"type": "array", "items": {"$ref": "#/$defs/node"}},
                next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            )
        },
    }
    validator = jsonschema_rs.Draft202012Validator(schema)
    assert all(validator.is_valid(_make(schema, start)) for start in range(20))


def test_without_strict_a_loose_schema_is_answered() -> None:
    loose = {"type": "object", "properties": {"note": {}, "tags": {"type": "array"}}}
    answer = _make(loose, strict=False)
    assert isinstance(answer["note"], str)
    assert isinstance(answer["tags"], list)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "array", "items": {"type": "string"}}, "schema must be a JSON Schema of 'type: \"object\"'"),
        ({"type": "object", "properties": {}}, "In context=(), 'additionalProperties' is required to be supplied"),
        (
            {**_object(a={"type": "string"}), "required": []},
            "'required' is required to be supplied and to be an array including every key in properties. Missing 'a'",
        ),
        (_object(a={"type": "object"}), "In context=('properties', 'a'), 'additionalProperties'"),
        (_object(a={}), "schema must have a 'type' key"),
        (_object(a={"type": "tuple"}), "'tuple' is not valid"),
        (_object(a={"allOf": [{"type": "string"}]}), "'allOf' is not permitted"),
        (_object(a={"type": "array"}), "array schema missing items"),
        (_object(a={"enum": []}), "'enum' must be an array with at least one value"),
        (_object(a={"$ref": "#/$defs/none"}), "points to nothing"),
        (_object(a={"$ref": "other.json"}), "can only point to definitions inside"),
        (_object(a={"type": "string", "pattern": "^a"}), "'pattern' is not imitated"),
        (_object(a="string"), "is not of type 'object'"),
        (_object(a={"type": "number", "minimum": 5, "maximum": 3}), "no number lies between"),
        (_object(a={"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}), "no integer lies between"),
        (_object(a={"type": "string", "minLength": 5, "maxLength": 3}), "no value can meet it"),
        (_object(a={"type": "array", "items": {"type": "null"}, "minItems": 5, "maxItems": 3}), "no value can meet it"),
    ],
)
def test_a_schema_that_cannot_be_met_is_refused_with_its_place(schema: Any, message: str) -> None:
    with pytest.raises(Refused, match=re.escape(message)) as refused:
        _make(schema)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, "response_format", None)


def test_makers_are_compiled_once_per_schema() -> None:
    declared = {"name": "answer", "schema": _object(a={"type": "string"}), "strict": True}
    assert maker_for(declared) is maker_for({**declared})
