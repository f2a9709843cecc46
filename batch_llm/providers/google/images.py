"""How Google counts an image: by tiles, or as one number, by the model.

Belongs here: its limits and its rules of tokens. Not here: the request's JSON (chat.py).
Source: https://ai.google.dev/gemini-api/docs/image-understanding ("Token calculation", formats, how many, 20 MB of a
request inline), https://ai.google.dev/gemini-api/docs/media-resolution (1,120 tokens of an image in Gemini 3 where
nothing else is asked for), https://docs.cloud.google.com/vertex-ai/docs/generative-ai/image/image-captioning (7 MB of
an image inline) (public copies, read 2026-11-29).

An address is not sent: it goes with its image's type, which an address does not tell.
"""

from __future__ import annotations

import re
from math import ceil, floor

from batch_llm.image_header import JPEG, PNG, WEBP
from batch_llm.providers.images import Image, ImageRules

__all__ = ["GOOGLE_IMAGES", "image_tokens"]

TILE_TOKENS, SMALL_PIXELS = 258, 384
RESOLUTION_TOKENS = 1_120
_BY_TILES = re.compile(r"gemini-[12][.-]")
_BY_RESOLUTION = re.compile(r"gemini-3(?:[.-]|$)")


def image_tokens(model: str, image: Image) -> int:
    """The tokens of an image; by a model that is not known, the dearer of both rules."""
    name = model.rsplit("/", 1)[-1].lower()
    by_tiles = 0 if _BY_RESOLUTION.match(name) else _tiles(image.width or 1, image.height or 1) * TILE_TOKENS
    return max(by_tiles, 0 if _BY_TILES.match(name) else RESOLUTION_TOKENS)


def _tiles(width: int, height: int) -> int:
    """Above a small image's size, the shape decides and not the size."""
    if max(width, height) <= SMALL_PIXELS:
        return 1
    side = max(1, floor(min(width, height) / 1.5))
    return ceil(width / side) * ceil(height / side)


GOOGLE_IMAGES = ImageRules(
    mime_types=frozenset({PNG, JPEG, WEBP}),
    most_images=3_000,
    most_bytes=7_000_000,
    most_request_bytes=14_000_000,  # in base64 with its text below the 20 MB of a request
    schemes=frozenset(),
    tokens=image_tokens,
)
