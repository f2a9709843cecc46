"""How Google counts an image: by tiles, or as one number, by the model.

Belongs here: its limits and its rules of tokens. Not here: the request's JSON (chat.py).
For the models before Gemini 3 two rules are documented, and what they are billed by is not known: tiles of the shorter
side divided by 1.5, or of 768 pixels. We count the dearer, of an image that was scaled down to 3,072 pixels.
Source: https://ai.google.dev/gemini-api/docs/image-understanding ("Token calculation", formats, how many, 20 MB of a
request inline), https://github.com/BerriAI/litellm/issues/3269 (a tile is no smaller than 256 pixels and no larger than
768), https://geminibyexample.com/027-calculate-input-tokens/ (tiles of 768),
https://github.com/vellum-ai/vellum-assistant/pull/31586 (3,072 pixels, the shape kept; all read 2026-11-29),
https://ai.google.dev/gemini-api/docs/media-resolution (1,120 tokens of an image in Gemini 3 where
nothing else is asked for), https://docs.cloud.google.com/vertex-ai/docs/generative-ai/image/image-captioning (7 MB of
an image inline) (public copies, read 2026-11-29).

An address goes with its image's type, which is told by how the address ends. The Gemini API fetches https:// for itself
since 2026, but not for the models of 2.0; Vertex AI from Cloud Storage as well.
Source: https://ai.google.dev/gemini-api/docs/file-input-methods (external URLs, the note on 2.0, types),
https://github.com/vercel/ai/pull/16757 (https only),
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference (fileUri: Cloud Storage, HTTP URLs,
ten images of them; mimeType is required) (read 2026-11-29).
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import ceil, floor

from batch_llm.image_header import JPEG, PNG, WEBP
from batch_llm.providers.images import Image, ImageRules

__all__ = ["image_rules", "image_tokens"]

TILE_TOKENS, SMALL_PIXELS = 258, 384
LONGEST_SIDE, TILE_LEAST, TILE_MOST = 3_072, 256, 768  # pixels
MOST_TILES = 24  # of the dearest image: 3,072 x 419, in tiles of 279
RESOLUTION_TOKENS = 1_120
_BY_TILES = re.compile(r"gemini-[12][.-]")
_BY_RESOLUTION = re.compile(r"gemini-3(?:[.-]|$)")
_UNFETCHED = re.compile(r"gemini-(?:1\.5|2\.0)")


def image_tokens(model: str, image: Image) -> int:
    """The tokens of an image; by a model that is not known, the dearer of both rules."""
    name = model.rsplit("/", 1)[-1].lower()
    by_tiles = 0 if _BY_RESOLUTION.match(name) else _tiles(image) * TILE_TOKENS
    return max(by_tiles, 0 if _BY_TILES.match(name) else RESOLUTION_TOKENS)


def _tiles(image: Image) -> int:
    """The more of the two rules; of an image whose shape is not known, the most that there can be."""
    if image.width is None or image.height is None:
        return MOST_TILES
    longest = max(image.width, image.height)
    if longest <= SMALL_PIXELS:
        return 1
    scale = min(1.0, LONGEST_SIDE / longest)
    width, height = (max(1, round(side * scale)) for side in (image.width, image.height))
    by_shape = min(TILE_MOST, max(TILE_LEAST, floor(min(width, height) / 1.5)))
    return max(ceil(width / side) * ceil(height / side) for side in (by_shape, TILE_MOST))


_FETCHED = frozenset({"https"})
_FETCHED_BY_VERTEX = frozenset({"gs", "http", "https"})
_RULES = ImageRules(
    mime_types=frozenset({PNG, JPEG, WEBP}),
    most_images=3_000,
    most_bytes=7_000_000,
    most_request_bytes=14_000_000,  # in base64 with its text below the 20 MB of a request
    schemes=_FETCHED,
    named_types=True,
    tokens=image_tokens,
)


def image_rules(model: str, *, is_vertex: bool) -> ImageRules:
    """What a model takes, of the Gemini API or of Vertex AI."""
    if is_vertex:
        return replace(_RULES, schemes=_FETCHED_BY_VERTEX, most_addresses=10)
    return replace(_RULES, schemes=frozenset()) if _UNFETCHED.search(model) else _RULES
