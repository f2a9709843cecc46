"""Anthropic.

Belongs here: what is true of Anthropic's own API. Not here: its JSON (anthropic_messages.py).
Source: anthropic 2.14.0, types/message_create_params.py, types/output_config_param.py (parameters, efforts);
https://docs.anthropic.com/en/api/rate-limits (the debit) (read 2026-11-28).
"""

from __future__ import annotations

from batch_llm.providers.anthropic_images import ANTHROPIC_IMAGES
from batch_llm.providers.anthropic_messages import AnthropicProvider
from batch_llm.providers.kind import ProviderKind

__all__ = ["KIND"]

ABSENT = "its API has no such parameter"

KIND = ProviderKind(
    name="anthropic",
    api_key="required",
    base_url="https://api.anthropic.com",
    headers="anthropic",
    debit="input_plus_max_tokens_then_corrected",
    needs=frozenset({"max_output_tokens"}),
    most={"temperature": 1.0},
    cannot={
        "seed": ABSENT,
        "frequency_penalty": ABSENT,
        "presence_penalty": ABSENT,
        "reasoning_effort=minimal": "its least effort is low",
        "max_output_tokens=auto": "it wants a number with the first request",
    },
    chat=AnthropicProvider,
    images=ANTHROPIC_IMAGES,
)
