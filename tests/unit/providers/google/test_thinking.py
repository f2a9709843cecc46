"""Which models can be told how long to think, and how."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.providers.google.thinking import thinking_config, why_not


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 512}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24_576}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.5-flash", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-flash-latest", "low", {"thinkingLevel": "LOW"}),
    ],
)
def test_2_5_takes_a_budget_and_what_came_later_a_level(model: str, effort: str, expected: Any) -> None:
    assert why_not(model, effort) is None
    assert thinking_config(model, effort) == expected


@pytest.mark.parametrize(
    ("model", "effort", "why"),
    [
        ("gemini-2.0-flash", "low", "gemini-2.0-flash does not think"),
        ("gemini-1.5-pro", "high", "gemini-1.5-pro does not think"),
        ("gemini-3.1-pro-preview", "minimal", "gemini-3.1-pro-preview always thinks; low is the least"),
        ("gemini-3-pro-preview", "medium", "gemini-3-pro-preview knows low and high only"),
    ],
)
def test_what_a_model_does_not_take_is_said(model: str, effort: str, why: str) -> None:
    assert why_not(model, effort) == why
