"""From what a model wrote to the JSON in it, without asking again.

Belongs here: reading JSON that stands in prose or fences, or is punctuated a little wrong. Not here: whether the JSON
is the answer that was asked for (schema.py), what follows from a bad one (engine).

A repair changes what surrounds or punctuates JSON, never a value, and never completes anything: what was cut short
stays bad. So no bracket and no quote is ever added. Every object in the text must be whole, and all must be the same:
where two differ, nobody knows which one is the answer. Nor where one has a key twice.

What is nested more deeply than any schema allows is refused here, before anybody looks into it: the readers behind this
one go down level by level, and each gives up at another depth, some at one that depends on who called them.

The plain case, an answer that is JSON, costs one `orjson.loads` and counting its colons.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

__all__ = ["AnswerMismatch", "read_json"]

MOST_LEVELS = 100  # ten times what a schema may have; less than half of where orjson and jsonschema-rs give up

# the texts between quotes are skipped whole; what stands in them is the model's
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BRACKET = re.compile(r"[{}\[\]]")
_BRACKET_OR_STRING = re.compile(rf'{_STRING}|["{{}}\[\]]', re.DOTALL)
_CLOSES = {"{": "}", "[": "]"}

_MENDED = re.compile(
    _STRING
    + r"|(?<=[^{\[,:\s])(?P<comma>\s*+,)(?=\s*+[}\]])"  # a comma after the last of something
    + r"|\b(?P<word>True|False|None)\b"  # Python's names of JSON's values
    + r'|[“”„](?P<key>[^"“”„\\{}\[\],:\r\n]*+)[“”](?=\s*+:)',  # a key in typographic quotes
    re.DOTALL,
)
_END_OF_KEY = re.compile(r'"\s*+:')
_JSON_WORDS = {"True": "true", "False": "false", "None": "null"}


class AnswerMismatch(ValueError):
    """An answer breaks the schema; the message says where and how, and shows none of the answer."""


def read_json(text: str) -> Any:
    """The JSON value of an answer.

    Beside plain JSON: one JSON object with any text, fences or a byte order mark around it; a list of one object;
    commas after the last element; keys in typographic quotes; Python's True, False and None. Several objects count as
    one when they are the same.

    Raises:
        AnswerMismatch: No JSON, more than one object, one without its end, one with a key twice, or more than
            `MOST_LEVELS` levels.
    """
    if not text.startswith("{"):  # fenced, most of the time: a first look at the whole would take twice as long
        alone = _in_plain_text(text)
        if alone is not None:
            return alone
    try:
        value = _loads(text)
    except orjson.JSONDecodeError as error:
        complaint = error
    else:
        return value[0] if type(value) is list and _is_one_object(value) else value
    return _same_object(text, complaint)


def _loads(text: str) -> Any:
    """`orjson.loads`, which keeps the last value of a key that stands twice: such an object says two things."""
    value = orjson.loads(text)
    if text.count("[") + text.count("{") > MOST_LEVELS and _is_deeper(value, MOST_LEVELS):
        raise AnswerMismatch(f"the answer is nested too deeply: more than {MOST_LEVELS} levels")
    colons = text.count(":")  # each key has one; those in texts make closer looks necessary, that take longer each
    if type(value) is dict and colons == len(value):
        return value
    keys = _keys(value)
    if colons != keys and len(_END_OF_KEY.findall(text)) != keys:
        json.loads(text, object_pairs_hook=_refuse_repeated)
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects stand in each other more than ``levels`` times; without going down itself."""
    level = [value] if type(value) is dict or type(value) is list else []
    for _ in range(levels):
        inner = (each.values() if type(each) is dict else each for each in level)
        level = [each for every in inner for each in every if type(each) is dict or type(each) is list]
    return bool(level)


def _keys(value: Any) -> int:
    """Keys of all objects in a value."""
    if type(value) is not dict and type(value) is not list:
        return 0
    count = len(value) if type(value) is dict else 0
    for each in value.values() if type(value) is dict else value:
        if type(each) is dict or type(each) is list:
            count += _keys(each)
    return count


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise AnswerMismatch("an object of the answer has two values: a key stands twice in it")


def _same_object(text: str, complaint: orjson.JSONDecodeError) -> dict[str, Any]:
    """The one object in a text, however often it stands there; ``complaint``: why the text as a whole is no JSON."""
    said = str(complaint).partition(": line")[0]
    reason = f"the answer is not JSON ({said}; line {complaint.lineno}, column {complaint.colno})"
    objects = {orjson.dumps(each, option=orjson.OPT_SORT_KEYS): each for each in _objects(text, reason)}
    if len(objects) > 1:
        raise AnswerMismatch("the answer holds several JSON objects that differ: give one")
    if not objects:
        raise AnswerMismatch(reason)
    return objects.popitem()[1]


def _in_plain_text(text: str) -> dict[str, Any] | None:
    """The one object, where nothing around it has a bracket: what most models do that answer with a fence."""
    start, end = text.find("{"), text.rfind("}") + 1
    if not 0 <= start < end or _BRACKET.search(text, 0, start) or _BRACKET.search(text, end):
        return None
    try:
        value = _loads(text[start:end])
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict else None


def _objects(text: str, reason: str) -> list[dict[str, Any]]:
    """Every JSON object that is not part of another; ``reason`` is the complaint when one of them is broken."""
    found: list[dict[str, Any]] = []
    place = 0
    while opening := _BRACKET.search(text, place):
        place = _end(text, opening.start())
        if place < 0:
            raise AnswerMismatch(reason)
        group = text[opening.start() : place]
        if _is_prose(group):
            continue
        try:
            value = _loads(_MENDED.sub(_mended, group))
        except orjson.JSONDecodeError:
            value = None
        if type(value) is list and _is_one_object(value):
            value = value[0]
        if type(value) is not dict:
            raise AnswerMismatch(reason)
        found.append(value)
    return found


def _end(text: str, start: int) -> int:
    """Where the group that is opened at ``start`` ends; -1 when it does not, or nothing is opened there."""
    waiting: list[str] = []
    for part in _BRACKET_OR_STRING.finditer(text, start):
        mark = part[0]
        if mark in _CLOSES:
            waiting.append(_CLOSES[mark])
        elif mark in ("}", "]"):
            if not waiting or waiting.pop() != mark:
                return -1
            if not waiting:
                return part.end()
        elif mark == '"':  # a quote that opens what is never closed
            return -1
    return -1


def _is_prose(group: str) -> bool:
    """Brackets as people use them, in which no JSON object was meant: [1], {name}."""
    if group[0] == "[":
        return "{" not in group
    return '"' not in group and ":" not in group and bool(group[1:-1].strip())


def _is_one_object(value: list[Any]) -> bool:
    return len(value) == 1 and type(value[0]) is dict


def _mended(part: re.Match[str]) -> str:
    if part["comma"]:
        return ""
    if part["word"]:
        return _JSON_WORDS[part["word"]]
    if part["key"] is not None:
        return f'"{part["key"]}"'
    return part[0]
