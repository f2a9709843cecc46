"""How much a model can read and write at once.

Belongs here: whether a row is too long for the model, how long its answer can get. Not here: the limits of a pool
(limiter), where a model's figures come from (wiring.py).
"""

from __future__ import annotations

from batch_llm.engine.parts import JobParts
from batch_llm.limiter.base import Cost

__all__ = ["LONGEST_ANSWER", "longest_answer", "too_long"]

LONGEST_ANSWER = 131_072  # tokens; no model that we know writes more at once
CLEARLY = 1.5  # an estimate that is over by less may be wrong, and the provider is asked


def too_long(parts: JobParts, cost: Cost) -> str | None:
    """Why this request can never be answered by the job's model; None when it can, or when that is not known."""
    context = parts.context_tokens
    if context is None:
        return None
    exact, answer = parts.tokens.exact, cost.max_output_tokens or 0
    needed = cost.input_tokens + answer
    if needed <= (context if exact else context * CLEARLY):
        return None
    how = "counted" if exact else "estimated"
    after = f" and {answer:,} for the answer" if answer else ""
    less = " or ask for a shorter answer (params.max_output_tokens)" if answer else ""
    return (
        f"this row needs {cost.input_tokens:,} tokens ({how}){after}, but {parts.declared.job.model_name} reads "
        f"{context:,}: shorten the row{less}, or take a model that reads more. If the model does read more, give "
        "`context_tokens` to its pool in the providers file"
    )


def longest_answer(parts: JobParts, cost: Cost) -> int:
    """The most output tokens this request can be billed for: what a budget sets aside."""
    if parts.declared.job.is_embedding:
        return 0
    if cost.max_output_tokens is not None:
        return cost.max_output_tokens
    most = parts.most_output_tokens or LONGEST_ANSWER
    if parts.context_tokens is None:
        return most
    room = parts.context_tokens - (cost.input_tokens if parts.tokens.exact else 0)
    return max(1, min(most, room))
