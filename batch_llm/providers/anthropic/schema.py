"""An answer's JSON Schema as Anthropic takes it: part of the keywords, the others in words.

Belongs here: from one schema to the other. Not here: sending it (messages.py), checking the answer, which is
done against the whole schema (job/schema.py).

What it takes: one type per node, enum, const, anyOf, allOf, $ref, $defs, properties that are all named, some formats,
minItems of 0 or 1. Anything else is refused, so it is said in the description, as the vendor's SDK does.
Source: anthropic 2.14.0, lib/_parse/_transform.py; https://github.com/agentjido/req_llm/issues/302 (minimum refused)
(read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["wire_schema"]

FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)  # fmt: skip
KEPT = ("enum", "const", "title", "$ref", "required")


def wire_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema to send; what it says is never more than ``schema`` says."""
    rest = dict(schema)
    told = {name: rest.pop(name) for name in KEPT if name in rest}
    description = rest.pop("description", None)
    kinds = rest.pop("type", None)
    for name in ("$defs", "properties"):
        if name in rest:
            told[name] = {key: wire_schema(value) for key, value in rest.pop(name).items()}
    for name, as_name in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if name in rest:
            told[as_name] = [wire_schema(each) for each in rest.pop(name)]
    if isinstance(rest.get("items"), Mapping):
        told["items"] = wire_schema(rest.pop("items"))
    if "enum" not in told and "const" not in told and kinds is not None:
        _tell_type(told, kinds)
    if kinds == "object" or "properties" in told:
        told["additionalProperties"] = False
        rest.pop("additionalProperties", None)
    _keep_some(told, rest)
    words = [description] if description else []
    words += ["{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}"] if rest else []
    return told | ({"description": "\n\n".join(words)} if words else {})


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
