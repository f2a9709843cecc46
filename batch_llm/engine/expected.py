"""How long the answers of a job will be, on average, and how sure that is.

Belongs here: choosing what to go by (answers of this question, the schema, nothing) and its range. Not here: what it
costs (planned.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from batch_llm.engine.parts import JobParts
from batch_llm.job.answer_size import AnswerSize, answer_size
from batch_llm.job.load import DeclaredJob
from batch_llm.learned import Known
from batch_llm.tokens import Tokens

__all__ = ["OF_VECTORS", "Origin", "OutputEstimate", "expected_output", "first_length"]

Origin = Literal["answers", "older answers", "schema", "vectors", "nothing"]

FIRM_AFTER_ANSWERS = 200  # the mean of so many is within some per cent
SCHEMA_WEIGHT = 5  # answers: what a schema that bounds its answers counts for against real ones
DOUBT_ANSWERS = 5  # as if so many answers ..
DOUBT = 0.5  # .. had spread so far around the mean: a few that look alike prove little
ERRORS = 3.0  # standard errors on either side
LEAST_MARGIN = 0.05  # the rows that were answered first are not all rows
OLDER_MARGIN = 0.5  # another question may be answered otherwise
OF_VECTORS = "vectors, which are no tokens"
NOTHING_KNOWN = (8, 256, 4_096)  # tokens: shortest, guess, longest usual answer
THOUGHT = 1_000  # tokens that a reasoning model spends before it answers; from 0 to many times that
REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6")  # whose hidden thoughts are billed as output


@dataclass(frozen=True, slots=True)
class OutputEstimate:
    """Output tokens per row on average, over all rows: all that is paid for a row, re-asks included."""

    low: float
    expected: float
    high: float
    origin: Origin
    answers: int = 0  # of this very question that it goes by
    paid_per_row: float = 1.0  # answers that are paid for one row
    firm: bool = False  # needs no second look when answers come

    @property
    def text(self) -> str:
        """Where it comes from, in words."""
        match self.origin:
            case "answers":
                return f"{self.answers:,} answer{'' if self.answers == 1 else 's'} of this job"
            case "older answers":
                return "answers to an earlier question of this job"
            case "schema":
                return "the schema"
            case "vectors":
                return OF_VECTORS
            case _:
                return "nothing known: widest range"


def expected_output(parts: JobParts, known: Known) -> OutputEstimate:
    """What is to be expected by what is known."""
    if parts.declared.job.is_embedding:
        return OutputEstimate(0.0, 0.0, 0.0, "vectors", firm=True)
    cap = parts.declared.job.params.declared_cap
    size = _size(parts.declared, parts.tokens)
    if known.both.answers.good:
        return _by_answers(known, size, cap)
    thinks = _thinks(parts.declared)
    if size is None or thinks:
        return _by_nothing(size, cap, thinks=thinks)
    high = min(size.high, cap or size.high) if size.bounded else (cap or size.high)
    return _ordered(size.low, size.expected, high, cap, partial(OutputEstimate, origin="schema", firm=size.bounded))


def first_length(declared: DeclaredJob, tokens: Tokens) -> int | None:
    """What to reserve for an answer before any came, by the schema; None where nothing says how long it will be."""
    size = None if _thinks(declared) or declared.job.is_embedding else _size(declared, tokens)
    return size.expected if size is not None and size.bounded else None


def _size(declared: DeclaredJob, tokens: Tokens) -> AnswerSize | None:
    return None if declared.answer.shape is None else answer_size(declared.answer.shape, tokens.count_answer)


def _by_answers(known: Known, size: AnswerSize | None, cap: int | None) -> OutputEstimate:
    answers, own = known.both.answers, known.own.answers.good
    mean, rows = answers.mean, answers.good
    doubt = DOUBT_ANSWERS * (DOUBT * mean) ** 2
    margin = ERRORS * math.sqrt((rows * answers.variance + doubt) / (rows + DOUBT_ANSWERS) / rows)
    margin = max(margin, mean * (LEAST_MARGIN if own else OLDER_MARGIN))
    shortest, longest = 1.0, math.inf
    if size is not None and size.bounded and size.low <= mean <= size.high:  # else the model counts other tokens
        mean = (mean * rows + size.expected * SCHEMA_WEIGHT) / (rows + SCHEMA_WEIGHT)
        shortest, longest = size.low, size.high
    again = answers.tokens_per_good / answers.mean if answers.mean else 1.0
    made = partial(
        OutputEstimate,
        origin="answers" if own else "older answers",
        answers=own,
        paid_per_row=answers.paid_per_good,
        firm=own >= FIRM_AFTER_ANSWERS,
    )
    low, high = max(shortest, mean - margin), min(longest, mean + margin)
    most = None if cap is None else cap * again
    return _ordered(low * again, mean * again, high * again, most, made)


def _by_nothing(size: AnswerSize | None, cap: int | None, *, thinks: bool) -> OutputEstimate:
    low, expected, high = NOTHING_KNOWN if size is None else (size.low, size.expected, max(size.high, NOTHING_KNOWN[2]))
    if thinks:
        expected, high = expected + THOUGHT, high + 10 * THOUGHT
    elif cap is not None:
        expected = min(expected, math.ceil(cap / 2))
    return _ordered(low, expected, cap or high, cap, partial(OutputEstimate, origin="nothing"))


def _ordered(
    low: float, expected: float, high: float, most: float | None, made: partial[OutputEstimate]
) -> OutputEstimate:
    if most is not None:
        low, expected, high = min(low, most), min(expected, most), min(high, most)
    return made(low=min(low, expected), expected=expected, high=max(high, expected))


def _thinks(declared: DeclaredJob) -> bool:
    name = declared.job.model_name.rsplit("/", 1)[-1].lower()
    return declared.job.params.reasoning_effort is not None or name.startswith(REASONING)
