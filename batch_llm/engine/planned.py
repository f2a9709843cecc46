"""What a run was planned to take: stored with it, looked at again when answers come, compared at its end.

Belongs here: the figures and their ranges. Not here: looking at rows (estimating.py), wording (cli).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Any

from batch_llm.engine.estimating import Estimate
from batch_llm.engine.expected import expected_output
from batch_llm.engine.packing import calls_needed
from batch_llm.engine.parts import JobParts
from batch_llm.journal.base import RunRecord
from batch_llm.learned import Known, PromptEvidence

__all__ = ["Figures", "Planned", "keep_learned", "planned"]

ERRORS = 3.0  # standard errors of the sample on either side
COUNTED_MARGIN = 0.01  # the provider frames prompts and schemas in its own way
LEARNED_MARGIN = 0.05  # of a learned ratio after LEARNED_ANSWERS
FEW_MARGIN = 0.15  # after fewer
LEARNED_ANSWERS = 20
# 4 bytes per token before anything was learned: from Cyrillic text to JSON, see tokens.py
GUESSED_LOW, GUESSED_HIGH = 0.7, 1.75
FIRM_PROMPTS = 20  # bills after which the input needs no second look


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens or US dollars: the range in which the end is expected, and where in it."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class Planned:
    """What all rows to ask will take; see docs/how-to/cost.md."""

    rows: int  # that are sent
    requests: int  # re-asks included
    prompt_bytes: int  # of all of them
    counted_tokens: int  # of all of them, as counted or estimated when the run began
    counted_error: int  # one standard error of that
    image_tokens: int  # of them, what images take
    exact: bool  # counted with the model's own encoding
    input_tokens: int
    input_tokens_low: int
    input_tokens_high: int
    output_tokens: int
    output_tokens_low: int
    output_tokens_high: int
    cost_usd: Decimal | None  # None: the price is unknown
    cost_low_usd: Decimal | None
    cost_high_usd: Decimal | None
    output_from: str  # what the output is estimated by, in words
    firm: bool  # enough was known: no second look is needed
    after_answers: int = 0  # of this run, when it was looked at again; 0: planned before the first
    first_cost_usd: Decimal | None = None  # what was planned before the first answer, if it was looked at again

    def as_data(self) -> dict[str, Any]:
        """Plain data for the run's record."""
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(self).items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any] | None) -> Planned | None:
        """What `as_data` gave; None for nothing, or for what another version wrote."""
        names = {field.name for field in fields(cls)}
        if data is None or set(data) != names:
            return None
        money = {name: None if data[name] is None else Decimal(data[name]) for name in names if name.endswith("_usd")}
        return cls(**{**data, **money})

    @property
    def _prompts(self) -> _Prompts:
        return _Prompts(self.rows, self.prompt_bytes, self.counted_tokens, self.counted_error, self.image_tokens)

    def looked_at_again(self, parts: JobParts, known: Known) -> Planned:
        """The same rows, with what is known now."""
        answers = known.own.answers.good
        first = self.cost_usd if self.first_cost_usd is None else self.first_cost_usd
        again = _with(parts, self._prompts, known)
        return replace(again, after_answers=answers, first_cost_usd=first)


@dataclass(frozen=True, slots=True)
class _Prompts:
    """All prompts to send."""

    rows: int
    bytes: int
    tokens: int
    error: int
    image_tokens: int = 0  # of the tokens


def planned(parts: JobParts, estimate: Estimate, known: Known) -> Planned:
    """The plan for what an estimate says is to be asked; blocking."""
    sample, scale = estimate.sample, estimate.scale
    tokens, size = sample.total_tokens(), round(sample.total_bytes().amount * scale)
    images = round(sample.total_image_tokens().amount * scale)
    counted, error = round(tokens.amount * scale), round(tokens.error * scale)
    prompts = _Prompts(estimate.requests, size, counted, error, images)
    return _with(parts, prompts, known)


def keep_learned(parts: JobParts, record: RunRecord) -> Planned | None:
    """Keep what this process learned; what the run was planned to take, looked at again after its first answers.

    Blocking, repeatable. To be called when a slice or a run ends.
    """
    for each in (parts, *parts.fallbacks):
        each.learning.keep()
    stored = parts.runs.get(record.run_id).planned
    plan, early = Planned.from_data(stored), parts.learning.early
    if plan is None or plan.firm or early is None or early.own.answers.good <= plan.after_answers:
        return plan
    again = plan.looked_at_again(parts, early)
    parts.runs.change(record.run_id, planned=again.as_data())
    return again


def _with(parts: JobParts, prompts: _Prompts, known: Known) -> Planned:
    output = expected_output(parts, known)
    evidence = known.both.prompts
    rows, bounds = prompts.rows, parts.call_bounds
    calls = rows if bounds is None else calls_needed(rows, prompts.tokens, bounds)
    given = _input(parts, prompts, calls, evidence, output.paid_per_row)
    answer = Figures(output.low * rows, output.expected * rows, output.high * rows)
    requests = max(1, round(calls * output.paid_per_row)) if rows else 0
    cost = _cost(parts, requests, given, answer, evidence.cached_share)
    return Planned(
        rows=rows,
        requests=requests,
        prompt_bytes=prompts.bytes,
        counted_tokens=prompts.tokens,
        counted_error=prompts.error,
        image_tokens=prompts.image_tokens,
        exact=parts.tokens.exact,
        input_tokens=round(given.expected),
        input_tokens_low=round(given.low),
        input_tokens_high=round(given.high),
        output_tokens=round(answer.expected),
        output_tokens_low=round(answer.low),
        output_tokens_high=round(answer.high),
        cost_usd=cost[1],
        cost_low_usd=cost[0],
        cost_high_usd=cost[2],
        output_from=output.text,
        firm=output.firm and (parts.tokens.exact or evidence.answers >= FIRM_PROMPTS),
    )


def _input(parts: JobParts, prompts: _Prompts, calls: int, evidence: PromptEvidence, again: float) -> Figures:
    """Billed input tokens, prompts of re-asks included; what a call adds to its text is learned by call."""
    # how a provider bills a schema is its own affair: OpenAI does, others perhaps not at all; the first answers tell
    schema = parts.schema_tokens * prompts.rows
    unbilled = 0
    line = evidence.line
    if parts.tokens.exact:
        first = prompts.tokens + evidence.excess * calls
        low, high = 1 - COUNTED_MARGIN, 1 + COUNTED_MARGIN
        unbilled = 0 if evidence.counted else schema // 2
    elif line is not None:
        first = line[0] * calls + line[1] * prompts.bytes + prompts.image_tokens
        margin = LEARNED_MARGIN if evidence.answers >= LEARNED_ANSWERS else FEW_MARGIN
        low, high = 1 - margin, 1 + margin
    else:
        first = float(prompts.tokens)
        low, high = GUESSED_LOW, GUESSED_HIGH
        unbilled = schema
    error = ERRORS * prompts.error
    least = max(0.0, (first - unbilled) * low - error)
    return Figures(least * again, first * again, (first * high + error) * again)


def _cost(
    parts: JobParts, requests: int, given: Figures, answer: Figures, cached_share: float
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Low, expected and high; as much from the provider's cache as before, at the high end nothing."""
    price = parts.price
    if price is None:
        return None, None, None
    if not requests:
        return Decimal(0), Decimal(0), Decimal(0)
    low, expected, high = (
        price.cost(round(tokens), round(tokens_out), round(tokens * cached), requests=requests)
        for tokens, tokens_out, cached in (
            (given.low, answer.low, cached_share),
            (given.expected, answer.expected, cached_share),
            (given.high, answer.high, 0.0),
        )
    )
    return low, expected, high
