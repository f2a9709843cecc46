"""Which images the simulator takes, and as how many tokens they count."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.simulator.images import image_tokens, too_many_images
from batch_llm.simulator.refusals import Refused
from tests.pictures import GIF_1X1, JPEG_1X1, WEBP_1X1, data_url, png

PLACE = "messages[0].content[1]"


def part(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def tokens(width: int, height: int, **more: Any) -> int:
    return image_tokens(part(data_url(png(width, height)), **more), PLACE)


def test_tokens_are_patches_by_the_detail() -> None:
    """The guide's own examples for gpt-5.4, and its other levels."""
    assert tokens(1_024, 1_024, detail="high") == tokens(1_024, 1_024) == tokens(1_024, 1_024, detail=None) == 1_229
    assert tokens(2_048, 2_048, detail="high") == 3_000
    assert tokens(2_048, 2_048, detail="low") == 4_916
    assert tokens(3_000, 3_000, detail="original") == 10_604  # 94 x 94 patches
    assert tokens(4_096, 32, detail="auto") == 77  # 2,048 x 16
    assert tokens(1, 1) == 2


@pytest.mark.parametrize(
    ("data", "kind"), [(GIF_1X1, "image/gif"), (JPEG_1X1, "image/jpeg"), (WEBP_1X1, "image/webp"), (GIF_1X1, "image/x")]
)
def test_the_bytes_tell_the_format(data: bytes, kind: str) -> None:
    assert image_tokens(part(data_url(data, kind)), PLACE) == 2


def test_nothing_is_fetched() -> None:
    assert image_tokens(part("https://nowhere.invalid/a.png"), PLACE) == 1_229


@pytest.mark.parametrize(
    ("given", "param", "code", "message"),
    [
        ({}, ".image_url", "missing_required_parameter", "Missing required parameter"),
        ({"image_url": "https://x"}, ".image_url", "invalid_type", "expected an object, but got a string"),
        ({"image_url": {}}, ".image_url.url", "missing_required_parameter", "Missing required parameter"),
        (part(7), ".image_url.url", "invalid_type", "expected a string, but got an integer"),
        (part("https://x", detail="huge"), ".image_url.detail", "invalid_value", "'auto', 'high', 'low', and"),
        (part("iVBORw0KGgo"), ".image_url.url", "invalid_value", "but got a value without the 'data:' prefix."),
        (part("gs://b/a.png"), ".image_url.url", "invalid_value", "but got a value without the 'data:' prefix."),
        (part("data:text/plain;base64,AA=="), ".image_url.url", "invalid_value", "with an image MIME type"),
        (part(data_url(b"%PDF-1.7")), None, "invalid_image_format", "one the following formats: ['png', 'jpeg', "),
        (part("data:image/png;base64,?"), None, "invalid_image_format", "You uploaded an unsupported image."),
    ],
)
def test_what_is_no_image_is_refused(given: dict[str, Any], param: str | None, code: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        image_tokens(given, PLACE)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, param and PLACE + param, code)
    assert message in error.message


def test_so_many_are_taken_and_no_more() -> None:
    assert too_many_images(1_500) is None
    refused = too_many_images(1_501)
    assert refused is not None and "1501" in refused.message
