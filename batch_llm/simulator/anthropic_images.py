"""Images in a request of Anthropic's messages API: what is taken, and as how many tokens they count.

Belongs here: its content block of an image, its wordings, its rule of tokens. Not here: other parts of a request
(anthropic_request.py).

All models see as Opus 4.7 and later do. Nothing is fetched: images.py.
Source: anthropic 2.14.0, types/image_block_param.py, base64_image_source_param.py, url_image_source_param.py (the
block); https://platform.claude.com/docs/en/build-with-claude/vision, a public copy (sizes, how many, patches)
(read 2026-11-29).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping
from math import ceil
from typing import Any

from batch_llm.image_header import GIF, JPEG, PNG, WEBP, read_header
from batch_llm.simulator.refusals import Refused, bad_request

__all__ = ["MOST_IMAGES", "as_part", "count_image"]

TYPES = (JPEG, PNG, GIF, WEBP)
MOST_IMAGES = 100
MOST_CHARACTERS = 10 * 1024 * 1024  # of an image in base64
MOST_SIDE, MOST_SIDE_OF_MANY, MANY = 8_000, 2_000, 20
PATCH_PIXELS, SEEN_SIDE, SEEN_TOKENS = 28, 2_576, 4_784


def as_part(block: Mapping[str, Any], place: str, images: int) -> dict[str, Any]:
    """The block as OpenAI's content part; raises `Refused`. ``images``: how many the request has."""
    source = block.get("source")
    if not isinstance(source, dict):
        raise _invalid(f"{place}.image.source: Field required")
    if source.get("type") == "url":
        url = source.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise _invalid(f"{place}.image.source.url.url: Only HTTP and HTTPS URLs are supported.")
    elif source.get("type") == "base64":
        _check_inline(source, f"{place}.image.source.base64", MOST_SIDE_OF_MANY if images > MANY else MOST_SIDE)
        url = f"data:{source['media_type']};base64,{source['data']}"
    else:
        raise _invalid(f"{place}.image.source: Input tag found does not match any of the expected tags")
    return {"type": "image_url", "image_url": {"url": url}}


def count_image(width: int, height: int, _detail: str) -> int:
    """The tokens of an image: patches of the largest size of its shape that is seen."""
    longer, ratio = max(width, height), min(width, height) / max(width, height)
    size = next(side for side in range(longer, 0, -1) if _is_seen(side, max(1, round(side * ratio))) or side == 1)
    return _patches(size) * _patches(max(1, round(size * ratio)))


def _is_seen(longer: int, shorter: int) -> bool:
    tokens = _patches(longer) * _patches(shorter)
    return _patches(longer) * PATCH_PIXELS <= SEEN_SIDE and tokens <= SEEN_TOKENS


def _patches(side: int) -> int:
    return ceil(side / PATCH_PIXELS)


def _check_inline(source: Mapping[str, Any], place: str, most_side: int) -> None:
    """Source: https://github.com/anomalyco/opencode/pull/5704 (the media type),
    https://github.com/anthropics/claude-code/issues/6300 (which does not match),
    https://github.com/anthropics/claude-code/issues/55208 (no image),
    https://github.com/anthropics/claude-code/issues/4778, issues/49537 (too many pixels) (read 2026-11-29). The words
    about too many bytes are those that it had for 5 MB.
    """  # noqa: D205
    data, media_type = source.get("data"), source.get("media_type")
    if media_type not in TYPES:
        raise _invalid(f"{place}.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'")
    if not isinstance(data, str):
        raise _invalid(f"{place}.data: Field required")
    if len(data) > MOST_CHARACTERS:
        raise _invalid(f"{place}: image exceeds 10 MB maximum: {len(data)} bytes > {MOST_CHARACTERS} bytes")
    try:
        found = read_header(b64decode(data, validate=True))
    except (NoBase64, ValueError):
        found = None
    if found is None:
        raise _invalid("Could not process image")
    if found.mime_type != media_type:
        raise _invalid(f"{place}.data: Image does not match the provided media type {media_type}")
    if max(found.width, found.height) > most_side:
        many = " for many-image requests" if most_side == MOST_SIDE_OF_MANY else ""
        raise _invalid(
            f"{place}.data: At least one of the image dimensions exceed max allowed size{many}: {most_side} pixels"
        )


def _invalid(message: str) -> Refused:
    return bad_request(message, None, None)
