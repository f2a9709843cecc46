"""A job's parts, for what depends on the question alone: nothing is read and nothing is asked.

Belongs here: what the tests of expected.py, planned.py and context.py share. Not here: assertions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from batch_llm import wiring
from batch_llm.config.settings import Settings
from batch_llm.engine.parts import JobParts
from batch_llm.job.load import declare
from batch_llm.learned import AnswerEvidence, Learned, PromptEvidence

__all__ = ["SCHEMA", "learned", "parts_of"]

SCHEMA = {"tone": {"enum": ["calm", "tense"]}, "score": "number"}


def parts_of(folder: Path, pool: dict[str, Any] | None = None, **changes: Any) -> JobParts:
    """The parts of a job for gpt-4o-mini, whose encoding is at hand; ``pool``: keys of the providers file."""
    pools = [{"models": ["*"], "limits": "unknown", **(pool or {})}]
    spec = {"kind": "openai", "api_key": "${env:OPENAI_API_KEY}", "pools": pools}
    (folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"openai": spec}}))
    settings = Settings(home=folder / "home", providers_path=folder / "providers.yaml", cwd=folder)
    data = {
        "name": "lab",
        "input": {"table": "input.parquet", "key": ["id"]},
        "prompt": {"user": "Grade: {{ text }}"},
        "model": "openai/gpt-4o-mini",
        "output": {"table": "out"},
    }
    return wiring.planner(settings, declare({**data, **changes}, folder)).parts


def learned(lengths: list[int], bad: list[int] | None = None) -> Learned:
    """Answers of these lengths, each to a prompt of 400 bytes that was counted as 100 tokens and billed as 104."""
    prompts, answers = PromptEvidence(), AnswerEvidence()
    for tokens in lengths:
        answers.note(tokens)
    for tokens in bad or []:
        answers.note(tokens, good=False)
    for _ in range(answers.good + answers.bad):
        prompts.note(400, 104, counted_tokens=100)
    return Learned(prompts, answers)
