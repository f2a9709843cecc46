"""What a run would do and cost, before it does: spends nothing.

Belongs here: the Plan and how it is estimated. Not here: freezing for real (starting.py), showing it (cli).
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.packing import calls_needed
from batch_llm.engine.parts import JobParts, frozen_input, python_rows, request_hash
from batch_llm.engine.pipeline import UNKNOWN_OUTPUT_CAP
from batch_llm.engine.prior import PriorAnswers, key_of, prior_answers
from batch_llm.engine.rows import Rows, RowStatus
from batch_llm.engine.starting import Started, check, freeze_spec, same_run, signatures, start
from batch_llm.job.model import Job
from batch_llm.job.template import RenderError
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.limiter.base import Limits
from batch_llm.warehouse.base import FrozenInput

__all__ = ["DayNeed", "Needs", "Plan", "Planner", "days_needed", "time_needed"]

COUNTED_ROWS = 2_000  # rows whose tokens are counted; the rest is extrapolated
SHOWN_PROMPTS = 2
MINUTES_PER_DAY = 24 * 60
PER_MINUTE = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
PER_DAY = ("requests_per_day", "tokens_per_day")


@dataclass(frozen=True, slots=True)
class Needs:
    """What the rows to ask take from the limits."""

    requests: int
    input_tokens: int
    output_tokens: int

    def of(self, limit: str) -> int:
        """From the limit with this name, such as ``tokens_per_day``."""
        counted = limit.partition("_per_")[0]
        return self.input_tokens + self.output_tokens if counted == "tokens" else int(getattr(self, counted))


@dataclass(frozen=True, slots=True)
class DayNeed:
    """What the rows to ask take from one limit per day."""

    limit: str  # requests_per_day | tokens_per_day
    per_day: float
    needed: int  # in all, requests or tokens
    days: int  # it takes, when nothing of today's is used up yet


@dataclass(frozen=True, slots=True)
class Plan:
    """What `run` would do now."""

    job: str
    source: str
    output: str
    rows: int
    new: int  # never asked before
    changed: int  # asked before, with another prompt, model, params or schema, or another text
    done: int  # answered, need not be asked
    failed: int  # failed before; only `retry` asks them again
    slices: int
    input_tokens_p50: int
    input_tokens_p99: int
    input_tokens_total: int  # of the rows to ask
    output_tokens_total: int  # predicted
    tokens_exact: bool  # every row counted with the model's own encoding; else extrapolated or estimated
    cost_low_usd: Decimal | None  # at the predicted length of answers; None: the price is unknown
    cost_high_usd: Decimal | None  # at max_output_tokens; None: unknown price, or no cap
    lanes: dict[str, tuple[Decimal, Decimal | None] | None]
    minutes: float | None  # at the declared limits; None without any
    binding: str | None  # the limit that decides that
    days: list[DayNeed]  # of each declared limit per day
    prompts: list[str]  # two rendered prompts
    warnings: list[str]


class Planner:
    """Plans and starts a job; needs no key."""

    def __init__(self, parts: JobParts, judge: AnyJudge) -> None:
        """``judge`` reads stored answers."""
        self.parts = parts
        self._judge = judge

    def start(self) -> Started:
        """Freeze a new run, or find the one to go on with; blocking. Spends nothing."""
        return start(self.parts, self._judge)

    def plan(self) -> Plan:
        """What `run` would do; blocking. Raises what `run` would raise before its first call."""
        parts = self.parts
        _, version = check(parts)
        signature, shape = signatures(parts)
        latest = parts.runs.latest(parts.declared.job.name)
        if latest is not None and same_run(latest, signature, shape, version) and latest.state is RunState.PLANNED:
            return self._estimate(frozen_input(latest), latest)
        run_id = f"plan-{secrets.token_hex(6)}"
        try:
            return self._estimate(parts.warehouse.freeze(freeze_spec(parts, run_id)), latest)
        finally:
            parts.warehouse.forget(run_id)

    def _estimate(self, frozen: FrozenInput, latest: RunRecord | None) -> Plan:
        tally = _Tally()
        unfinished = latest is not None and latest.state is not RunState.FINISHED
        earlier = (latest.run_id, *latest.supersedes) if latest is not None and unfinished else ()
        for info in frozen.slices:
            self._estimate_slice(frozen, info.number, earlier, tally)
        return self._plan_of(frozen, tally)

    def _estimate_slice(self, frozen: FrozenInput, number: int, runs: tuple[str, ...], tally: _Tally) -> None:
        parts = self.parts
        prior = prior_answers(parts, frozen, number, runs)
        own = Rows(self._judge, parts.price, frozen.slices[number].rows)
        own.replay(parts.runs.entries(frozen.run_id, number))
        row = 0
        for batch in parts.warehouse.read(frozen, number):
            for values in python_rows(batch, parts.asked_columns):
                if own.is_done(row):
                    tally.count(own.status(row))
                else:
                    self._estimate_row(values, prior, tally)
                row += 1

    def _estimate_row(self, values: dict[str, Any] | None, prior: PriorAnswers, tally: _Tally) -> None:
        parts = self.parts
        try:
            request = parts.request(values, "") if values is not None else None
        except RenderError:
            request = None
        if request is None or values is None:
            tally.to_ask(known=False)
            tally.unrendered += 1
            return
        is_known = key_of(values[name] for name in parts.key) in prior.keys
        found = prior.find(values, request_hash(request, parts.declared.job.model))
        if found is not None:
            tally.count(str(prior.values(found)["llm_status"]))
            return
        tally.to_ask(known=is_known)
        if len(tally.tokens) < COUNTED_ROWS:
            tally.tokens.append(parts.predicted_cost(request).input_tokens)
        if len(tally.prompts) < SHOWN_PROMPTS:
            tally.prompts.append("\n".join(f"[{message.role}] {message.content}" for message in request.messages))

    def _plan_of(self, frozen: FrozenInput, tally: _Tally) -> Plan:
        parts, job = self.parts, self.parts.declared.job
        to_ask = tally.new + tally.changed
        tokens = sorted(tally.tokens) or [0]
        mean = sum(tokens) / len(tokens)
        total = round(mean * to_ask)
        bounds = parts.call_bounds
        calls = to_ask if bounds is None else calls_needed(to_ask, total, bounds)
        predicted = parts.output_length.predicted() if bounds is None else 0
        cap = job.params.declared_cap if bounds is None else 0
        output = predicted * to_ask if cap is None else min(predicted, cap) * to_ask
        low = parts.price.cost(total, output, 0, requests=calls) if parts.price else None
        high = parts.price.cost(total, cap * to_ask, 0, requests=calls) if parts.price and cap is not None else None
        needs = Needs(calls, total, output)
        minutes, binding = time_needed(parts.limits, needs)
        return Plan(
            job=job.name,
            source=frozen.source,
            output=parts.output,
            rows=frozen.rows,
            new=tally.new,
            changed=tally.changed,
            done=tally.done,
            failed=tally.failed,
            slices=len(frozen.slices),
            input_tokens_p50=tokens[len(tokens) // 2],
            input_tokens_p99=tokens[min(len(tokens) - 1, len(tokens) * 99 // 100)],
            input_tokens_total=total,
            output_tokens_total=output,
            tokens_exact=parts.tokens.exact and len(tally.tokens) == to_ask,
            cost_low_usd=low,
            cost_high_usd=high,
            lanes={"standard": None if low is None else (low, high)},
            minutes=minutes,
            binding=binding,
            days=days_needed(parts.limits, needs),
            prompts=tally.prompts,
            warnings=self._warnings(tally, low),
        )

    def _warnings(self, tally: _Tally, low: Decimal | None) -> list[str]:
        job = self.parts.declared.job
        found = []
        if low is None:
            found.append(f"the price of {job.model} is unknown: costs will be NULL; give `prices` to its pool")
        elif job.params.declared_cap is None and not job.is_embedding:
            found.append(_uncapped(job))
        if job.budget_usd is not None and low is not None and low > job.budget_usd:
            found.append(f"budget_usd {job.budget_usd} is less than the expected cost: the run will stop early")
        if self.parts.limits.unknown:
            found.append("the limits of this pool are unknown: a low starting guess is used and adapted")
        if tally.unrendered:
            found.append(f"{tally.unrendered} rows cannot be rendered and will fail without a call")
        return found


def _uncapped(job: Job) -> str:
    told = "is auto: until enough answers were seen," if job.params.learns_cap else "is not set:"
    aside = f" (the budget sets {UNKNOWN_OUTPUT_CAP:,} tokens aside per call)" if job.budget_usd else ""
    return f"params.max_output_tokens {told} a single answer may be as long as the model allows{aside}"


def time_needed(limits: Limits, needs: Needs) -> tuple[float | None, str | None]:
    """Minutes at the declared limits, and which of them decides; None without any.

    A limit per day makes nobody wait for what fits into one day.
    """
    minutes = {}
    for name in PER_MINUTE:
        limit = getattr(limits, name)
        if limit is not None:
            minutes[name] = needs.of(name) / limit
    for need in days_needed(limits, needs):
        minutes[need.limit] = need.needed / need.per_day * MINUTES_PER_DAY if need.days > 1 else 0.0
    if not minutes:
        return None, None
    binding = max(minutes, key=lambda name: minutes[name])
    return minutes[binding], binding


def days_needed(limits: Limits, needs: Needs) -> list[DayNeed]:
    """How long each declared limit per day makes it."""
    declared = [(name, getattr(limits, name)) for name in PER_DAY]
    return [
        DayNeed(name, limit, needs.of(name), math.ceil(needs.of(name) / limit))
        for name, limit in declared
        if limit is not None
    ]


class _Tally:
    """Counts while rows pass by."""

    def __init__(self) -> None:
        self.new = self.changed = self.done = self.failed = self.unrendered = 0
        self.tokens: list[int] = []
        self.prompts: list[str] = []

    def to_ask(self, *, known: bool) -> None:
        """A row that would be asked; ``known``: its key has an earlier answer."""
        if known:
            self.changed += 1
        else:
            self.new += 1

    def count(self, status: str) -> None:
        """A row that ended before."""
        if status == RowStatus.OK:
            self.done += 1
        else:
            self.failed += 1
