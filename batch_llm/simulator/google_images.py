"""Images in a request of Google's generateContent: what is taken, and as how many tokens they count.

Belongs here: its inline part, its addresses, its wordings, its rule of tokens. Not here: other parts of a request
(google_request.py).

All models count by tiles, as Gemini 2.5 does. Nothing is fetched: an image behind an address counts as one of 1,024 x
1,024 pixels.
Source: google-genai 3.6.1, types.py, Blob (the part); https://ai.google.dev/gemini-api/docs/image-understanding, a
public copy (formats, tiles), https://github.com/BerriAI/litellm/issues/3269 (how small and large a tile is),
https://github.com/vellum-ai/vellum-assistant/pull/31586 (scaled down to 3,072 pixels before) (read 2026-11-29).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import Any

from batch_llm.image_header import read_header
from batch_llm.simulator.google_refusals import invalid

__all__ = ["as_part", "at_address", "check_addresses", "count_image"]

GS, STORAGE = "gs://", "https://storage.googleapis.com/"
MOST_OF_THE_WEB = 10
TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
TILE_TOKENS, SMALL_PIXELS = 258, 384
LONGEST_SIDE, TILE_LEAST, TILE_MOST = 3_072, 256, 768  # pixels


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


def at_address(data: Any, place: str) -> dict[str, Any]:
    """The part with an image's address as OpenAI's; raises `Refused`. Whether it is taken: `check_addresses`."""
    if not isinstance(data, dict) or not isinstance(data.get("fileUri"), str):
        raise invalid(f"* GenerateContentRequest.{place}: must have fileUri\n")
    address = data["fileUri"]
    url = STORAGE + address.removeprefix(GS) if address.startswith(GS) else address
    return {"type": "image_url", "image_url": {"url": url}}


def check_addresses(parts: Sequence[Mapping[str, Any]], model: str, *, is_project: bool) -> None:
    """Raise `Refused` for an address that is not fetched from; ``parts``: those with one.

    Google: https:// only, and not for the models of 2.0. A project: Cloud Storage and http:// as well, each with its
    type, and ten images of the web.
    Source: https://ai.google.dev/gemini-api/docs/file-input-methods (types, the note on 2.0),
    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference (fileUri, mimeType);
    "Unsupported file URI type" is quoted by public repositories, of too many images no recording of the wording was
    found (read 2026-11-29).
    """
    taken = ("https://", "http://", GS) if is_project else () if "gemini-2.0" in model else ("https://",)
    addresses = [str(part.get("fileUri")) for part in parts]
    for part, address in zip(parts, addresses, strict=True):
        if not address.startswith(taken):
            raise invalid(f"Unsupported file URI type: {address}")
        if part.get("mimeType") not in TYPES and (is_project or "mimeType" in part):
            raise invalid(f"Unsupported MIME type: {part.get('mimeType')}")
    if is_project and sum(not address.startswith(GS) for address in addresses) > MOST_OF_THE_WEB:
        raise invalid(f"batch-llm's simulator takes {MOST_OF_THE_WEB} images of the web in a request.")


def count_image(width: int, height: int, _detail: str) -> int:
    """The tokens of an image: small ones are one tile, of larger ones the shape decides."""
    longest = max(width, height)
    if longest <= SMALL_PIXELS:
        return TILE_TOKENS
    scale = min(1.0, LONGEST_SIDE / longest)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    side = min(TILE_MOST, max(TILE_LEAST, floor(min(width, height) / 1.5)))
    return TILE_TOKENS * ceil(width / side) * ceil(height / side)
