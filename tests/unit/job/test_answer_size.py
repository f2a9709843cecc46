"""How long an answer of a schema is, before any was seen."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from batch_llm.job.answer_size import AnswerSize, answer_size
from batch_llm.job.schema import AnswerSchema


def size_of(declared: dict[str, Any]) -> AnswerSize:
    """Counted in bytes, so that the figures can be checked by eye."""
    shape = AnswerSchema.from_declared(declared).shape
    assert shape is not None
    return answer_size(shape, len)


def test_an_enum_counts_its_values_equally() -> None:
    size = size_of({"tone": {"enum": ["a", "abc", "abcdefgh"]}})
    assert size == AnswerSize(len('{"tone":"a"}'), len('{"tone":""}') + 4, len('{\n  "tone": "abcdefgh"\n}'), True)


@pytest.mark.parametrize(
    ("declared", "bounded"),
    [
        ({"tone": {"enum": ["a", "b"]}, "score": "number", "n": "integer", "sure": "boolean"}, True),
        ({"day": {"type": "string", "format": "date"}}, True),
        ({"name": {"type": "string", "maxLength": 40}}, True),
        ({"name": "string"}, False),
        ({"tags": {"type": "array", "items": {"enum": ["x", "y"]}}}, False),
        ({"tags": {"type": "array", "maxItems": 3, "items": {"enum": ["x", "y"]}}}, True),
        ({"tags": {"type": "array", "maxItems": 3, "items": {"type": "string"}}}, False),
        ({"who": {"type": "object", "properties": {"age": {"type": "integer"}}}}, True),
    ],
)
def test_a_schema_bounds_its_answers_or_not(declared: dict[str, Any], bounded: bool) -> None:
    size = size_of(declared)
    assert size.bounded is bounded
    assert 0 < size.low <= size.expected <= size.high


def test_a_string_is_between_its_rules() -> None:
    size = size_of({"why": {"type": "string", "minLength": 20, "maxLength": 60}})
    frame = len('{"why":""}')
    assert size.low == frame + 20
    assert size.expected == pytest.approx(frame + 40, abs=1)
    assert size.high >= frame + 60


def test_real_answers_lie_in_the_range() -> None:
    schema = {
        "tone": {"enum": ["hawkish", "neutral", "dovish"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "topics": {"type": "array", "maxItems": 4, "items": {"type": "string", "maxLength": 12}},
    }
    size = size_of(schema)
    for answer in (
        {"tone": "dovish", "score": 0.5, "topics": []},
        {"tone": "hawkish", "score": 0.873, "topics": ["inflation", "wages", "trade", "energy"]},
    ):
        assert size.low <= len(orjson.dumps(answer)) <= size.high
