"""How Google counts an image."""

from __future__ import annotations

import pytest

from batch_llm.providers.google.images import image_tokens
from batch_llm.providers.images import Image


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gemini-2.5-flash", 960, 540, 6 * 258),  # the guide's own example
        ("gemini-2.5-flash", 384, 384, 258),
        ("gemini-2.0-flash-001", 385, 385, 4 * 258),
        ("gemini-2.5-pro", 4_000, 4_000, 4 * 258),
        ("gemini-3-pro-preview", 4_000, 4_000, 1_120),
        ("gemini-3.5-flash", 10, 10, 1_120),
        ("somebodys-model", 10, 10, 1_120),
        ("somebodys-model", 960, 540, 6 * 258),
    ],
)
def test_it_is_counted_as_documented_and_at_the_dearer_rule_where_none_is(
    model: str, width: int, height: int, tokens: int
) -> None:
    assert image_tokens(model, Image("d", b"..", "image/png", width, height)) == tokens
