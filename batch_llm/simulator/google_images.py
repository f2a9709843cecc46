"""Images in a request of Google's generateContent: what is taken, and as how many tokens they count.

Belongs here: its inline part, its wordings, its rule of tokens. Not here: other parts of a request (google_request.py).

All models count by tiles, as Gemini 2.5 does.
Source: google-genai 3.6.1, types.py, Blob (the part); https://ai.google.dev/gemini-api/docs/image-understanding, a
public copy (formats, tiles) (read 2026-11-29).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from math import ceil, floor
from typing import Any

from batch_llm.image_header import read_header
from batch_llm.simulator.google_refusals import invalid

__all__ = ["as_part", "count_image"]

TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
TILE_TOKENS, SMALL_PIXELS = 258, 384


def as_part(data: Any, place: str) -> dict[str, Any]:
    """The part as OpenAI's; raises `Refused`.

    Source: https://github.com/ogkalu2/comic-translate/pull/399 (the type),
    https://github.com/AmberSahdev/Open-Interface/issues/64 (no image) (read 2026-11-29).
    """
    if not isinstance(data, dict) or not isinstance(data.get("data"), str):
        raise invalid(f"* GenerateContentRequest.{place}: must have data\n")
    if data.get("mimeType") not in TYPES:
        raise invalid(f"Unsupported MIME type: {data.get('mimeType')}")
    encoded = data["data"].replace("-", "+").replace("_", "/")  # google-genai sends the URL-safe alphabet
    try:
        found = read_header(b64decode(encoded, validate=True))
    except (NoBase64, ValueError):
        found = None
    if found is None or found.mime_type not in TYPES:
        raise invalid("Provided image is not valid")
    return {"type": "image_url", "image_url": {"url": f"data:{found.mime_type};base64,{encoded}"}}


def count_image(width: int, height: int, _detail: str) -> int:
    """The tokens of an image: small ones are one tile, of larger ones the shape decides."""
    if max(width, height) <= SMALL_PIXELS:
        return TILE_TOKENS
    side = max(1, floor(min(width, height) / 1.5))
    return TILE_TOKENS * ceil(width / side) * ceil(height / side)
