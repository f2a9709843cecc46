"""How much a model can read and write at once, and be billed for.

Belongs here: whether a row is too long for the model, the most that its prompt and its answer can take. Not here: the
limits of a pool (limiter), where a model's figures come from (wiring.py).
"""

from __future__ import annotations

from batch_llm.engine.parts import JobParts
from batch_llm.limiter.base import Cost

__all__ = ["LONGEST_ANSWER", "framing_allowance", "least_input", "longest_answer", "most_input", "too_long"]

# The most that a provider is taken to add to the text where the model's encoding is not known: per request a system
# message of its own, a date, what opens the answer; per message the marks around it. Chat templates mark a message with
# 4 or 5 tokens; what they put before all takes 20 to 40 (Qwen 2.5, Llama 3.1) to some hundred (Mistral Small 3), what
# Anthropic puts before tools up to 530.
# Source: the `chat_template` of these models' repositories at https://huggingface.co;
# https://docs.anthropic.com/es/docs/tool-use-pricing-and-tokens (read 2026-11-29)
FRAMING_REQUEST_TOKENS = 640
FRAMING_MESSAGE_TOKENS = 8

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


def framing_allowance(messages: int) -> int:
    """What a chat template may add to so many messages, as it is allowed for before any bill: see `Tokens.most`."""
    return FRAMING_REQUEST_TOKENS + FRAMING_MESSAGE_TOKENS * messages


def most_input(parts: JobParts, counted: int, size_bytes: int, texts: int) -> int:
    """The most input tokens a request can be billed for: what a budget sets aside.

    ``size_bytes``: see `Tokens.most`; ``texts``: how many messages it has, or of one for vectors, texts.
    """
    of_vectors = parts.declared.job.is_embedding
    allowance = FRAMING_MESSAGE_TOKENS * texts if of_vectors else framing_allowance(texts + 1)  # one for the schema
    return parts.tokens.most(counted, size_bytes, allowance)


def least_input(parts: JobParts) -> int:
    """The same of a row that adds no text: its schema, and what surrounds a prompt."""
    texts = 2 if parts.declared.job.prompt.system else 1
    counted = 0 if parts.declared.job.is_embedding else parts.tokens.count_chat([""] * texts) + parts.schema_tokens
    return most_input(parts, counted, parts.schema_bytes, texts)


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
