"""Answers that obey a JSON Schema, drawn from random bits.

Belongs here: turning a schema into a maker of values, the schema rules that OpenAI's strict mode refuses.
Not here: whether an answer is to be spoiled (faults.py), free text (answers.py).
Source: the error bodies quoted below, each seen in public (read 2026-11-21); the full list of what the real API
accepts was not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from batch_llm.simulator.draws import Draw, words
from batch_llm.simulator.refusals import bad_request

__all__ = ["AnswerMaker", "maker_for"]

AnswerMaker = Callable[[Draw], Any]
# A maker of one node: draws from the bits, given how deep the value lies (recursive schemas must end).
Maker = Callable[[Draw, int], Any]

DEEP = 6  # from here on recursive parts choose null or an empty list
DEEPEST = 60  # a schema that still goes on cannot end
CACHED_SCHEMAS = 256
NOT_PERMITTED = ("allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")

_makers: dict[bytes, AnswerMaker] = {}


def maker_for(declared: Mapping[str, Any]) -> AnswerMaker:
    """The maker of answers for a response_format's ``json_schema`` object; raises `Refused` (400) for a bad schema.

    Makers are kept per schema, so that a job's thousands of requests compile theirs once.
    """
    key = orjson.dumps(declared, option=orjson.OPT_NON_STR_KEYS)
    maker = _makers.get(key)
    if maker is None:
        maker = _SchemaCompiler(declared).maker()
        if len(_makers) >= CACHED_SCHEMAS:
            _makers.clear()
        _makers[key] = maker
    return maker


class _SchemaCompiler:
    """One pass over one schema."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        self._name = str(declared["name"])
        self._strict = bool(declared.get("strict"))
        self._root = declared["schema"]
        self._refs: dict[str, Maker | None] = {}

    def maker(self) -> AnswerMaker:
        """A maker for the root, which must be an object."""
        if not isinstance(self._root, dict) or self._root.get("type") != "object":
            got = self._root.get("type") if isinstance(self._root, dict) else None
            raise self._bad(None, f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{got}\"'.")
        root = self._node(self._root, ())
        return lambda draw: root(draw, 0)

    def _bad(self, path: tuple[str, ...] | None, what: str) -> Exception:
        """Source: https://github.com/dottxt-ai/outlines/issues/1666 (wording, param, code null) (read 2026-11-21)."""
        where = "" if path is None else f"In context={path}, "
        return bad_request(f"Invalid schema for response_format '{self._name}': {where}{what}", "response_format", None)

    def _node(self, node: Any, path: tuple[str, ...]) -> Maker:
        if not isinstance(node, dict):
            raise self._bad(path, f"{node!r} is not of type 'object', 'boolean'.")
        for keyword in NOT_PERMITTED:
            if keyword in node:
                raise self._bad(path, f"'{keyword}' is not permitted.")
        if "$ref" in node:
            return self._ref(node["$ref"], path)
        if "const" in node:
            value = node["const"]
            return lambda _draw, _depth: value
        if "enum" in node:
            return self._choice(node["enum"], path)
        options = node.get("anyOf") or node.get("oneOf")
        if options:
            return self._either([(option, (*path, "anyOf", str(n))) for n, option in enumerate(options)])
        kinds = node.get("type")
        if isinstance(kinds, list):
            return self._either([({**node, "type": kind}, path) for kind in kinds])
        return self._typed(node, kinds, path)

    def _typed(self, node: dict[str, Any], kind: Any, path: tuple[str, ...]) -> Maker:
        if kind is None and self._strict:
            raise self._bad(path, "schema must have a 'type' key.")
        if kind == "object" or (kind is None and "properties" in node):
            return self._object(node, path)
        if kind == "array":
            return self._array(node, path)
        if kind in ("number", "integer"):
            return self._number(node, kind, path)
        if kind == "boolean":
            return lambda draw, _depth: draw.below(2) == 1
        if kind == "null":
            return lambda _draw, _depth: None
        if kind in ("string", None):
            return self._string(node, path)
        raise self._bad(path, f"{kind!r} is not valid under any of the given schemas.")

    def _choice(self, values: Any, path: tuple[str, ...]) -> Maker:
        if not isinstance(values, list) or not values:
            raise self._bad(path, "'enum' must be an array with at least one value.")
        return lambda draw, _depth: values[draw.below(len(values))]

    def _ref(self, ref: Any, path: tuple[str, ...]) -> Maker:
        if ref not in self._refs:
            self._refs[ref] = None  # a recursive schema meets itself here
            self._refs[ref] = self._node(self._resolve(ref, path), path)

        def made(draw: Draw, depth: int) -> Any:
            maker = self._refs[ref]
            return maker(draw, depth + 1) if maker is not None and depth < DEEPEST else None

        return made

    def _resolve(self, ref: Any, path: tuple[str, ...]) -> Any:
        target = self._root
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise self._bad(path, f"reference {ref!r} can only point to definitions inside the schema.")
        for step in ref[1:].strip("/").split("/"):
            if step and (not isinstance(target, dict) or step not in target):
                raise self._bad(path, f"reference {ref!r} points to nothing.")
            target = target[step] if step else target
        return target

    def _either(self, options: list[tuple[Any, tuple[str, ...]]]) -> Maker:
        """One of several; null one time in eight, and always where a recursive schema must end."""
        makers = [self._node(option, path) for option, path in options]
        nulls = [n for n, (option, _) in enumerate(options) if option.get("type") == "null"]
        others = [maker for n, maker in enumerate(makers) if n not in nulls] or makers

        def made(draw: Draw, depth: int) -> Any:
            if nulls and (depth >= DEEP or draw.below(8) == 0):
                return None
            return others[draw.below(len(others))](draw, depth)

        return made

    def _object(self, node: dict[str, Any], path: tuple[str, ...]) -> Maker:
        properties = node.get("properties") or {}
        if self._strict:
            self._check_strict(node, properties, path)
        makers = [(name, self._node(part, (*path, "properties", name))) for name, part in properties.items()]
        return lambda draw, depth: {name: maker(draw, depth + 1) for name, maker in makers}

    def _check_strict(self, node: dict[str, Any], properties: dict[str, Any], path: tuple[str, ...]) -> None:
        """Source: https://github.com/vercel/ai/issues/6484 (required), outlines/issues/844 (read 2026-11-21)."""
        if node.get("additionalProperties") is not False:
            raise self._bad(path, "'additionalProperties' is required to be supplied and to be false.")
        missing = [name for name in properties if name not in (node.get("required") or [])]
        if missing:
            raise self._bad(
                path,
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{missing[0]}'.",
            )

    def _array(self, node: dict[str, Any], path: tuple[str, ...]) -> Maker:
        if "items" not in node and self._strict:
            raise self._bad(path, "array schema missing items.")
        item = self._node(node.get("items", {"type": "string"}), (*path, "items"))
        low = int(node.get("minItems", min(1, node.get("maxItems", 1))))
        high = int(node.get("maxItems", low + 2))
        if low > high:
            raise self._bad(path, f"no value can meet it: minItems {low} is above maxItems {high}.")

        def made(draw: Draw, depth: int) -> list[Any]:
            count = low if depth >= DEEP else low + draw.below(high - low + 1)
            return [item(draw, depth + 1) for _ in range(count if depth < DEEP else node.get("minItems", 0))]

        return made

    def _number(self, node: dict[str, Any], kind: str, path: tuple[str, ...]) -> Maker:
        step = node.get("multipleOf") or (1 if kind == "integer" else None)
        low, high = _bounds(node, 100.0 if kind == "integer" else 1.0)
        if step is not None:
            first, last = math.ceil(round(low / step, 9)), math.floor(round(high / step, 9))
            first += bool(first * step <= node.get("exclusiveMinimum", -math.inf))
            last -= bool(last * step >= node.get("exclusiveMaximum", math.inf))
            if first > last:
                raise self._bad(path, f"no {kind} lies between {low} and {high}.")
            whole = kind == "integer"
            return lambda draw, _depth: _multiple(first + draw.below(last - first + 1), step, whole)
        open_ended = "exclusiveMinimum" in node or "exclusiveMaximum" in node
        if low > high or (low == high and open_ended):
            raise self._bad(path, f"no {kind} lies between {low} and {high}.")

        def made(draw: Draw, _depth: int) -> float:
            exact = low + (high - low) * (draw.below(999) + 1) / 1000
            rounded = round(exact, 3)
            return rounded if low < rounded < high or (low <= rounded <= high and not open_ended) else exact

        return made

    def _string(self, node: dict[str, Any], path: tuple[str, ...]) -> Maker:
        if "pattern" in node:
            raise self._bad(path, "'pattern' is not imitated by batch-llm's simulator.")
        form = FORMATS.get(node.get("format", ""))
        if form is not None:
            return lambda draw, _depth: form(draw)
        low = int(node.get("minLength", min(8, node.get("maxLength", 8))))
        high = int(node.get("maxLength", low + 32))
        if low > high:
            raise self._bad(path, f"no value can meet it: minLength {low} is above maxLength {high}.")
        return lambda draw, _depth: words(draw, low + draw.below(high - low + 1))


def _bounds(node: dict[str, Any], span: float) -> tuple[float, float]:
    lows = [node[name] for name in ("minimum", "exclusiveMinimum") if name in node]
    highs = [node[name] for name in ("maximum", "exclusiveMaximum") if name in node]
    if lows:
        return max(lows), min(highs) if highs else max(lows) + span
    if highs:
        return (0.0 if min(highs) > 0 else min(highs) - span), min(highs)
    return 0.0, span


def _multiple(count: int, step: float, whole: bool) -> float:
    return int(count * step) if whole else round(count * step, 9)


def _day(draw: Draw) -> str:
    return f"{2000 + draw.below(26)}-{1 + draw.below(12):02}-{1 + draw.below(28):02}"


def _time(draw: Draw) -> str:
    return f"{draw.below(24):02}:{draw.below(60):02}:{draw.below(60):02}Z"


def _uuid(draw: Draw) -> str:
    digits = f"{draw.below(2**62):016x}{draw.below(2**62):016x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


FORMATS: Mapping[str, Callable[[Draw], str]] = {
    "date": _day,
    "time": _time,
    "date-time": lambda draw: f"{_day(draw)}T{_time(draw)}",
    "duration": lambda draw: f"PT{1 + draw.below(59)}M",
    "email": lambda draw: f"user{draw.below(10_000)}@example.com",
    "hostname": lambda draw: f"host{draw.below(10_000)}.example.com",
    "ipv4": lambda draw: f"192.0.2.{draw.below(256)}",
    "ipv6": lambda draw: f"2001:db8::{draw.below(65_535) + 1:x}",
    "uuid": _uuid,
}
