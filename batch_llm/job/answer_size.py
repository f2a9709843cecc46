"""How long an answer is that a schema describes, before any was seen.

Belongs here: example answers, from the shortest to the longest. Not here: what real answers taught (learned.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from batch_llm.job.schema_rules import Shape

__all__ = ["AnswerSize", "answer_size"]

EXAMPLES = 60  # divides by 2, 3, 4, 5, 6: each value of a usual enum comes equally often
NULL_EVERY = 8  # a value that may be null is, so often
USUAL_CHARACTERS = (8, 80)  # of a string without rules: most are a name or half a sentence
MOST_CHARACTERS = 2_000  # of a string without maxLength: nobody knows; then the size is not bounded
USUAL_ITEMS = 2  # of a list without maxItems, above its minItems
MOST_ITEMS = 20
WORDS = "the committee noted that prices rose in most districts while demand stayed moderate and wages held up "
OF_FORMAT = {
    "date-time": "2026-03-04T05:06:07Z",
    "date": "2026-03-04",
    "time": "05:06:07Z",
    "duration": "PT20M",
    "email": "someone@example.com",
    "hostname": "www.example.com",
    "ipv4": "192.0.2.17",
    "ipv6": "2001:db8::17",
    "uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
}


@dataclass(frozen=True, slots=True)
class AnswerSize:
    """Tokens of one answer."""

    low: int  # the shortest that the schema allows, or usual
    expected: int
    high: int  # the longest
    bounded: bool  # the schema itself says how long an answer can be


def answer_size(shape: Shape, count: Callable[[str], int]) -> AnswerSize:
    """How long the answers are, counted with ``count`` (text: tokens)."""
    typical = [count(orjson.dumps(_typical(shape, number)).decode()) for number in range(EXAMPLES)]
    expected = max(1, round(sum(typical) / EXAMPLES))
    shortest = count(orjson.dumps(_extreme(shape, longest=False)).decode())
    # a model may put its JSON on many lines
    longest = count(orjson.dumps(_extreme(shape, longest=True), option=orjson.OPT_INDENT_2).decode())
    return AnswerSize(min(shortest, expected), expected, max(longest, expected), _is_bounded(shape))


def _typical(shape: Shape, number: int) -> Any:
    if shape.nullable and number % NULL_EVERY == NULL_EVERY - 1:
        return None
    if shape.enum:
        size = len(shape.enum)
        return shape.enum[number * size // EXAMPLES if size > EXAMPLES else number % size]
    if shape.item:
        least, most = _items(shape)
        usual = most if "maxItems" in shape.rules else least + USUAL_ITEMS
        return [_typical(shape.item, number + item) for item in range(least + number % (usual - least + 1))]
    if shape.fields:
        return {
            field.name: None
            if not field.required and number % NULL_EVERY == place % NULL_EVERY
            else _typical(field.shape, number)
            for place, field in enumerate(shape.fields)
        }
    if shape.kind == "string":
        return _text(shape, number / (EXAMPLES - 1))
    if shape.kind == "boolean":
        return number % 2 == 0
    return _number(shape, (number + 0.5) / EXAMPLES)


def _extreme(shape: Shape, *, longest: bool) -> Any:
    if shape.nullable and not longest:
        return None
    if shape.enum:
        return (max if longest else min)(shape.enum, key=lambda value: len(orjson.dumps(value)))
    if shape.item:
        number = _items(shape)[1] if longest else int(shape.rules.get("minItems", 0))
        return [_extreme(shape.item, longest=longest)] * number
    if shape.fields:
        return {
            field.name: None if not (longest or field.required) else _extreme(field.shape, longest=longest)
            for field in shape.fields
        }
    if shape.kind == "string":
        if shape.rules.get("format") in OF_FORMAT:
            return OF_FORMAT[shape.rules["format"]]
        return _words(_characters(shape)[longest])
    if shape.kind == "boolean":
        return not longest
    if shape.kind == "integer":
        numbers = [int(_number(shape, share)) for share in (0.0, 1.0)]
        return (max if longest else min)(numbers, key=lambda value: len(str(value)))
    return -1234.567891 if longest else 0.5


def _is_bounded(shape: Shape) -> bool:
    if shape.enum:
        return True
    if shape.item:
        return "maxItems" in shape.rules and _is_bounded(shape.item)
    if shape.fields:
        return all(_is_bounded(field.shape) for field in shape.fields)
    return shape.kind != "string" or "maxLength" in shape.rules or shape.rules.get("format") in OF_FORMAT


def _items(shape: Shape) -> tuple[int, int]:
    most = shape.rules.get("maxItems")
    least = int(shape.rules.get("minItems", 1 if most is None else min(1, most)))
    return least, max(least, MOST_ITEMS if most is None else int(most))


def _characters(shape: Shape) -> tuple[int, int]:
    least = int(shape.rules.get("minLength", 0))
    return least, max(least, int(shape.rules.get("maxLength", MOST_CHARACTERS)))


def _text(shape: Shape, share: float) -> str:
    """Between the shortest usual string (share 0) and the longest (1)."""
    if shape.rules.get("format") in OF_FORMAT:
        return OF_FORMAT[shape.rules["format"]]
    most = shape.rules.get("maxLength", max(USUAL_CHARACTERS[1], shape.rules.get("minLength", 0)))
    least = shape.rules.get("minLength", min(USUAL_CHARACTERS[0], most))
    return _words(round(least + (most - least) * share))


def _words(characters: int) -> str:
    return (WORDS * (characters // len(WORDS) + 1))[:characters]


def _number(shape: Shape, share: float) -> float:
    """Between the smallest number (share 0) and the largest (1); a model writes two or three places."""
    rules = shape.rules
    low = rules.get("minimum", rules.get("exclusiveMinimum"))
    high = rules.get("maximum", rules.get("exclusiveMaximum"))
    span = 100 if shape.kind == "integer" else 1
    if low is None:
        low = 0 if high is None or high > 0 else high - span
    high = low + span if high is None else high
    value = float(low) + float(high - low) * share
    return round(value) if shape.kind == "integer" else round(value, 3)
