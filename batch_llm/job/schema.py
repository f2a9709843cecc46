"""The answer's schema: what providers are told, what an answer must be, which columns come of it.

Belongs here: `AnswerSchema`, checking one answer. Not here: finding the JSON in it (answer_text.py), which schemas are
refused (schema_rules.py), asking again (engine), the columns every output has (warehouse/base.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from batch_llm.config.yaml_source import dotted
from batch_llm.job.answer_text import AnswerMismatch, read_json
from batch_llm.job.schema_rules import SchemaError, Shape, read_shape

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FREE_TEXT_COLUMN", "AnswerMismatch", "AnswerSchema", "SchemaError"]

FREE_TEXT_COLUMN = "response"
RESERVED_PREFIX = "llm_"  # of the columns every output has
INT64_SMALLEST, INT64_LARGEST = -(2**63), 2**63 - 1
MOST_REASONS = 3
LONGEST_REASON = 300  # characters; a large enum is not repeated in every failed row

_ONLY_CHECKED_HERE = {  # rules that strict mode does not take; the model is told in words
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "uniqueItems": "no element twice",
}


class AnswerSchema:
    """What shape the answers of a job have. Immutable; safe to use from several threads.

    Attributes:
        json_schema: What the provider is told: objects with ``additionalProperties`` false and every property
            required (an optional one may be null). None for free text. Do not change it.
        columns: The names of the answer's columns, in order.
    """

    json_schema: dict[str, Any] | None
    columns: tuple[str, ...]

    def __init__(self, shape: Shape | None) -> None:
        """Use `from_declared`. ``shape``: None for free text."""
        self._shape = shape
        self.columns = (FREE_TEXT_COLUMN,) if shape is None else tuple(field.name for field in shape.fields)
        self.json_schema = None if shape is None else _for_provider(shape)
        self._validator = None if shape is None else _validator(shape)
        fields = () if shape is None else shape.fields
        self._converters = tuple((field.name, _converter(field.shape, (field.name,))) for field in fields)

    @classmethod
    def from_declared(cls, declared: Mapping[str, Any] | None) -> AnswerSchema:
        """The schema that ``output.schema`` declares, short form or JSON Schema; None: free text.

        Raises:
            SchemaError: No column can hold it, no answer can meet it, or a name is reserved.
        """
        if declared is None:
            return cls(None)
        shape = read_shape(declared)
        for field in shape.fields:
            if field.name.lower().startswith(RESERVED_PREFIX):
                where = ("properties", field.name) if declared.get("type") == "object" else (field.name,)
                raise SchemaError(where, f"names that begin with {RESERVED_PREFIX} are reserved: rename the column")
        return cls(shape)

    @property
    def shape(self) -> Shape | None:
        """What was declared; None: free text."""
        return self._shape

    @property
    def arrow_fields(self) -> list[pa.Field]:
        """The answer's columns; all nullable, a failed row has none of them."""
        import pyarrow as pa  # late: `--help` must not load it

        if self._shape is None:
            return [pa.field(FREE_TEXT_COLUMN, pa.string())]
        return [pa.field(field.name, _arrow_type(field.shape)) for field in self._shape.fields]

    def parse(self, text: str) -> dict[str, Any]:
        """The values of the answer's columns, in their order.

        What may stand around the JSON, and which slips are read over: `answer_text.read_json`.

        Raises:
            AnswerMismatch: Not JSON, or not as the schema says.
        """
        if self._validator is None:
            return {FREE_TEXT_COLUMN: text}
        value = read_json(text)
        if not self._validator.is_valid(value):  # the reasons take longer, and few answers need them
            raise AnswerMismatch(_reasons(self._validator, value))
        return {name: convert(value.get(name)) for name, convert in self._converters}


def _reasons(validator: jsonschema_rs.Draft202012Validator, value: Any) -> str:
    return "; ".join(_reason(error) for error in islice(validator.iter_errors(value), MOST_REASONS))


def _validator(shape: Shape) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        _for_checking(shape), validate_formats=True, mask="the value", offline=True
    )


def _reason(error: jsonschema_rs.ValidationError) -> str:
    message = error.message
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        message = "the object has a key that the schema does not name"  # the key is the model's text
    if len(message) > LONGEST_REASON:
        message = message[: LONGEST_REASON - 3] + "..."
    path = dotted(tuple(error.instance_path))
    return f"{path}: {message}" if path else message


def _for_checking(shape: Shape, *, nullable: bool = False) -> dict[str, Any]:
    """JSON Schema with every declared rule; a property that may be left out is not required, and may be null."""
    allow_null = shape.nullable or nullable
    if shape.enum:  # the type is in the values: naming it as well would tell every mismatch twice
        return {"enum": [*shape.enum, *([None] if allow_null else [])]}
    schema: dict[str, Any] = {"type": [shape.kind, "null"] if allow_null else shape.kind, **shape.rules}
    if shape.item:
        schema["items"] = _for_checking(shape.item)
    if shape.fields:
        schema["properties"] = {
            field.name: _for_checking(field.shape, nullable=not field.required) for field in shape.fields
        }
        schema["required"] = [field.name for field in shape.fields if field.required]
        schema["additionalProperties"] = False
    return schema


def _for_provider(shape: Shape, *, nullable: bool = False) -> dict[str, Any]:
    """JSON Schema as strict mode wants it."""
    allow_null = shape.nullable or nullable
    schema: dict[str, Any] = {"type": shape.kind, **_description(shape)}
    schema.update((rule, value) for rule, value in shape.rules.items() if rule not in _ONLY_CHECKED_HERE)
    if shape.enum:
        schema["enum"] = [*shape.enum, *([None] if allow_null else [])]
    if shape.item:
        schema["items"] = _for_provider(shape.item)
    if shape.fields:
        schema["properties"] = {
            field.name: _for_provider(field.shape, nullable=not field.required) for field in shape.fields
        }
        schema["required"] = [field.name for field in shape.fields]
        schema["additionalProperties"] = False
    if not allow_null:
        return schema
    if shape.kind in ("object", "array"):
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [shape.kind, "null"]}


def _description(shape: Shape) -> dict[str, str]:
    notes = [
        words.format(shape.rules[rule])
        for rule, words in _ONLY_CHECKED_HERE.items()
        if shape.rules.get(rule) not in (None, False)
    ]
    parts = [shape.description or "", f"({', '.join(notes)})" if notes else ""]
    text = " ".join(part for part in parts if part)
    return {"description": text} if text else {}


def _arrow_type(shape: Shape) -> pa.DataType:
    import pyarrow as pa

    if shape.kind == "array" and shape.item:
        return pa.list_(_arrow_type(shape.item))
    if shape.kind == "object":
        return pa.struct([pa.field(field.name, _arrow_type(field.shape)) for field in shape.fields])
    plain = {"string": pa.string(), "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}
    return plain[shape.kind]


_Converter = Callable[[Any], Any]


def _converter(shape: Shape, path: tuple[str, ...]) -> _Converter:
    """From a checked value to Python's type for its column: JSON's 3.0 may be an integer and its 3 a number."""
    if shape.kind == "number":
        return _number
    if shape.kind == "integer":
        return _integer(path)
    if shape.item:
        return _list(_converter(shape.item, (*path, "[]")))
    if shape.fields:
        return _object([(field.name, _converter(field.shape, (*path, field.name))) for field in shape.fields])
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _integer(path: tuple[str, ...]) -> _Converter:
    place = dotted(path).replace(".[]", "[]")

    def convert(value: Any) -> int | None:
        if value is None:
            return None
        whole = int(value)
        if not INT64_SMALLEST <= whole <= INT64_LARGEST:
            raise AnswerMismatch(f"{place}: the number does not fit into 64 bits")
        return whole

    return convert


def _list(convert: _Converter) -> _Converter:
    if convert is _as_it_is:
        return _as_it_is
    return lambda value: None if value is None else [convert(item) for item in value]


def _object(converters: list[tuple[str, _Converter]]) -> _Converter:
    return lambda value: None if value is None else {name: convert(value.get(name)) for name, convert in converters}
