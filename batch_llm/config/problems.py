"""What pydantic found, in the words of somebody who wrote the file.

Belongs here: pydantic's findings as `Problem`s (field, value, nearest valid name). Not here: lines (yaml_source.py),
rules that need more than one field (job/rules.py, providers_file.py).
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from batch_llm.config.secrets import LITERAL_SECRET, mask
from batch_llm.config.yaml_source import Place, Problem
from batch_llm.errors import ConfigurationError, SecretError

__all__ = ["did_you_mean", "error_for", "explain", "nearest"]

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name a person most likely meant, or None."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """``; did you mean 'upsert'?``, or nothing when no valid name is near."""
    guess = nearest(name, valid)
    return f"; did you mean {guess!r}?" if guess else ""


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every finding as a `Problem`; values that look like secrets are hidden."""
    problems = []
    for item in error.errors(include_url=False):
        path = tuple(part for part in item["loc"] if not str(part).startswith("<"))  # <..>: the tag of a union
        literal = item["type"] == LITERAL_SECRET
        problems.append(Problem(path, _reason(item, model, path), literal_secret=literal))
    return problems


def error_for(problems: Iterable[Problem], kind: type[ConfigurationError]) -> type[ConfigurationError]:
    """The class to raise: a literal secret counts more than any other finding."""
    return SecretError if any(problem.literal_secret for problem in problems) else kind


def _reason(item: Mapping[str, Any], model: type[BaseModel], path: Place) -> str:
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    if kind == LITERAL_SECRET:
        return str(item["msg"])
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), model, path)
    if kind == "missing":
        return f"is required{_meaning(model, path)}"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        return f"{mask(value)} is not one of {', '.join(names)}{did_you_mean(str(value), names)}"
    if kind == "string_pattern_mismatch":
        return f"{mask(value)} does not fit{_meaning(model, path)}"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, got {mask(value)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}, got {mask(value)}"
    if kind == "string_too_short" or (kind == "too_short" and context.get("actual_length") == 0):
        return f"must not be empty{_meaning(model, path)}"
    return _rare_reason(item, model, path)


def _rare_reason(item: Mapping[str, Any], model: type[BaseModel], path: Place) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "string_too_long":  # its text may look like a secret
        return f"is {len(str(item.get('input')))} characters long{_meaning(model, path)}"
    if kind == "too_long":
        return f"holds {context['actual_length']} items; at most {context['max_length']}"
    if kind == "value_error":
        return str(context["error"])
    return str(item["msg"])


def _unknown_key(name: str, model: type[BaseModel], path: Place) -> str:
    shown = mask(name)
    inner = _model_at(model, path[:-1])
    advice_for = getattr(inner, "advice_for", None)
    advice = advice_for(name) if advice_for else None
    if advice:
        return f"unknown key {shown}; {advice}"
    valid = sorted(_fields(inner)) if inner else []
    guess = nearest(name, valid)
    elsewhere = None if guess else next((found for found in _all_names(model) if found.split(".")[-1] == name), None)
    hint = guess or elsewhere
    advice = f"; did you mean {hint!r}?" if hint else f" (valid here: {', '.join(valid)})"
    return f"unknown key {shown}{advice}"


def _meaning(model: type[BaseModel], path: Place) -> str:
    field = _field_at(model, path)
    return f": {field.description}" if field and field.description else ""


def _field_at(model: type[BaseModel], path: Place) -> FieldInfo | None:
    current: Any = model
    found: FieldInfo | None = None
    for part in path:
        found, current = _step(current, part)
    return found


def _model_at(model: type[BaseModel], path: Place) -> type[BaseModel] | None:
    current: Any = model
    for part in path:
        _, current = _step(current, part)
    return _inner(current)


def _step(annotation: Any, part: str | int) -> tuple[FieldInfo | None, Any]:
    """One part of a path further: the field it names, if it names one, and the type found there."""
    inner = _inner(annotation)
    if inner and isinstance(part, str):
        field = _fields(inner).get(part)
        return field, field.annotation if field else None
    for candidate in _flat(annotation):
        if get_origin(candidate) in (list, dict):
            return None, get_args(candidate)[-1]
    return None, None


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside Optional, Annotated and unions; None when there is none."""
    for candidate in _flat(annotation):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _flat(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _flat(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _flat(part)
    else:
        yield annotation


def _all_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in _fields(model).items():
        yield f"{prefix}{name}"
        inner = _inner(field.annotation)
        if inner:
            yield from _all_names(inner, f"{prefix}{name}.")
