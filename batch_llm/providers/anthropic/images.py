"""How Anthropic counts an image: by patches of 28 pixels, after scaling down to what the model sees.

Belongs here: its limits and its rule of tokens. Not here: the request's JSON (messages.py).
Source: https://platform.claude.com/docs/en/build-with-claude/vision, "General limits", "Evaluate image size" and "How
Claude resizes and pads images" (a public copy, read 2026-11-29).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil

from batch_llm.image_header import GIF, JPEG, PNG, WEBP
from batch_llm.providers.images import Image, ImageRules

__all__ = ["ANTHROPIC_IMAGES", "image_tokens"]

PATCH_PIXELS = 28
# The models before Opus 4.7; all others, and those nobody has named yet, see more.
_BEFORE = re.compile(r"claude-(?:[23]\b|instant|(?:sonnet|haiku)-4\b|opus-4(?:-[0-6])?(?:[-@]\d{8})?$)")


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a model sees of an image at most."""

    side: int  # pixels
    tokens: int

    def holds(self, width: int, height: int) -> bool:
        columns, rows = ceil(width / PATCH_PIXELS), ceil(height / PATCH_PIXELS)
        return max(columns, rows) * PATCH_PIXELS <= self.side and columns * rows <= self.tokens

    def count(self, width: int, height: int) -> int:
        """The tokens of an image: of the largest size of its shape that is seen."""
        longer, shorter = max(width, height), min(width, height)
        if not self.holds(longer, shorter):
            fits, too_long = 1, longer
            while fits + 1 < too_long:
                middle = (fits + too_long) // 2
                if self.holds(middle, max(1, round(middle * shorter / longer))):
                    fits = middle
                else:
                    too_long = middle
            longer, shorter = fits, max(1, round(fits * shorter / longer))
        return ceil(longer / PATCH_PIXELS) * ceil(shorter / PATCH_PIXELS)


_FINE, _COARSE = _Sight(2_576, 4_784), _Sight(1_568, 1_568)


def image_tokens(model: str, image: Image) -> int:
    """The tokens of an image; where its size is not known, the most that they can be."""
    sight = _COARSE if _BEFORE.match(model.lower()) else _FINE
    if image.width is None or image.height is None:
        return sight.tokens
    return sight.count(image.width, image.height)


ANTHROPIC_IMAGES = ImageRules(
    mime_types=frozenset({PNG, JPEG, GIF, WEBP}),
    most_images=20,  # of more of them, the API takes only those of 2,000 pixels
    most_bytes=10 * 1024 * 1024 // 4 * 3,  # 10 MB in base64
    most_request_bytes=23_000_000,  # in base64 with its text below the 32 MB of a request
    most_side=8_000,
    schemes=frozenset({"http", "https"}),
    tokens=image_tokens,
)
