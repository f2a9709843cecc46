"""How OpenAI counts an image: its own examples, and that no image is dearer than the dearest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.providers.images import Image
from batch_llm.providers.openai.images import image_tokens

MODELS = ("gpt-5.4", "gpt-5.2", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini", "o3", "somebodys-model")
SIDES = st.integers(1, 20_000)


def image(width: int, height: int) -> Image:
    return Image("d", b"..", "image/png", width, height)


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        # the guide's own examples
        ("gpt-5.4", 1_024, 1_024, 1_229),
        ("gpt-5.4", 2_048, 2_048, 3_000),
        # examples of its older versions: https://a64.in/tools/openai-vision-cost-calculator.html (read 2026-11-29)
        ("gpt-4o", 1_024, 1_024, 765),
        ("gpt-4o", 2_048, 4_096, 1_105),
        ("gpt-4.1-nano", 1_800, 2_400, 3_572),  # 1,452 patches
        # other copies of them: https://github.com/xn1cklas/tokenlens/issues/7 (read 2026-11-29)
        ("gpt-5-mini", 1_024, 1_024, 1_659),
        ("gpt-5-nano", 1_024, 1_024, 2_520),
        ("gpt-5-mini", 1_800, 2_400, 2_353),
        # small ones are not enlarged
        ("gpt-5.1", 10, 10, 210),
        ("gpt-4o-mini", 512, 512, 8_500),
        ("o3", 513, 100, 375),
        ("gpt-5.4-mini", 1, 1, 2),
    ],
)
def test_it_is_counted_as_documented(model: str, width: int, height: int, tokens: int) -> None:
    assert image_tokens(model, image(width, height)) == tokens


def test_a_snapshot_counts_as_its_model_and_a_variant_as_an_unknown_one() -> None:
    square = image(1_024, 1_024)
    assert image_tokens("gpt-4o-2024-08-06", square) == image_tokens("ft:gpt-4o:org", square) == 765
    assert image_tokens("gpt-5.3", square) == image_tokens("nobodys", square) == 2_520  # 1,024 patches, each 2.46


@given(st.sampled_from(MODELS), SIDES, SIDES)
def test_none_is_dearer_than_one_whose_size_is_not_known(model: str, width: int, height: int) -> None:
    tokens = image_tokens(model, image(width, height))
    assert 0 < tokens <= image_tokens(model, Image("url:x", url="https://x"))


def test_what_is_not_known_is_the_dearest() -> None:
    elsewhere = Image("url:x", url="https://x")
    assert image_tokens("gpt-5.4", elsewhere) == 3_000
    assert image_tokens("gpt-4o", elsewhere) == 85 + 8 * 170
    assert image_tokens("nobodys", elsewhere) == 10_077
