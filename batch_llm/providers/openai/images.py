"""How OpenAI counts an image: by patches of 32 pixels, or by tiles of 512, by the model.

Belongs here: the rules of `detail: high`, which is what we ask for. Not here: the request's JSON (chat.py).
Source: https://developers.openai.com/api/docs/guides/images-vision, "Model sizing behavior" and "Calculating costs"
(a public copy, read 2026-11-29). The patch budgets of gpt-5-mini, gpt-5-nano, gpt-4.1-nano and o4-mini, which it no
longer lists, are those of its older versions. Where two copies give gpt-5-mini and gpt-5-nano different tokens per
patch, the dearer count until a bill was seen: https://github.com/xn1cklas/tokenlens/issues/7 (1.62 and 2.46; read
2026-11-29).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import ceil, floor, sqrt

from batch_llm.image_header import GIF, JPEG, PNG, WEBP
from batch_llm.providers.images import Image, ImageRules

__all__ = ["AZURE_IMAGES", "DETAIL", "OPENAI_IMAGES", "Patches", "Tiles", "counted", "image_tokens"]

DETAIL = "high"  # `auto` means another thing with each model, `original` is not known to all
PATCH_PIXELS, TILE_PIXELS = 32, 512
LONGEST_SIDE, SHORTEST_SIDE = 2_048, 768  # pixels, after scaling down
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Patches:
    """So many tokens per patch, and no more patches than that."""

    tokens: float
    budget: int

    def count(self, width: int, height: int) -> int:
        """The tokens of an image."""
        width, height = _within(width, height, LONGEST_SIDE)
        if _covered(width, height, PATCH_PIXELS) > self.budget:
            shrunk = sqrt(PATCH_PIXELS**2 * self.budget / (width * height))
            across, down = width * shrunk / PATCH_PIXELS, height * shrunk / PATCH_PIXELS
            shrunk *= min(floor(across) / across, floor(down) / down) or 1.0
            width, height = max(1, floor(width * shrunk)), max(1, floor(height * shrunk))
        return ceil(min(_covered(width, height, PATCH_PIXELS), self.budget) * self.tokens)

    def most(self) -> int:
        """The tokens of the dearest image there can be."""
        return ceil(min(self.budget, _covered(LONGEST_SIDE, LONGEST_SIDE, PATCH_PIXELS)) * self.tokens)


@dataclass(frozen=True, slots=True)
class Tiles:
    """So many tokens per image, and so many more per tile."""

    base: int
    tile: int

    def count(self, width: int, height: int) -> int:
        """The tokens of an image."""
        width, height = _within(width, height, LONGEST_SIDE)
        if min(width, height) > SHORTEST_SIDE:
            longer = floor(max(width, height) * SHORTEST_SIDE / min(width, height))
            width, height = SHORTEST_SIDE, longer
        return self.base + self.tile * _covered(width, height, TILE_PIXELS)

    def most(self) -> int:
        """The tokens of the dearest image there can be."""
        return self.base + self.tile * _covered(LONGEST_SIDE, SHORTEST_SIDE, TILE_PIXELS)


_HIGH = Patches(1.2, 2_500)
_RULES: dict[str, Patches | Tiles] = {
    **dict.fromkeys(("gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna", "gpt-5.5"), _HIGH),
    **dict.fromkeys(("gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano"), _HIGH),
    "gpt-5.2": Patches(1.2, 6_144),
    "gpt-5-mini": Patches(1.62, 1_536),
    "gpt-5-nano": Patches(2.46, 1_536),
    "gpt-4.1-mini": Patches(1.62, 6_144),
    "gpt-4.1-nano": Patches(2.46, 1_536),
    "o4-mini": Patches(1.72, 1_536),
    **dict.fromkeys(("gpt-5.1", "gpt-5"), Tiles(70, 140)),
    **dict.fromkeys(("gpt-4o", "gpt-4.1"), Tiles(85, 170)),
    "gpt-4o-mini": Tiles(2_833, 5_667),
    **dict.fromkeys(("o1", "o1-pro", "o3"), Tiles(75, 150)),
}
# A model that is not listed: as dear as the dearest rule of either kind, gpt-4o-mini's aside.
_UNKNOWN: tuple[Patches | Tiles, ...] = (Patches(2.46, 6_144), Tiles(85, 170))


def image_tokens(model: str, image: Image) -> int:
    """The tokens of an image; where its size or the model's rule is not known, the most that they can be."""
    name = _SNAPSHOT.sub("", model.rsplit("/", 1)[-1].lower().removeprefix("ft:").split(":", 1)[0])
    return counted(image, *((_RULES[name],) if name in _RULES else _UNKNOWN))


def counted(image: Image, *rules: Patches | Tiles) -> int:
    """The tokens of an image by the dearest of these rules."""
    if image.width is None or image.height is None:
        return max(rule.most() for rule in rules)
    return max(rule.count(image.width, image.height) for rule in rules)


def _within(width: int, height: int, longest: int) -> tuple[int, int]:
    """Scaled down so that no side is longer."""
    longer = max(width, height)
    if longer <= longest:
        return width, height
    return max(1, round(width * longest / longer)), max(1, round(height * longest / longer))


def _covered(width: int, height: int, side: int) -> int:
    """How many squares of that side cover it."""
    return ceil(width / side) * ceil(height / side)


OPENAI_IMAGES = ImageRules(
    mime_types=frozenset({PNG, JPEG, GIF, WEBP}),
    most_images=1_500,
    schemes=frozenset({"http", "https"}),
    tokens=image_tokens,
)
# Source: https://learn.microsoft.com/azure/ai-foundry/openai/quotas-limits (how many in a request; read 2026-11-29).
AZURE_IMAGES = replace(OPENAI_IMAGES, most_images=50)
