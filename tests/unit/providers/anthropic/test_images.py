"""How Anthropic counts an image: its own table, and that no image is dearer than the dearest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.providers.anthropic.images import image_tokens
from batch_llm.providers.images import Image

ELSEWHERE = Image("url:x", url="https://x")
SIDES = st.integers(1, 8_000)


def image(width: int, height: int) -> Image:
    return Image("d", b"..", "image/png", width, height)


@pytest.mark.parametrize(
    ("width", "height", "coarse", "fine"),
    [
        # the guide's table
        (200, 200, 64, 64),
        (1_000, 1_000, 1_296, 1_296),
        (1_092, 1_092, 1_521, 1_521),
        (1_920, 1_080, 1_560, 2_691),
        (2_000, 1_500, 1_564, 3_888),
        (3_840, 2_160, 1_560, 4_784),
        # the guide's page of A4: 924 x 1,307
        (1_075, 1_520, 33 * 47, 39 * 55),
        (1, 1, 1, 1),
    ],
)
def test_it_is_counted_as_documented(width: int, height: int, coarse: int, fine: int) -> None:
    assert image_tokens("claude-sonnet-4-6", image(width, height)) == coarse
    assert image_tokens("claude-opus-4-8", image(width, height)) == fine


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("claude-3-5-haiku-20241022", 1_568),
        ("claude-sonnet-4-5-20250929", 1_568),
        ("claude-opus-4-20250514", 1_568),
        ("claude-opus-4-6", 1_568),
        ("claude-opus-4-7", 4_784),
        ("claude-opus-4-8-20260601", 4_784),
        ("claude-sonnet-5-5", 4_784),
        ("nobodys", 4_784),
    ],
)
def test_what_is_not_known_is_the_dearest_of_the_model(model: str, most: int) -> None:
    assert image_tokens(model, ELSEWHERE) == most


@given(st.sampled_from(["claude-haiku-4-5", "claude-opus-4-8"]), SIDES, SIDES)
def test_none_is_dearer(model: str, width: int, height: int) -> None:
    assert 0 < image_tokens(model, image(width, height)) <= image_tokens(model, ELSEWHERE)
