"""Answer schemas: what providers are told, which columns come of it, what an answer must be."""

from __future__ import annotations

import json
import secrets
from typing import Any, Literal

import jsonschema_rs
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batch_llm.job.schema import AnswerMismatch, AnswerSchema

TONE = {"tone": {"enum": ["hawkish", "neutral", "dovish"]}, "confidence": "number"}


def schema(declared: dict[str, Any] | None) -> AnswerSchema:
    return AnswerSchema.from_declared(declared)


def test_without_a_schema_the_answer_is_one_column_of_text() -> None:
    free = schema(None)
    assert free.json_schema is None
    assert free.columns == ("response",)
    assert free.arrow_fields == [pa.field("response", pa.string())]
    assert free.parse("  anything ") == {"response": "  anything "}


def test_the_short_form_becomes_strict_json_schema() -> None:
    assert schema(TONE).json_schema == {
        "type": "object",
        "properties": {
            "tone": {"type": "string", "enum": ["hawkish", "neutral", "dovish"]},
            "confidence": {"type": "number"},
        },
        "required": ["tone", "confidence"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("declared", "told", "arrow"),
    [
        ("string", {"type": "string"}, pa.string()),
        ("number", {"type": "number"}, pa.float64()),
        ("integer", {"type": "integer"}, pa.int64()),
        ("boolean", {"type": "boolean"}, pa.bool_()),
        (["integer", "null"], {"type": ["integer", "null"]}, pa.int64()),
        (["integer", "number"], {"type": "number"}, pa.float64()),
        ({"enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}, pa.string()),
        ({"enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}, pa.int64()),
        ({"enum": [1, 2.5]}, {"type": "number", "enum": [1, 2.5]}, pa.float64()),
        ({"const": True}, {"type": "boolean", "enum": [True]}, pa.bool_()),
        ({"type": "array", "items": "string"}, {"type": "array", "items": {"type": "string"}}, pa.list_(pa.string())),
        (
            {"type": "string", "format": "date", "description": "A day", "maxLength": 10},
            {"type": "string", "format": "date", "description": "A day (at most 10 characters)"},
            pa.string(),
        ),
        (
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
            pa.list_(pa.int64()),
        ),
        (
            {"type": "object", "properties": {"a": "string", "b": "number"}, "required": ["a"]},
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": ["number", "null"]}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
            pa.struct([("a", pa.string()), ("b", pa.float64())]),
        ),
    ],
)
def test_each_type_has_its_column_and_its_strict_form(declared: Any, told: dict[str, Any], arrow: pa.DataType) -> None:
    made = schema({"x": declared})
    assert made.json_schema is not None
    assert made.json_schema["properties"]["x"] == told
    assert made.arrow_fields == [pa.field("x", arrow)]


def test_a_pydantic_models_schema_is_understood() -> None:
    class City(BaseModel):
        name: str
        people: int | None = None

    class Answer(BaseModel):
        kind: Literal["a", "b"]
        cities: list[City]
        note: str = ""

    made = schema(Answer.model_json_schema())
    assert made.columns == ("kind", "cities", "note")
    assert made.arrow_fields[1].type == pa.list_(pa.struct([("name", pa.string()), ("people", pa.int64())]))
    assert "$ref" not in json.dumps(made.json_schema)
    assert made.parse('{"kind": "a", "cities": [{"name": "x"}]}') == {
        "kind": "a",
        "cities": [{"name": "x", "people": None}],
        "note": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"tone": "neutral", "confidence": 1}',
        '  \n{"confidence": 1.0, "tone": "neutral"}\n',
        '```json\n{"tone": "neutral", "confidence": 1}\n```',
        '```\n{"tone": "neutral",\n "confidence": 1}```\n',
        '\ufeff{"tone": "neutral", "confidence": 1}',
        'Sure! {"tone": "neutral", "confidence": 1,} Hope this helps',
    ],
)
def test_a_good_answer_gives_the_columns_in_order_and_type(text: str) -> None:
    answer = schema(TONE).parse(text)
    assert list(answer.items()) == [("tone", "neutral"), ("confidence", 1.0)]
    assert type(answer["confidence"]) is float


def test_blanks_inside_a_fence_are_read_over() -> None:
    """A model that fills its answer with blanks costs no more time than one that does not."""
    blanks = " " * 40_000
    assert schema({"a": "number"}).parse(f'```json\n{{{blanks}"a": 1}}{blanks}\n```') == {"a": 1.0}
    with pytest.raises(AnswerMismatch, match="the answer is not JSON"):
        schema({"a": "number"}).parse(f"```json\n{{{blanks}x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"tone": "grumpy", "confidence": 1}', 'tone: the value is not one of "hawkish", "neutral" or "dovish"'),
        ('{"tone": null, "confidence": 1}', "tone: the value is not one of"),
        ('{"tone": "neutral", "confidence": "1"}', 'confidence: the value is not of type "number"'),
        ('{"tone": "neutral", "confidence": true}', 'confidence: the value is not of type "number"'),
        ('{"tone": "neutral"}', '"confidence" is a required property'),
        ('{"tone": "neutral", "confidence": 1, "extra": 1}', "a key that the schema does not name"),
        ('{"tone": "neutral", "confidence": NaN}', "the answer is not JSON"),
        ('{"tone": "neutral", "confidence": 1e999}', "the answer is not JSON"),
        ('{"tone": "neutral", "confi', "the answer is not JSON (unexpected end of data; line 1"),
        ('Sure! {"tone": "grumpy", "confidence": 1}', "tone: the value is not one of"),
        ('{"tone": "neutral", "confidence": 1} or {"tone": "dovish", "confidence": 1}', "several JSON objects"),
        ("[1]", 'the value is not of type "object"'),
        ("null", 'the value is not of type "object"'),
        ("", "the answer is not JSON"),
        ("```json\n```", "the answer is not JSON"),
    ],
)
def test_a_bad_answer_says_where_and_how(text: str, reason: str) -> None:
    with pytest.raises(AnswerMismatch) as caught:
        schema(TONE).parse(text)
    assert reason in str(caught.value)


@given(st.text())
def test_a_mismatch_never_shows_the_answer(noise: str) -> None:
    mark = secrets.token_hex(6)
    for text in (mark + noise, json.dumps({"tone": mark, "confidence": mark, mark: noise}), json.dumps([mark, noise])):
        with pytest.raises(AnswerMismatch) as caught:
            schema(TONE).parse(text)
        assert mark not in str(caught.value)


RICH = {
    "n": "integer",
    "tags": {"type": "array", "items": "string", "minItems": 1, "uniqueItems": True},
    "day": {"type": "string", "format": "date"},
    "code": {"type": "string", "pattern": "^[A-Z]+$", "maxLength": 3},
    "o": {"type": "object", "properties": {"a": "number", "b": "string"}, "required": ["a"]},
}
GOOD: dict[str, Any] = {"n": 3, "tags": ["x"], "day": "2020-02-29", "code": "AB", "o": {"a": 1}}


def test_json_numbers_become_the_columns_type() -> None:
    answer = schema(RICH).parse(json.dumps({**GOOD, "n": 3.0}))
    assert answer["n"] == 3
    assert type(answer["n"]) is int
    assert answer["o"] == {"a": 1.0, "b": None}
    table = pa.Table.from_pylist([answer], schema=pa.schema(schema(RICH).arrow_fields))
    assert table.num_rows == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": 3.5}, "n: the value is not of type"),
        ({"n": 2**63}, "n: the number does not fit into 64 bits"),
        ({"n": 1e30}, "n: the number does not fit into 64 bits"),
        ({"tags": []}, "tags: the value has less than 1 item"),
        ({"tags": ["x", "x"]}, "tags: the value has non-unique elements"),
        ({"tags": ["x", 1]}, "tags[1]: the value is not of type"),
        ({"day": "2021-02-29"}, 'day: the value is not a "date"'),
        ({"code": "ab"}, "code: the value does not match"),
        ({"code": "ABCD"}, "code: the value is longer than 3 characters"),
        ({"o": {"a": 1, "b": 2}}, "o.b: the value is not of type"),
        ({"o": {"b": "x"}}, 'o: "a" is a required property'),
    ],
)
def test_every_declared_rule_is_checked(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(AnswerMismatch) as caught:
        schema(RICH).parse(json.dumps({**GOOD, **change}))
    assert reason in str(caught.value)


def test_reasons_stay_short() -> None:
    many = schema(
        {"x": {"enum": [f"value {number}" for number in range(500)]}, **{f"c{n}": "string" for n in range(9)}}
    )
    with pytest.raises(AnswerMismatch) as caught:
        many.parse(json.dumps({"x": 1, **{f"c{n}": 1 for n in range(9)}}))
    assert len(str(caught.value)) < 1_000


leaf = st.sampled_from(
    [
        "string",
        "number",
        "integer",
        "boolean",
        ["string", "null"],
        {"enum": ["a", "b"]},
        {"enum": [1, 2]},
        {"enum": [0.5, None]},
    ]
)
names = st.from_regex(r"[a-k][a-z0-9_]{0,5}", fullmatch=True)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(names, inner, min_size=1, max_size=3).map(
        lambda found: {"type": "object", "properties": found}
    )


types = st.recursive(
    leaf, lambda inner: inner.map(lambda item: {"type": "array", "items": item}) | objects(inner), max_leaves=6
)


def answer_for(told: dict[str, Any]) -> Any:
    """Some answer that the provider's schema allows."""
    if "anyOf" in told:
        return None
    if "enum" in told:
        return told["enum"][-1]
    kind = told["type"][0] if isinstance(told["type"], list) else told["type"]
    if kind == "object":
        return {name: answer_for(part) for name, part in told["properties"].items()}
    if kind == "array":
        return [answer_for(told["items"])]
    return {"string": "x", "number": 1, "integer": 2, "boolean": False}[kind]


@given(st.dictionaries(names, types, min_size=1, max_size=4))
def test_what_the_provider_is_told_fits_what_is_checked_and_stored(declared: dict[str, Any]) -> None:
    made = schema(declared)
    assert made.json_schema is not None
    answer = answer_for(made.json_schema)
    jsonschema_rs.Draft202012Validator(made.json_schema).validate(answer)
    stored = pa.Table.from_pylist([made.parse(json.dumps(answer))], schema=pa.schema(made.arrow_fields))
    assert stored.to_pylist() == [answer]
