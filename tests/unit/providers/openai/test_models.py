"""Which parameters OpenAI's models do not take."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.providers.openai.models import why_not


@pytest.mark.parametrize(
    ("model", "params", "refused"),
    [
        ("gpt-5-mini", {"temperature": 0}, {"temperature": "gpt-5-mini takes none but 1"}),
        ("gpt-5-2025-08-07", {"top_p": 0.5}, {"top_p": "gpt-5-2025-08-07 takes none but 1"}),
        ("o4-mini", {"frequency_penalty": 1, "presence_penalty": 0}, {"frequency_penalty": "o4-mini takes none but 0"}),
        ("o3", {"stop": ["END"]}, {"stop": "o3 has none"}),
        ("gpt-4.1-mini", {"reasoning_effort": "low"}, {"reasoning_effort": "gpt-4.1-mini does not reason"}),
        ("gpt-4o", {"reasoning_effort": "low"}, {"reasoning_effort": "gpt-4o does not reason"}),
    ],
)
def test_what_a_model_does_not_take_is_said(model: str, params: dict[str, Any], refused: dict[str, str]) -> None:
    assert why_not(model, params) == refused


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("gpt-4.1-mini", {"temperature": 0, "top_p": 0.5, "stop": ["END"], "presence_penalty": 1}),
        ("gpt-5-mini", {"temperature": 1, "top_p": 1, "presence_penalty": 0, "reasoning_effort": "minimal"}),
        ("gpt-5-chat-latest", {"temperature": 0}),
        ("gpt-5.1", {"temperature": 0}),
        ("o3", {"reasoning_effort": "low", "seed": 1}),
        ("of-my-own", {"temperature": 0, "reasoning_effort": "low", "stop": ["END"]}),
    ],
)
def test_what_a_model_takes_or_nobody_knows_is_let_through(model: str, params: dict[str, Any]) -> None:
    assert why_not(model, params) == {}
