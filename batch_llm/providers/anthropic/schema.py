"""An answer's JSON Schema as Anthropic takes it: part of the keywords, the others in words.

Belongs here: from one schema to the other. Not here: sending it (messages.py), checking the answer, which is
done against the whole schema (job/schema.py).

What it takes: one type per node, enum, const, anyOf, allOf, $ref, $defs, properties that are all named, some formats,
minItems of 0 or 1. Anything else is refused, so it is said in the description, as the vendor's SDK does. What no words
can mend is refused here: an object of free keys, for every object is closed; a schema that is only true or false.
Source: anthropic 2.14.0, lib/_parse/_transform.py; https://github.com/agentjido/req_llm/issues/302 (minimum refused)
(read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch_llm.errors import ConfigurationError

__all__ = ["wire_schema"]

FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)  # fmt: skip
KEPT = ("enum", "const", "title", "$ref", "required")
COMBINED = ("anyOf", "oneOf", "allOf", "$ref")


def wire_schema(schema: object, place: str = "") -> dict[str, Any]:
    """The schema to send; what it says is never more than ``schema`` says.

    Raises `ConfigurationError` for what cannot be said to Anthropic; ``place``: where ``schema`` stands in the whole.
    """
    rest = _checked(schema, place)
    told = {name: rest.pop(name) for name in KEPT if name in rest}
    description = rest.pop("description", None)
    kinds = rest.pop("type", None)
    for name in ("$defs", "properties"):
        if name in rest:
            told[name] = {key: wire_schema(value, f"{place}{name}.{key}.") for key, value in rest.pop(name).items()}
    for name, as_name in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if name in rest:
            told[as_name] = [wire_schema(each, f"{place}{name}.") for each in rest.pop(name)]
    if isinstance(rest.get("items"), Mapping):
        told["items"] = wire_schema(rest.pop("items"), f"{place}items.")
    if "enum" not in told and "const" not in told and kinds is not None:
        _tell_type(told, kinds)
    if kinds == "object" or "properties" in told:
        told["additionalProperties"] = False
        rest.pop("additionalProperties", None)
    _keep_some(told, rest)
    words = [description] if description else []
    words += ["{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}"] if rest else []
    return told | ({"description": "\n\n".join(words)} if words else {})


def _checked(schema: object, place: str) -> dict[str, Any]:
    """A copy of it; raises `ConfigurationError`."""
    where = f"json_schema: {place.rstrip('.')}: " if place else "json_schema: "
    if not isinstance(schema, Mapping):
        raise ConfigurationError(f"{where}Anthropic takes no schema that is {schema!r}: say its type")
    free = schema.get("additionalProperties")
    is_object = schema.get("type") == "object" or "object" in _list(schema.get("type"))
    named = schema.get("properties") or any(name in schema for name in COMBINED)
    if isinstance(free, Mapping) or "patternProperties" in schema or (is_object and not named and free is not False):
        raise ConfigurationError(
            f"{where}Anthropic takes no object of free keys: name each in `properties`, or ask for a list of objects "
            "with key and value"
        )
    return dict(schema)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _tell_type(told: dict[str, Any], kinds: str | list[str]) -> None:
    """One type as it is; of several, one choice each, of which null has none of the other keywords."""
    if isinstance(kinds, str):
        told["type"] = kinds
        return
    shared = {name: told.pop(name) for name in ("properties", "items", "required") if name in told}
    closed = {"additionalProperties": False} if "properties" in shared else {}
    told["anyOf"] = [{"type": kind} if kind == "null" else {"type": kind, **shared, **closed} for kind in kinds]


def _keep_some(told: dict[str, Any], rest: dict[str, Any]) -> None:
    """The keywords that are taken with some values only."""
    if rest.get("format") in FORMATS:
        told["format"] = rest.pop("format")
    if rest.get("minItems") in (0, 1):
        told["minItems"] = rest.pop("minItems")
