"""What a declared answer schema means, and which ones are refused.

Belongs here: reading the short form and JSON Schema into a `Shape`; refusing what no column can hold, what no answer
can meet, what strict mode does not know. Not here: what is made of a Shape (schema.py).

The levels, the number of enum values and the keywords are those of OpenAI's strict mode.
Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas, as summed up by
https://jsonschemaprofiles.unitvectorylabs.com/schemas/openai (baseline February 2026, read 2026-11-21).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NoReturn, cast

import jsonschema_rs

from batch_llm.config.problems import did_you_mean
from batch_llm.config.secrets import looks_secret, mask
from batch_llm.config.yaml_source import Place, dotted
from batch_llm.errors import JobFileError

__all__ = ["Field", "SchemaError", "Shape", "read_shape"]

MOST_LEVELS = 10
MOST_ENUM_VALUES = 1_000
KINDS = ("string", "number", "integer", "boolean", "array", "object")
FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RANGE = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_RULES = {  # the keywords of each kind that an answer is checked against
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": _RANGE,
    "integer": _RANGE,
    "boolean": (),
    "array": ("minItems", "maxItems", "uniqueItems"),
    "object": (),
}
_PARTS = {"array": ("items",), "object": ("properties", "required", "additionalProperties")}
_NOTES = (
    "title",
    "description",
    "default",
    "examples",
    "$comment",
    "deprecated",
    "$schema",
    "$id",
    "$defs",
    "definitions",
)
_KNOWN = frozenset(
    {"type", "enum", "const", *_NOTES, *(word for words in (*_RULES.values(), *_PARTS.values()) for word in words)}
)
_WRAPPERS = ("anyOf", "oneOf", "allOf")
_PYTHON_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


class SchemaError(JobFileError):
    """An answer schema is refused.

    Attributes:
        path: Where, inside the declared schema.
        reason: What is wrong there.
    """

    def __init__(self, path: Place, reason: str) -> None:
        super().__init__(f"{dotted(('output', 'schema', *path))}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Field:
    """One named value of an object."""

    name: str
    shape: Shape
    required: bool  # False: an answer may leave it out, the column is then null


@dataclass(frozen=True, slots=True)
class Shape:
    """One value of an answer."""

    kind: str  # one of KINDS
    nullable: bool = False
    description: str | None = None
    enum: tuple[Any, ...] = ()  # without null; empty: any value
    rules: Mapping[str, Any] = field(default_factory=dict)  # JSON Schema keywords of this kind
    item: Shape | None = None  # of an array
    fields: tuple[Field, ...] = ()  # of an object


def read_shape(declared: Mapping[str, Any]) -> Shape:
    """The shape of an answer: an object with one field per column.

    Args:
        declared: ``{column: type or schema}``, or a full JSON Schema with ``type: object``.

    Raises:
        SchemaError: With the path inside ``declared``.
    """
    if declared.get("type") == "object" or "$ref" in declared:
        groups = {name: declared[name] for name in ("$defs", "definitions") if isinstance(declared.get(name), Mapping)}
        shape = _Reader(groups).read(declared, ())
        if shape.kind != "object":
            _refuse((), f"an answer is an object with a value per column, and this is one {shape.kind}")
        return shape
    if set(declared) == {"type"} and isinstance(declared["type"], str):
        _refuse((), "an answer is an object with a value per column: {column: string}; or leave `schema` out")
    if isinstance(declared.get("properties"), Mapping) or "$schema" in declared:
        _refuse((), "a full JSON Schema begins with `type: object`; the short form is {column: type}")
    return _Reader({}).object(Shape("object"), declared, (), set(declared))


def _refuse(path: Place, reason: str) -> NoReturn:
    raise SchemaError(path, reason)


class _Reader:
    """Reads one declared schema; holds its definitions and the references being followed."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._following: list[str] = []

    def read(self, declared: Any, path: Place, level: int = 0) -> Shape:
        """One value; ``level``: how deep it stands."""
        if level > MOST_LEVELS:
            _refuse(path, f"more than {MOST_LEVELS} levels")
        if isinstance(declared, str | list):
            declared = {"type": declared}
        if not isinstance(declared, Mapping):
            _refuse(path, f"must be a type ({', '.join(KINDS)}) or a mapping, got {mask(declared)}")
        if "$ref" in declared:
            return self._follow(declared, path, level)
        for word in _WRAPPERS:
            if word in declared:
                return self._unwrap(declared, word, path, level)
        shape = _plain(declared, path)
        if shape.kind == "array":
            if "items" not in declared:
                _refuse(path, "an array needs `items`: the type of its elements")
            item = self.read(declared["items"], (*path, "items"), level + 1)
            shape = _with(shape, item=item)
        elif shape.kind == "object":
            shape = self._read_object(shape, declared, path, level)
        _check_possible(shape, path)
        return shape

    def object(
        self, shape: Shape, properties: Mapping[str, Any], path: Place, required: set[str], level: int = 0
    ) -> Shape:
        """An object of these properties; ``path`` is where the properties stand."""
        if not properties:
            _refuse(path, "names no column")
        seen: dict[str, str] = {}
        fields = []
        for name, declared in properties.items():
            here = (*path, name)
            if not isinstance(name, str) or not COLUMN_NAME.fullmatch(name):
                _refuse(here, "a column's name is letters, digits and _, and begins with no digit")
            if name.lower() in seen:
                _refuse(here, f"{name!r} and {seen[name.lower()]!r} are the same column: tables ignore upper case")
            seen[name.lower()] = name
            fields.append(Field(name, self.read(declared, here, level + 1), name in required))
        return _with(shape, fields=tuple(fields))

    def _read_object(self, shape: Shape, declared: Mapping[str, Any], path: Place, level: int) -> Shape:
        properties = declared.get("properties")
        if not isinstance(properties, Mapping):
            _refuse(path, "an object needs `properties`: free keys have no columns")
        if declared.get("additionalProperties", False) is not False:
            _refuse((*path, "additionalProperties"), "must be false: free keys have no columns")
        required = declared.get("required", list(properties))
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            _refuse((*path, "required"), "must be a list of names that stand in `properties`")
        return self.object(shape, properties, (*path, "properties"), set(required), level)

    def _follow(self, declared: Mapping[str, Any], path: Place, level: int) -> Shape:
        others = [key for key in declared if key != "$ref" and key not in _NOTES]
        if others:
            _refuse((*path, others[0]), "must stand in the definition: beside `$ref` it would not be checked")
        reference = str(declared["$ref"])
        match = re.fullmatch(r"#/(\$defs|definitions)/([^/]+)", reference)
        group = self._definitions.get(match[1], {}) if match else {}
        if match is None or match[2] not in group:
            _refuse(
                (*path, "$ref"), f"{mask(reference)} is no definition of this schema (#/$defs/NAME); none is fetched"
            )
        if reference in self._following:
            _refuse((*path, "$ref"), f"{reference} contains itself: no table has endless columns")
        self._following.append(reference)
        shape = self.read(group[match[2]], (match[1], match[2]), level)
        self._following.pop()
        return _with(shape, description=declared.get("description", shape.description))

    def _unwrap(self, declared: Mapping[str, Any], word: str, path: Place, level: int) -> Shape:
        """``anyOf: [X, {type: null}]`` is X or null; a single choice is that choice; other unions have no column."""
        choices = declared[word]
        others = [key for key in declared if key != word and key not in _NOTES]
        if not isinstance(choices, list) or others:
            _refuse((*path, word), "must be a list and stand alone")
        real = [(number, choice) for number, choice in enumerate(choices) if choice not in ({"type": "null"}, "null")]
        if len(real) != 1 or (word == "allOf" and len(choices) != 1):
            _refuse((*path, word), "a column has one type: only a choice between one type and null can be kept")
        number, choice = real[0]
        shape = self.read(choice, (*path, word, number), level)
        nullable = shape.nullable or len(choices) > 1
        return _with(shape, nullable=nullable, description=declared.get("description", shape.description))


def _with(shape: Shape, **changes: Any) -> Shape:
    values = {name: getattr(shape, name) for name in Shape.__slots__}
    return Shape(**{**values, **changes})


def _plain(declared: Mapping[str, Any], path: Place) -> Shape:
    """Kind, null, enum and rules of a schema without references and choices."""
    _check_keywords(declared, path)
    enum = _enum(declared, path)
    kinds = _kinds(declared, enum, path)
    nullable = "null" in kinds or None in enum
    values = tuple(value for value in enum if value is not None)
    named = {kind for kind in kinds if kind != "null"} or {_PYTHON_KINDS[type(value)] for value in values}
    if not named:
        _refuse(path, "only null is possible: the column would be empty")
    if named == {"integer", "number"}:
        named = {"number"}
    if len(named) > 1:
        _refuse(path, f"{' or '.join(sorted(named))}: a column has one type")
    kind = named.pop()
    allowed = {*_RULES[kind], *_PARTS.get(kind, ()), "type", "enum", "const", *_NOTES}
    for word in declared:
        if word not in allowed:
            _refuse((*path, word), f"has no meaning for type {kind}")
    rules = {word: declared[word] for word in _RULES[kind] if word in declared}
    return Shape(kind, nullable, _description(declared, path), values, rules)


def _description(declared: Mapping[str, Any], path: Place) -> str | None:
    text = declared.get("description")
    if text is not None and not isinstance(text, str):
        _refuse((*path, "description"), f"must be text, got {mask(text)}")
    return text


def _check_keywords(declared: Mapping[str, Any], path: Place) -> None:
    for word in declared:
        if word not in _KNOWN:
            _refuse((*path, word), f"{mask(word)} cannot be used here{did_you_mean(word, _KNOWN)}")


def _enum(declared: Mapping[str, Any], path: Place) -> list[Any]:
    if "const" in declared:
        return [declared["const"]]
    if "enum" not in declared:
        return []
    values, here = declared["enum"], (*path, "enum")
    if not isinstance(values, list) or not 0 < len(values) <= MOST_ENUM_VALUES:
        _refuse(here, f"must be a list of 1 to {MOST_ENUM_VALUES} values: no answer is in an empty one")
    for number, value in enumerate(values):
        if value is not None and type(value) not in _PYTHON_KINDS:
            _refuse((*here, number), f"must be text, a number, true, false or null, got {mask(value)}")
        if any(value == other and type(value) is type(other) for other in values[:number]):
            _refuse((*here, number), f"{mask(value)} stands twice")
    return values


def _kinds(declared: Mapping[str, Any], enum: list[Any], path: Place) -> set[str]:
    if "type" not in declared:
        if not enum:
            _refuse(path, f"needs a `type` ({', '.join(KINDS)}) or an `enum`")
        return set()
    named = declared["type"]
    names = named if isinstance(named, list) else [named]
    for name in names:
        if not isinstance(name, str) or name not in (*KINDS, "null"):
            hint = did_you_mean(str(name), KINDS) or _foreign_type(str(name))
            where = (*path, "type") if isinstance(declared.get("type"), list) or len(declared) > 1 else path
            _refuse(where, f"{mask(name)} is not one of {', '.join(KINDS)}{hint}")
    return set(names)


def _foreign_type(name: str) -> str:
    foreign = {"str": "string", "text": "string", "float": "number", "double": "number", "int": "integer", "date": ""}
    meant = {**foreign, "bool": "boolean", "list": "array", "dict": "object", "struct": "object"}.get(name.lower())
    if meant == "":
        return "; write {type: string, format: date}"
    return f"; did you mean {meant!r}?" if meant else ""


def _check_possible(shape: Shape, path: Place) -> None:
    """Refuse rules that no value meets, and values of an enum that can never be answered."""
    keywords = {"type": shape.kind, **shape.rules}
    if shape.rules.get("format", FORMATS[0]) not in FORMATS:
        named = str(shape.rules["format"])
        _refuse((*path, "format"), f"{mask(named)} is not one of {', '.join(FORMATS)}{did_you_mean(named, FORMATS)}")
    try:
        validator = jsonschema_rs.Draft202012Validator(keywords, validate_formats=True, offline=True)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        reason = "the value is not shown because it looks like a secret"
        if not looks_secret(str(error)):
            reason = str(error).splitlines()[0]
        at = cast("list[str | int]", getattr(error, "instance_path", []))
        raise SchemaError((*path, *at), f"is not a valid JSON Schema: {reason}") from None
    for value in shape.enum:
        if not validator.is_valid(value):
            _refuse((*path, "enum"), f"no answer can be {mask(value)}: it breaks the type or the other rules")
    contradiction = _contradiction(shape)
    if contradiction:
        _refuse(path, f"no answer can meet this: {contradiction}")


def _contradiction(shape: Shape) -> str | None:
    rules = shape.rules
    for least, most in (("minLength", "maxLength"), ("minItems", "maxItems")):
        if rules.get(least, 0) > rules.get(most, math.inf):
            return f"{least} {rules[least]} is larger than {most} {rules[most]}"
    if shape.kind in ("number", "integer"):
        return _empty_range(shape)
    if shape.item and shape.item.enum and rules.get("uniqueItems"):
        different = len(shape.item.enum) + shape.item.nullable
        if rules.get("minItems", 0) > different:
            return f"minItems {rules['minItems']} different values, and there are only {different}"
    return None


def _empty_range(shape: Shape) -> str | None:
    rules = {word: Fraction(str(value)) for word, value in shape.rules.items()}  # exact: 3 * 0.1 is not 0.3 in floats
    low = max((rules[word] for word in ("minimum", "exclusiveMinimum") if word in rules), default=None)
    high = min((rules[word] for word in ("maximum", "exclusiveMaximum") if word in rules), default=None)
    if low is None or high is None:
        return None
    step = rules.get("multipleOf", Fraction(1) if shape.kind == "integer" else None)
    if low > high or (low == high and (low == rules.get("exclusiveMinimum") or high == rules.get("exclusiveMaximum"))):
        return f"nothing lies between {float(low):g} and {float(high):g}"
    if step is None:
        return None
    first = math.ceil(low / step) * step
    if first == rules.get("exclusiveMinimum"):
        first += step
    if first > high or first == rules.get("exclusiveMaximum"):
        what = "whole number" if "multipleOf" not in rules else f"multiple of {float(step):g}"
        return f"no {what} lies between {float(low):g} and {float(high):g}"
    return None
