"""Anthropic.

Belongs here: what is true of Anthropic's own API. Not here: its JSON (anthropic/messages.py).
Source: anthropic 2.14.0, types/message_create_params.py, types/output_config_param.py (parameters, efforts);
https://docs.anthropic.com/en/api/rate-limits (the debit) (read 2026-11-28).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batch_llm.providers.anthropic.images import ANTHROPIC_IMAGES
from batch_llm.providers.anthropic.messages import AnthropicProvider
from batch_llm.providers.kind import ProviderKind

__all__ = ["KIND"]

ABSENT = "its API has no such parameter"
# From 4.7 on any temperature or top_p but the default, 1, is an invalid request.
# Source: https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-7#sampling-parameters-removed as
# quoted in https://github.com/anomalyco/models.dev/pull/1468, https://github.com/UKGovernmentBEIS/inspect_ai/issues/3721
# (read 2026-11-29).
_UNSAMPLED = re.compile(r"claude-[a-z]+-(?:4-[7-9]|[5-9])(?:-|$)")
# Opus has efforts since 4.5, Sonnet since 4.6, Haiku 4.5 has none.
# Source: https://github.com/Oaklight/llm-rosetta/pull/289, https://github.com/anthropics/claude-code/issues/30795 (read
# 2026-11-29).
_EFFORTLESS = re.compile(r"claude-[23]|claude-[a-z]+-4(?:-[01])?(?:-20[0-9]{6})?$|claude-(?:sonnet|haiku)-4-5")


def _cannot_for(model: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that it takes, but not for every model, not with every value, or not together.

    Source: https://github.com/BerriAI/litellm/issues/3286 (stop), https://github.com/BerriAI/litellm/issues/15097
    (temperature with top_p, which models before Opus 4.1 took and the API's reference has always advised against) (read
    2026-11-29).
    """
    cannot = {}
    if any(not text.strip() for text in params.get("stop", ())):
        cannot["stop"] = "it takes no text of white space alone"
    if "temperature" in params and "top_p" in params:
        cannot["top_p"] = "it takes temperature or top_p, not both"
    if _UNSAMPLED.match(model):
        sampled = [name for name in ("temperature", "top_p") if params.get(name, 1) != 1]
        cannot |= dict.fromkeys(sampled, f"{model} takes none but 1")
    if _EFFORTLESS.match(model) and "reasoning_effort" in params:
        cannot["reasoning_effort"] = f"{model} has no efforts"
    return cannot


KIND = ProviderKind(
    name="anthropic",
    price_list="anthropic",
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
    cannot_for=_cannot_for,
    chat=AnthropicProvider,
    images=ANTHROPIC_IMAGES,
)
