"""Reading a request body of any endpoint: JSON, the model's name, types.

Belongs here: checks that every endpoint makes, with OpenAI's wordings. Not here: one endpoint's own parameters
(chat_request.py, embedding_request.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson

from batch_llm.simulator.refusals import Refused, bad_request, model_not_found

__all__ = ["is_int", "missing", "read_body", "unknown_parameter", "unsupported_value", "wrong_type"]

TYPE_NAMES: Mapping[type, str] = {
    bool: "a boolean",
    str: "a string",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
}


def read_body(raw: bytes) -> tuple[dict[str, Any], str]:
    """The JSON object and its model; raises `Refused` for what is neither, and for models that are not ours."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise bad_request("We could not parse the JSON body of your request. It must be a JSON object.", None, None)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        # Source: https://github.com/irudnyts/openai/issues/68 (read 2026-11-21).
        raise bad_request("you must provide a model parameter", None, None)
    if not model.startswith("simulator/") or model == "simulator/":
        raise model_not_found(model)
    return body, model


def is_int(value: object) -> TypeGuard[int]:
    """JSON's true is no 1."""
    return isinstance(value, int) and not isinstance(value, bool)


def wrong_type(param: str, wanted: str, value: object) -> Refused:
    """400: ``wanted`` with its article."""
    got = TYPE_NAMES.get(type(value), "null")
    return bad_request(f"Invalid type for '{param}': expected {wanted}, but got {got} instead.", param, "invalid_type")


def missing(param: str) -> Refused:
    """400: a parameter that must be there is not."""
    return bad_request(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def unsupported_value(param: str, value: object, known: list[str]) -> Refused:
    """400. Source: https://github.com/epuerta9/deep-research-py/issues/19 (read 2026-11-21)."""
    names = ", ".join(f"'{name}'" for name in known[:-1]) + (", and " if known[1:] else "") + f"'{known[-1]}'"
    return bad_request(f"Invalid value: '{value}'. Supported values are: {names}.", param, "invalid_value")


def unknown_parameter(name: str) -> Refused:
    """400: the endpoint documents no such parameter."""
    return bad_request(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
