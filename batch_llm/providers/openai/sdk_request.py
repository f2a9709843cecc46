"""What a request that the openai SDK made may be billed as, before it is sent.

Belongs here: the parts of the chat and the responses API's requests that become tokens. Not here: prices, limits
(paced_client.py), sending (paced_transport.py), the requests of jobs (chat.py).
Source: openai 3.54.0, types/chat/completion_create_params.py, types/chat/chat_completion_content_part_param.py,
types/responses/response_create_params.py, types/responses/response_input_image_param.py (read 2026-11-29).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from batch_llm.image_header import read_header
from batch_llm.providers.images import Image
from batch_llm.providers.openai.images import image_tokens
from batch_llm.providers.openai.usage import is_count

__all__ = ["answers", "cap", "images_tokens", "text", "unbounded"]

SAID = ("messages", "input", "instructions", "prompt")  # of which the texts become tokens
DESCRIBED = ("tools", "functions", "response_format", "text")  # of which names become tokens as well
CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
IMAGE_PARTS = {"image_url", "input_image"}
TEXT_PARTS = {"text", "input_text", "output_text", "refusal"}
STORED = ("previous_response_id", "conversation")  # texts that the provider holds


def text(body: Mapping[str, Any]) -> str:
    """What becomes input tokens, roughly; without the images."""
    found = [value for name in SAID for value in _texts(body.get(name))]
    found += [orjson.dumps(body[name]).decode() for name in DESCRIBED if body.get(name)]
    return " ".join(found)


def cap(body: Mapping[str, Any]) -> int | None:
    """The most tokens of one answer; None: the request sets none."""
    return next((body[name] for name in CAPS if is_count(body.get(name))), None)


def answers(body: Mapping[str, Any]) -> int:
    """How many answers are asked for at once; each may be as long as the cap."""
    count = body.get("n")
    return count if is_count(count) and count else 1


def images_tokens(body: Mapping[str, Any], model: str) -> int:
    """The tokens of all images: by their size, or the most that one can be where only its address is known."""
    return sum(image_tokens(model, _image(part)) for part in _parts(body) if part.get("type") in IMAGE_PARTS)


def unbounded(body: Mapping[str, Any]) -> str | None:
    """What in the request may be billed as nobody knows how many tokens; None: nothing."""
    for name in STORED:
        if body.get(name):
            return name
    if isinstance(body.get("prompt"), Mapping):
        return "a stored prompt"
    for part in _parts(body):
        kind = part["type"]
        if kind in IMAGE_PARTS and _address(part)[1] == "original":
            return "an image with detail: original"
        if kind not in IMAGE_PARTS | TEXT_PARTS:
            return f"a part of type {kind}"
    return None


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of all messages whose content is a list."""
    for name in ("messages", "input"):
        messages = body.get(name)
        for message in messages if isinstance(messages, list) else ():
            content = message.get("content") if isinstance(message, Mapping) else None
            for part in content if isinstance(content, list) else ():
                if isinstance(part, Mapping) and isinstance(part.get("type"), str):
                    yield part


def _texts(said: object) -> Iterator[str]:
    """All strings in it, however deep, but an image's."""
    todo = [said]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping) and value.get("type") not in IMAGE_PARTS:
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)


def _address(part: Mapping[str, Any]) -> tuple[str, object]:
    """An image's address and how it is to be looked at: in an object of the chat API, bare in the responses API."""
    said = part.get("image_url")
    url, detail = (said.get("url"), said.get("detail")) if isinstance(said, Mapping) else (said, part.get("detail"))
    return url if isinstance(url, str) else "", detail


def _image(part: Mapping[str, Any]) -> Image:
    url, _ = _address(part)
    _, _, data = url.partition(";base64,") if url.startswith("data:") else ("", "", "")
    try:
        header = read_header(b64decode(data))
    except binascii.Error:
        header = None
    return Image("") if header is None else Image("", width=header.width, height=header.height)
