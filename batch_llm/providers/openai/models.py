"""Which of a job's parameters OpenAI's models do not take, by the model's name; on Azure as well.

Belongs here: what no request need be sent to know. Not here: the request (chat.py), parameters that a kind does
not have at all (kinds/).

Source: https://github.com/tmc/langchaingo/issues/1355, https://github.com/qwenlm/qwen-code/issues/921 (temperature),
https://zenn.dev/headwaters/articles/a5468c45ec2e52 (gpt-5-mini, also on Azure: temperature and top_p 1, penalties 0),
https://github.com/generative-computing/mellea/issues/270 (gpt-4o has no reasoning_effort), openai 3.54.0,
types/chat/completion_create_params.py (o3 and o4-mini have no stop) (read 2026-11-29).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["why_not"]

# gpt-5.1 and later take them where they do not reason, which their default is: they are not judged here.
# Source: https://github.com/vercel/ai/issues/10932 (read 2026-11-29).
_REASONING = re.compile(r"(?:o[134]|gpt-5)(?:-mini|-nano|-pro)?(?:-20[0-9]{2}-[0-9]{2}-[0-9]{2})?$")
_WITHOUT_STOP = re.compile(r"o3(?:-|$)|o4-mini")
_NOT_REASONING = re.compile(r"gpt-3\.5|gpt-4")
ONLY = {"temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}


def why_not(model: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Of a job's parameters those that this model does not take: why not."""
    cannot = {}
    if _REASONING.match(model):
        fixed = {name: value for name, value in ONLY.items() if params.get(name, value) != value}
        cannot = {name: f"{model} takes none but {value}" for name, value in fixed.items()}
    if "stop" in params and _WITHOUT_STOP.match(model):
        cannot["stop"] = f"{model} has none"
    if "reasoning_effort" in params and _NOT_REASONING.match(model):
        cannot["reasoning_effort"] = f"{model} does not reason"
    return cannot
