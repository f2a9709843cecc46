"""Reading an embeddings request, as strictly as the real API and no stricter.

Belongs here: the checks, their wordings and sources. Not here: limits, vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from batch_llm.simulator.chat_request import token_count
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.refusals import Refused, bad_request, input_too_long, invalid_input, too_many_tokens
from batch_llm.simulator.request_checks import is_int, missing, read_body, unknown_parameter, wrong_type

__all__ = ["CALL_INPUTS", "CALL_TOKENS", "INPUT_TOKENS", "EmbeddingsRequest", "read_embeddings"]

# Source: openai 3.54.0, types/embedding_create_params.py (read 2026-11-28).
INPUT_TOKENS = 8_192
CALL_INPUTS = 2_048
CALL_TOKENS = 300_000
FORMATS = ("float", "base64")
KNOWN = frozenset(["dimensions", "encoding_format", "input", "model", "user"])

# Source: https://developers.openai.com/api/docs/guides/embeddings (1536 and 3072 by default; public copies, read
# 2026-11-28). Other names have the size of the settings.
SIZES = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072, "text-embedding-ada-002": 1_536}
ONE_SIZE = frozenset(["text-embedding-ada-002"])


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A request that the model could answer."""

    model: str
    contents: tuple[bytes, ...]  # what each vector is a function of
    prompts: tuple[int, ...]  # 64-bit hash of model and each input: the same input is the same row to the statistics
    tokens: int
    dimensions: int
    is_base64: bool

    @property
    def whole(self) -> int:
        """64-bit hash of all inputs together, in their order."""
        text = b"%d/" % len(self.prompts) + b"".join(prompt.to_bytes(8, "big") for prompt in self.prompts)
        return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def read_embeddings(raw: bytes, config: SimulatorConfig) -> EmbeddingsRequest:
    """Read a request body; raises `Refused` with the real API's status and wording."""
    body, model = read_body(raw)
    for name in body.keys() - KNOWN:
        raise unknown_parameter(name)
    dimensions = _dimensions(body.get("dimensions"), model, config)
    is_base64 = _is_base64(body)
    inputs = _inputs(body.get("input"))
    tokens = 0
    for number, each in enumerate(inputs):
        count = _tokens(each, config)
        if count > INPUT_TOKENS:
            raise input_too_long(number, INPUT_TOKENS)
        tokens += count
    if tokens > CALL_TOKENS:
        raise too_many_tokens(tokens, CALL_TOKENS)
    contents = tuple(each.encode() if isinstance(each, str) else b"\0" + orjson.dumps(each) for each in inputs)
    return EmbeddingsRequest(
        model=model,
        contents=contents,
        prompts=tuple(_prompt(content, model) for content in contents),
        tokens=tokens,
        dimensions=dimensions,
        is_base64=is_base64,
    )


def _inputs(given: object) -> list[str | list[int]]:
    """One text, texts, one list of tokens, or lists of tokens; none empty.

    Documented is "any array must be 2048 dimensions or less"; only the number of inputs is held to it, for common
    clients send single inputs of up to 8,191 tokens as an array.
    Source: openai 3.54.0, types/embedding_create_params.py; https://github.com/openai/openai-python/issues/576 (an
    empty text among others), https://github.com/lightdash/lightdash/pull/18938 (an empty text alone),
    https://github.com/embeddings-benchmark/mteb/issues/1200 (more than 2,048) (read 2026-11-28).
    """
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        inputs: list[Any] = [given]
    elif not isinstance(given, list):
        raise wrong_type("input", "one of a string or array of strings, integers or integer arrays", given)
    else:
        inputs = [given] if given and all(is_int(token) for token in given) else given
    if not inputs or len(inputs) > CALL_INPUTS or not all(_is_input(each) for each in inputs):
        raise invalid_input()
    return inputs


def _is_input(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(is_int(token) and token >= 0 for token in value)
    return isinstance(value, str) and value != ""


def _tokens(given: str | list[int], config: SimulatorConfig) -> int:
    if isinstance(given, list):
        return len(given)
    return token_count(len(given) if given.isascii() else len(given.encode()), config)


def _prompt(content: bytes, model: str) -> int:
    return int.from_bytes(blake2b(content, digest_size=8, key=model.encode()[:64]).digest(), "big")


def _dimensions(asked: object, model: str, config: SimulatorConfig) -> int:
    """How many numbers a vector has.

    Source: https://github.com/SciPhi-AI/R2R/pull/768 (a model that takes no dimensions); "between 1 and the model's
    maximum": no recording of the wording was found (read 2026-11-28).
    """
    name = model.removeprefix("simulator/")
    most = SIZES.get(name, config.embedding_dimensions)
    if asked is None:
        return most
    if name in ONE_SIZE:
        raise bad_request("This model does not support specifying dimensions.", None, None)
    if not is_int(asked):
        raise wrong_type("dimensions", "an integer", asked)
    if asked < 1:
        raise _out_of_range(asked, "below minimum value. Expected a value >= 1", "integer_below_min_value")
    if asked > most:
        raise _out_of_range(asked, f"above maximum value. Expected a value <= {most}", "integer_above_max_value")
    return asked


def _out_of_range(asked: int, how: str, code: str) -> Refused:
    return bad_request(f"Invalid 'dimensions': integer {how}, but got {asked} instead.", "dimensions", code)


def _is_base64(body: Mapping[str, Any]) -> bool:
    """Source: https://github.com/lm-sys/FastChat/pull/2281 (a format that is not known) (read 2026-11-28)."""
    wanted = body.get("encoding_format")
    if wanted is not None and wanted not in FORMATS:
        message = f"Invalid value for 'encoding_format' = {wanted}. Supported values: ['float', 'base64']."
        raise bad_request(message, None, None)
    return bool(wanted == "base64")
