"""A row that is too long for the model is known before it is sent; what a budget sets aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.engine.context import LONGEST_ANSWER, longest_answer, too_long
from batch_llm.limiter.base import Cost
from tests.unit.engine.question_lab import parts_of


def test_the_message_says_the_size_the_limit_and_what_to_do(tmp_path: Path) -> None:
    said = too_long(parts_of(tmp_path), Cost(131_072, 500, 500)) or ""
    assert said.startswith(
        "this row needs 131,072 tokens (counted) and 500 for the answer, but gpt-4o-mini reads 128,000: shorten the row"
    )
    assert "context_tokens" in said


@pytest.mark.parametrize(
    ("given", "cap", "fits"),
    [(127_500, 500, True), (127_501, 500, False), (128_000, None, True), (128_001, None, False)],
)
def test_prompt_and_answer_share_the_context(tmp_path: Path, given: int, cap: int | None, fits: bool) -> None:
    assert (too_long(parts_of(tmp_path), Cost(given, 1, cap)) is None) is fits


@pytest.mark.parametrize(("given", "fits"), [(1_500, True), (1_501, False)])
def test_an_estimate_must_be_clearly_over(tmp_path: Path, given: int, fits: bool) -> None:
    parts = parts_of(tmp_path, {"context_tokens": 1_000}, model="openai/of-nobody-we-know")
    assert not parts.tokens.exact
    assert (too_long(parts, Cost(given, 1, None)) is None) is fits


def test_what_is_not_known_is_not_refused(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, model="openai/of-nobody-we-know")
    assert too_long(parts, Cost(10**9, 1, None)) is None
    assert longest_answer(parts, Cost(10**9, 1, None)) == LONGEST_ANSWER


def test_the_pool_knows_better_than_the_list(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, {"context_tokens": 200_000, "max_output_tokens": 16_384})
    assert too_long(parts, Cost(199_000, 1, None)) is None
    assert longest_answer(parts, Cost(1_000, 1, None)) == 16_384


@pytest.mark.parametrize(
    ("given", "cap", "most"), [(1_000, 64, 64), (1_000, None, 127_000), (127_999, None, 1), (500_000, None, 1)]
)
def test_an_answer_ends_with_the_context(tmp_path: Path, given: int, cap: int | None, most: int) -> None:
    assert longest_answer(parts_of(tmp_path), Cost(given, 1, cap)) == most
