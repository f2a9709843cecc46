"""A pydantic model as a Dagster config schema, so that the Launchpad offers, checks and explains its fields.

Belongs here: the translation of types. Not here: any particular model, any rule of it: the values are validated by
the model itself afterwards; here a field is offered, not judged.
"""

from __future__ import annotations

import types
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["config_fields"]

_SCALARS: dict[Any, Any] = {str: str, int: int, float: float, bool: bool, Decimal: float, Any: dg.Any}


def config_fields(model: type[BaseModel]) -> dict[str, dg.Field]:
    """One config field per field of ``model``, under the name users write, with its description.

    A field that the model does not require is optional and has no default here: only what the user wrote reaches the
    model. Raises `TypeError` for a type that has no counterpart.
    """
    return _fields(model, model.__name__)


def _fields(model: type[BaseModel], path: str) -> dict[str, dg.Field]:
    return {
        info.alias or name: dg.Field(
            _config_type(info.annotation, f"{path}_{name}"),
            is_required=info.is_required(),
            description=_description(info),
        )
        for name, info in model.model_fields.items()
    }


def _description(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True)
    said = (info.description or _first_line(info.annotation)).rstrip(".")
    if info.is_required() or default in (None, []) or isinstance(default, BaseModel):
        return f"{said}."
    return f"{said}. Default: {default}."


def _first_line(annotation: Any) -> str:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return (part.__doc__ or "").strip().splitlines()[0]
    return ""


def _config_type(annotation: Any, path: str) -> Any:
    """``path`` makes the names of enums unique, as Dagster wants them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _config_type(arguments[0], path)
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) > 1:  # a number or a word: Dagster has no such type, the model tells them apart
            return dg.Any
        return dg.Noneable(_config_type(inner[0], path))
    if origin is Literal:
        return dg.Enum(path, [dg.EnumValue(value) for value in arguments])
    if origin is list:
        return dg.Array(_config_type(arguments[0], path))
    if origin is dict:
        return dg.Permissive()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return dg.Shape(_fields(annotation, path))
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    raise TypeError(f"{path}: no config type for {annotation!r}")
