"""How Google counts an image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.providers.google.images import image_rules, image_tokens
from batch_llm.providers.images import Image


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gemini-2.5-flash", 960, 540, 6 * 258),  # the guide's own example
        ("gemini-2.5-flash", 384, 384, 258),
        ("gemini-2.0-flash-001", 385, 385, 4 * 258),
        ("gemini-2.5-pro", 768, 768, 4 * 258),
        ("gemini-2.5-pro", 3_072, 1_536, 8 * 258),
        ("gemini-2.5-pro", 4_000, 4_000, 16 * 258),  # by tiles of 768, once it is 3,072 x 3,072
        ("gemini-2.5-pro", 8_000, 1, 12 * 258),  # no tile is smaller than 256
        ("gemini-2.5-pro", 3_072, 419, 24 * 258),
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


@pytest.mark.parametrize(("model", "tokens"), [("gemini-2.5-flash", 24 * 258), ("gemini-3-pro", 1_120)])
def test_behind_an_address_it_is_counted_as_the_dearest(model: str, tokens: int) -> None:
    assert image_tokens(model, Image("d", url="https://host/a.png", mime_type="image/png")) == tokens


@pytest.mark.parametrize(
    ("model", "is_vertex", "schemes"),
    [
        ("gemini-2.5-flash", False, {"https"}),
        ("gemini-2.0-flash-001", False, set()),
        ("gemini-2.0-flash-001", True, {"gs", "http", "https"}),
        ("gemini-3.5-flash", True, {"gs", "http", "https"}),
    ],
)
def test_which_addresses_are_fetched_from_depends_on_the_door_and_the_model(
    model: str, is_vertex: bool, schemes: set[str]
) -> None:
    assert image_rules(model, is_vertex=is_vertex).schemes == schemes


def test_a_row_that_may_go_to_either_door_has_what_both_fetch() -> None:
    both = image_rules("gemini-3.5-flash", is_vertex=False).and_at(image_rules("gemini-3.5-flash", is_vertex=True))
    assert (both.schemes, both.most_addresses, both.named_types) == ({"https"}, 10, True)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_none_is_dearer_than_one_whose_size_is_not_known(width: int, height: int) -> None:
    tokens = image_tokens("gemini-2.5-flash", Image("d", b"..", "image/png", width, height))
    assert 0 < tokens <= image_tokens("gemini-2.5-flash", Image("d", url="https://host/a.png", mime_type="image/png"))
