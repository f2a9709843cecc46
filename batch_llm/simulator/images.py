"""Images in a chat completion request: which are taken, and as how many tokens they count.

Belongs here: OpenAI's content part of an image, its wordings, its rule of tokens. Not here: other parts of a request
(chat_request.py), another vendor's form of an image (its own *_request.py).

All models count as gpt-5.4 does. Nothing is fetched: an image behind an address counts as one of 1,024 x 1,024 pixels.
Source: openai 3.54.0, types/chat/chat_completion_content_part_image_param.py (the part);
https://developers.openai.com/api/docs/guides/images-vision, a public copy (formats, how many, the sizes and patches of
each `detail`, the tokens) (read 2026-11-29).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from math import ceil, floor, sqrt

from batch_llm.image_header import read_header
from batch_llm.simulator.refusals import Refused, bad_request
from batch_llm.simulator.request_checks import missing, unsupported_value, wrong_type

__all__ = ["CountImage", "count_image", "image_tokens", "too_many_images"]

MOST_IMAGES = 1_500
PATCH_PIXELS = 32
TOKENS_PER_PATCH = 1.2
FETCHED_SIDE = 1_024  # pixels, of an image that is somewhere else
# the longest side, pixels, and the most patches
DETAILS: Mapping[str, tuple[int, int]] = {
    "auto": (2_048, 2_500),
    "high": (2_048, 2_500),
    "low": (2_048, 6_144),
    "original": (6_000, 10_000),
}
_EXAMPLE = "data:image/png;base64,aW1nIGJ5dGVzIGhlcmU="

CountImage = Callable[[int, int, str], int]
"""The tokens of an image, from its width, height and `detail`."""


def count_image(width: int, height: int, detail: str) -> int:
    """As OpenAI counts."""
    longest, budget = DETAILS[detail]
    longer = max(width, height)
    if longer > longest:
        width, height = max(1, round(width * longest / longer)), max(1, round(height * longest / longer))
    if _patches(width, height) > budget:
        factor = sqrt(PATCH_PIXELS**2 * budget / (width * height))
        columns, rows = width * factor / PATCH_PIXELS, height * factor / PATCH_PIXELS
        factor *= min(floor(columns) / columns, floor(rows) / rows)
        width, height = floor(width * factor), floor(height * factor)
    return ceil(_patches(width, height) * TOKENS_PER_PATCH)


def image_tokens(part: Mapping[str, object], place: str, count: CountImage = count_image) -> int:
    """The tokens of an `image_url` part; raises `Refused` for what is no image."""
    given = part.get("image_url")
    if given is None:
        raise missing(f"{place}.image_url")
    if not isinstance(given, dict):
        raise wrong_type(f"{place}.image_url", "an object", given)
    if "url" not in given:
        raise missing(f"{place}.image_url.url")
    if not isinstance(url := given["url"], str):
        raise wrong_type(f"{place}.image_url.url", "a string", url)
    detail = given.get("detail") or "auto"
    if detail not in DETAILS:
        raise unsupported_value(f"{place}.image_url.detail", detail, sorted(DETAILS))
    if url.startswith(("http://", "https://")):
        return count(FETCHED_SIDE, FETCHED_SIDE, detail)
    return count(*_inline_size(url, f"{place}.image_url.url"), detail)


def too_many_images(count: int) -> Refused | None:
    """The refusal of a request with more images than are taken; its wording is ours."""
    if count <= MOST_IMAGES:
        return None
    return bad_request(f"Too many images in request: {count}. At most {MOST_IMAGES} are supported.", "messages", None)


def _inline_size(url: str, place: str) -> tuple[int, int]:
    """Width and height of an image in a data URL.

    Source: https://github.com/Alibaba-NLP/OmniSearch/issues/3 (no data URL),
    https://github.com/STranslate/STranslate/issues/277 (no image, or of another format) (read 2026-11-29).
    """
    head, comma, encoded = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        but = "a value without the 'data:' prefix" if not head.startswith("data:") else "unsupported MIME type"
        raise bad_request(
            f"Invalid image URL: '{place}'. Expected a base64-encoded data URL with an image MIME type (e.g. "
            f"'{_EXAMPLE}'), but got {but}.",
            place,
            "invalid_value",
        )
    try:
        found = read_header(b64decode(encoded, validate=True))
    except (NoBase64, ValueError):
        found = None
    if found is None:
        raise bad_request(
            "You uploaded an unsupported image. Please make sure your image has of one the following formats: "
            "['png', 'jpeg', 'gif', 'webp'].",
            None,
            "invalid_image_format",
        )
    return found.width, found.height


def _patches(width: int, height: int) -> int:
    return ceil(width / PATCH_PIXELS) * ceil(height / PATCH_PIXELS)
