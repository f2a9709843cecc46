"""How long a Gemini model thinks: which models can be told, and in which of the two ways.

Belongs here: from a job's `reasoning_effort` to `thinkingConfig`, and what no model takes. Not here: the rest of a
request (chat.py).

The models of 2.5 take a budget in tokens, the later ones a level; the earlier ones do not think. Names without a number
(`gemini-flash-latest`) mean the newest model. The budgets are what Google's OpenAI-compatible endpoint makes of an
effort; `minimal` is the least that all models of 2.5 take.
Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thinking (budgets and levels, and which models take
which), https://github.com/Portkey-AI/docs-core/pull/677 (an effort's budget), https://github.com/juspay/neurolink/pull/1707
(the least per model), https://github.com/RooCodeInc/Roo-Code/issues/10700 (2.5 takes no level),
https://github.com/lobehub/lobehub/issues/7985 (2.0 does not think) (read 2026-11-29).
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["thinking_config", "why_not"]

_WITHOUT = re.compile(r"gemini-(1\.|2\.0)|gemma-|learnlm")
_BY_BUDGET = re.compile(r"gemini-2\.5")
_PRO = re.compile(r"gemini-3(\.[0-9]+)?-pro")
_FIRST_PRO = re.compile(r"gemini-3-pro")
BUDGET_TOKENS = {"minimal": 512, "low": 1_024, "medium": 8_192, "high": 24_576}


def why_not(model: str, effort: str) -> str | None:
    """Why this model cannot be told this effort; None: it can."""
    if _WITHOUT.match(model):
        return f"{model} does not think"
    if _PRO.match(model) and effort == "minimal":
        return f"{model} always thinks; low is the least"
    if _FIRST_PRO.match(model) and effort == "medium":
        return f"{model} knows low and high only"
    return None


def thinking_config(model: str, effort: str) -> dict[str, Any]:
    """The request's `thinkingConfig`."""
    if _BY_BUDGET.match(model):
        return {"thinkingBudget": BUDGET_TOKENS[effort]}
    return {"thinkingLevel": effort.upper()}
