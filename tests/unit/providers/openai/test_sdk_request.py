"""What an SDK's request may be billed as."""

from __future__ import annotations

from base64 import b64encode
from struct import pack
from typing import Any

import pytest

from batch_llm.providers.openai import sdk_request

PNG = b"\x89PNG\r\n\x1a\n" + pack(">I", 13) + b"IHDR" + pack(">II", 64, 32) + b"\x08\x06\0\0\0"
DATA_URL = f"data:image/png;base64,{b64encode(PNG).decode()}"


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def test_an_image_counts_by_its_size_and_an_address_as_the_dearest() -> None:
    known = {"type": "image_url", "image_url": {"url": DATA_URL}}
    bare = {"type": "input_image", "image_url": DATA_URL}
    address = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}
    assert sdk_request.images_tokens(message(known), "gpt-4o") == 255
    assert sdk_request.images_tokens({"input": [{"role": "user", "content": [bare]}]}, "gpt-4o") == 255
    assert sdk_request.images_tokens(message(known, address, broken), "gpt-4o") == 255 + 2 * 1_445


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (message({"type": "text", "text": "a"}), None),
        (message({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}), None),
        (message({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "original"}}), "an image with detail"),
        (message({"type": "file", "file": {"file_id": "f"}}), "a part of type file"),
        ({"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "a stored prompt"),
        ({"messages": "no list"}, None),
    ],
)
def test_what_nobody_can_count_before_is_named(body: dict[str, Any], what: str | None) -> None:
    found = sdk_request.unbounded(body)
    assert found is None if what is None else found is not None and found.startswith(what)


def test_names_in_a_schema_and_in_tools_are_counted() -> None:
    body = {"tools": [{"function": {"parameters": {"properties": {"town": {}}}}}], "text": {"format": {"name": "x1"}}}
    assert "town" in sdk_request.text(body)
    assert "x1" in sdk_request.text(body)


@pytest.mark.parametrize(
    ("body", "cap", "answers"),
    [({}, None, 1), ({"n": 3, "max_tokens": 5}, 5, 3), ({"n": None, "max_output_tokens": -1}, None, 1)],
)
def test_how_long_and_how_many(body: dict[str, Any], cap: int | None, answers: int) -> None:
    assert (sdk_request.cap(body), sdk_request.answers(body)) == (cap, answers)
