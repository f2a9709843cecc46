"""What counts as a vector in plain JSON."""

from __future__ import annotations

import struct

import orjson
import pytest

from batch_llm.providers.plain_vector import packed_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("[1, 2]", (1, 2)),
        ("[0.1, -3e-5]", (0.1, -3e-5)),
        ("[1, 2.5]", (1, 2.5)),
        ("[18446744073709551615, -1]", (2.0**64, -1)),
        ("[1e300, -1e300]", (float("inf"), float("-inf"))),
        ("[1.5, true]", (1.5, 1)),
    ],
)
def test_numbers_are_packed_as_they_are(text: str, numbers: tuple[float, ...]) -> None:
    """Whole or not; a truth value among them is not looked for."""
    assert packed_numbers(orjson.loads(text)) == struct.pack(f"<{len(numbers)}f", *numbers)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "7", "true", '"12"', "{}", '{"0": 1}'),
        *('["1", "2"]', '["1.5"]', '[1, "2"]', "[true, false]", "[null]", "[1, null]", "[{}]"),
        *("[[1.0], [2.0]]", "[[1, 2]]", "[1, [2]]", "[[]]", "[" * 300 + "1" + "]" * 300),
    ],
)
def test_nothing_else_is_a_vector(text: str) -> None:
    with pytest.raises(TypeError):
        packed_numbers(orjson.loads(text))


def test_a_long_text_among_numbers_costs_no_more_than_its_length() -> None:
    """Room for it in every place would be 400 GB."""
    with pytest.raises(TypeError):
        packed_numbers([*[1.5] * 100_000, "x" * 1_000_000])
