"""What a run would do and cost, before it does: spends nothing.

Belongs here: the Plan and how it is estimated. Not here: freezing for real (starting.py), showing it (cli).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.context import longest_answer, most_input
from batch_llm.engine.date_partition import latest_run
from batch_llm.engine.estimating import Estimate, Looking, estimate
from batch_llm.engine.going_on import check_same_job, open_slices, to_retry
from batch_llm.engine.parts import JobParts, frozen_input
from batch_llm.engine.planned import Planned, planned
from batch_llm.engine.reparse import differences
from batch_llm.engine.starting import (
    Started,
    check,
    check_budget,
    freeze_spec,
    looked_in,
    may_have_changed,
    standing,
    start,
)
from batch_llm.engine.summary import journalled_cost, total
from batch_llm.job.model import Job
from batch_llm.journal.base import RunRecord
from batch_llm.limiter.base import Cost, Limits
from batch_llm.pricing import in_full
from batch_llm.statement_costs import WarehouseBill, bill_of
from batch_llm.warehouse.base import ExpectedStatement, FrozenInput, StatusCounts

__all__ = ["Counted", "DayNeed", "FallbackCost", "Needs", "Plan", "Planner", "days_needed", "time_needed"]

Counted = Literal["exact", "sampled", "estimated"]
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
    """What `run` would do now. Every range is of what is expected for all rows to ask (docs/how-to/cost.md)."""

    job: str
    source: str
    output: str
    rows: int
    new: int  # never asked before
    changed: int  # asked before, with another prompt, model, params or schema, or another text
    done: int  # answered, need not be asked
    failed: int  # failed before: only `retry` asks them again; or there before and not to be sent
    slices: int
    input_tokens_p50: int
    input_tokens_p99: int
    input_tokens_total: int  # of the rows to ask, expected
    input_tokens_low: int
    input_tokens_high: int
    counted: Counted  # exact: every row with the model's own encoding; sampled: some of them; estimated: by their bytes
    counted_rows: int  # rows that were looked at
    output_tokens_total: int  # expected
    output_tokens_low: int
    output_tokens_high: int
    output_from: str  # what the output is estimated by, in words
    cost_low_usd: Decimal | None  # None: the price is unknown
    cost_expected_usd: Decimal | None
    cost_high_usd: Decimal | None
    cost_dearest_usd: Decimal | None  # every answer as long as max_output_tokens; None: unknown price, or no cap
    lanes: dict[str, tuple[Decimal, Decimal | None] | None]
    minutes: float | None  # at the declared limits; None without any
    binding: str | None  # the limit that decides that
    days: list[DayNeed]  # of each declared limit per day
    prompts: list[str]  # two rendered prompts
    warnings: list[str]
    # of the input, to freeze it; None: that is not billed. A plan reads them, a run soon after takes its rows over
    freeze_bytes: int | None = None
    freeze_kept_minutes: float | None = None  # for a run within so long; None: that run reads, and is billed, again
    warehouse: tuple[ExpectedStatement, ...] = ()  # what the run's further statements will bill; empty: nothing is
    billed: WarehouseBill | None = None  # by the warehouse for this plan; None: nothing
    image_tokens: int = 0  # of the input tokens, of the rows to ask
    fallbacks: tuple[FallbackCost, ...] = ()  # in their order
    free: int = 0  # of new and changed, at least: an equal row's answer or an earlier one is theirs


@dataclass(frozen=True, slots=True)
class FallbackCost:
    """What all rows to ask would cost if one model of `fallback` answered them; as the same fields of the plan."""

    model: str  # provider/model
    cost_low_usd: Decimal | None
    cost_expected_usd: Decimal | None
    cost_high_usd: Decimal | None
    cost_dearest_usd: Decimal | None


class Planner:
    """Plans and starts a job; needs no key."""

    def __init__(self, parts: JobParts, judge: AnyJudge) -> None:
        """``judge`` reads stored answers."""
        self.parts = parts
        self._judge = judge

    def start(self) -> Started:
        """Freeze a new run, or find the one to go on with; blocking. Spends nothing."""
        return start(self.parts, self._judge)

    def latest_run(self) -> RunRecord | None:
        """The newest run of the job, or of its date partition; blocking."""
        return latest_run(self.parts)

    def journalled_cost(self, record: RunRecord, numbers: Iterable[int]) -> StatusCounts:
        """See `summary.journalled_cost`; of a run of this job."""
        return journalled_cost(self.parts, self._judge, record, numbers)

    def plan(self) -> Plan:
        """What `run` would do; blocking. Raises what `run` would raise before its first call."""
        parts = self.parts
        schema, version = check(parts)
        found = standing(parts, version)
        if found.unfinished is not None:
            check_budget(parts)
            return self._looked_at(frozen_input(found.unfinished), _all_of(found.unfinished))
        if found.finished is not None and not may_have_changed(parts, schema):
            return self._answered(found.finished)
        if found.finished is None:
            check_budget(parts)

        run_id = f"plan-{secrets.token_hex(6)}"
        spec = freeze_spec(parts, run_id)
        freeze = parts.warehouse.freeze_bill(spec)
        try:
            plan = self._looked_at(parts.warehouse.freeze_for_plan(spec), looked_in(parts))
            warnings = [*plan.warnings, *self._of_reparse(plan)]
            plan = replace(plan, billed=bill_of(parts.runs.statements(run_id)), warnings=warnings)
            if freeze is None:
                return plan
            return replace(plan, freeze_bytes=freeze.bytes, freeze_kept_minutes=freeze.kept_minutes)
        finally:
            parts.warehouse.forget(run_id)
            parts.runs.delete(run_id)

    def plan_retry(self, record: RunRecord) -> Plan:
        """What `retry` of the job's newest run would ask now, as new and changed rows; blocking.

        Its `rows` and `done` are those of the slices that have such rows. Raises `ConfigurationError` when the job
        was changed since the run was planned.
        """
        parts = self.parts
        check_same_job(parts, record)
        numbers = open_slices(parts, record, parts.warehouse.published(record.run_id), to_retry)
        whole = frozen_input(record)
        frozen = replace(whole, slices=tuple(whole.slices[number] for number in numbers))
        seen = estimate(parts, self._judge, frozen, Looking(retried=record))
        return self._plan_of(frozen, seen, planned(parts, seen, parts.learning.known))

    def _answered(self, finished: RunRecord) -> Plan:
        """Every row was asked; what its output has lost since is promoted again, for nothing."""
        frozen, counts = frozen_input(finished), self.parts.warehouse.published(finished.run_id)
        stored = total(counts.values())
        if stored.ok + stored.failed != frozen.rows:  # published rows are gone as well
            return self._looked_at(frozen, _all_of(finished))
        seen = Estimate(frozen.rows, done=stored.ok, failed=stored.failed)
        return self._plan_of(frozen, seen, planned(self.parts, seen, self.parts.learning.known))

    def _looked_at(self, frozen: FrozenInput, earlier: tuple[str, ...]) -> Plan:
        expected = self.parts.warehouse.expected(frozen, self.parts.output, earlier)
        seen = estimate(self.parts, self._judge, frozen, Looking(earlier))
        plan = self._plan_of(frozen, seen, planned(self.parts, seen, self.parts.learning.known))
        return replace(plan, warehouse=expected)

    def _of_reparse(self, plan: Plan) -> list[str]:
        """What is paid for where nothing but the schema is another one."""
        latest = latest_run(self.parts) if plan.changed else None
        if latest is None or differences(self.parts, latest):
            return []
        told = f"nothing but output.schema changed since run {latest.run_id}: `batch-llm reparse {plan.job}` judges its"
        return [f"{told} answers by the new one for nothing; a run asks the changed rows again"]

    def _plan_of(self, frozen: FrozenInput, seen: Estimate, plan: Planned) -> Plan:
        parts, job = self.parts, self.parts.declared.job
        tokens = sorted(tokens for _, tokens, *_ in seen.sample.drawn if tokens) or [0]
        p99 = tokens[min(len(tokens) - 1, len(tokens) * 99 // 100)]
        bounds = parts.call_bounds
        requests = plan.rows if bounds is not None and bounds.row_is_request else plan.requests
        needs = Needs(requests, plan.input_tokens, plan.output_tokens)
        minutes, binding = time_needed(parts.limits, needs)
        low, high = plan.cost_low_usd, plan.cost_high_usd
        return Plan(
            job=job.name,
            source=frozen.source,
            output=parts.output,
            rows=frozen.rows,
            new=seen.new,
            changed=seen.changed,
            done=seen.done,
            failed=seen.failed,
            slices=len(frozen.slices),
            input_tokens_p50=tokens[len(tokens) // 2],
            input_tokens_p99=p99,
            input_tokens_total=plan.input_tokens,
            input_tokens_low=plan.input_tokens_low,
            input_tokens_high=plan.input_tokens_high,
            counted="estimated" if not plan.exact else "exact" if seen.sample.whole else "sampled",
            counted_rows=len(seen.sample.drawn),
            output_tokens_total=plan.output_tokens,
            output_tokens_low=plan.output_tokens_low,
            output_tokens_high=plan.output_tokens_high,
            output_from=plan.output_from,
            cost_low_usd=low,
            cost_expected_usd=plan.cost_usd,
            cost_high_usd=high,
            cost_dearest_usd=_dearest_usd(parts, plan),
            lanes={"standard": None if low is None else (low, high)},
            minutes=minutes,
            binding=binding,
            days=days_needed(parts.limits, needs),
            prompts=seen.prompts,
            warnings=self._warnings(seen, plan, p99),
            image_tokens=plan.image_tokens,
            free=seen.free,
            fallbacks=tuple(
                _fallback_cost(other, replace(seen, sample=sample, others=()))
                for other, sample in zip(parts.fallbacks, seen.others, strict=True)
            ),
        )

    def _warnings(self, seen: Estimate, plan: Planned, p99: int) -> list[str]:
        job, parts = self.parts.declared.job, self.parts
        longest = longest_answer(parts, Cost(p99, 0, job.params.declared_cap))
        found = []
        found += [
            f"the price of {each.declared.job.model} is unknown: costs will be NULL; give `prices` to its pool"
            for each in (parts, *parts.fallbacks)
            if each.price is None
        ]
        if parts.price is not None and job.params.declared_cap is None and not job.is_embedding:
            found.append(_uncapped(job, longest))
        if job.budget_usd is not None and parts.price is not None and plan.rows:
            found += _of_budget(job.budget_usd, plan)
            found += _of_holds(job.budget_usd, (parts, *parts.fallbacks), p99)
        if not parts.declared.prompt.columns and not job.images:
            found.append("the prompt names no column of the input: every row asks the same")
        if parts.limits.unknown:
            found.append("the limits of this pool are unknown: a low starting guess is used and adapted")
        about = "" if seen.sample.whole else "about "
        for rows, why in ((seen.unrendered, "cannot be rendered"), (seen.too_long, "are too long for the model")):
            if rows:
                found.append(f"{about}{rows:,} rows {why} and will fail without a call")
        return found


def _all_of(record: RunRecord) -> tuple[str, ...]:
    """The run itself, and those whose answers it takes over."""
    return record.run_id, *record.supersedes


def _dearest_usd(parts: JobParts, plan: Planned) -> Decimal | None:
    """Every answer as long as it may get; what the user is asked about."""
    price, job = parts.price, parts.declared.job
    cap = 0 if job.is_embedding else job.params.declared_cap
    if price is None or plan.cost_high_usd is None or cap is None:
        return None
    if not plan.rows:
        return Decimal(0)
    at_cap = price.cost(plan.input_tokens_high, cap * plan.rows, 0, requests=plan.requests)
    return max(plan.cost_high_usd, at_cap)


def _fallback_cost(parts: JobParts, seen: Estimate) -> FallbackCost:
    """``parts``, ``seen``: as that model counts."""
    plan = planned(parts, seen, parts.learning.known)
    dearest = _dearest_usd(parts, plan)
    return FallbackCost(parts.declared.job.model, plan.cost_low_usd, plan.cost_usd, plan.cost_high_usd, dearest)


def _uncapped(job: Job, longest: int) -> str:
    told = "is auto: until enough answers were seen," if job.params.learns_cap else "is not set:"
    aside = f" (the budget sets {longest:,} tokens aside per call)" if job.budget_usd else ""
    return f"params.max_output_tokens {told} a single answer may be as long as the model allows{aside}"


def _of_budget(budget_usd: Decimal, plan: Planned) -> list[str]:
    """What is to be said of a budget before anything is spent."""
    found = []
    if plan.cost_low_usd is not None and budget_usd < plan.cost_low_usd:
        found.append(f"budget_usd {in_full(budget_usd)} is less than the least this will cost: the run will stop early")
    elif plan.cost_usd is not None and budget_usd < plan.cost_usd:
        found.append(f"budget_usd {in_full(budget_usd)} is less than the expected cost: the run may stop early")
    return found


def _of_holds(budget_usd: Decimal, models: Sequence[JobParts], p99: int) -> list[str]:
    """The same of what is set aside for one long row, of ``p99`` input tokens."""
    found = []
    for parts in models:
        job = parts.declared.job
        longest = longest_answer(parts, Cost(p99, 0, job.params.declared_cap))
        held_usd = Decimal(0) if parts.price is None else parts.price.cost(most_input(parts, p99, p99, 2), longest, 0)
        if budget_usd < held_usd:
            whom = "" if parts is models[0] else f" of {job.model}"
            lower = "" if job.is_embedding else "set params.max_output_tokens lower, or "
            found.append(
                f"budget_usd {in_full(budget_usd)} is less than the {in_full(held_usd)} that are set aside while a "
                f"long row is asked{whom}: such a row is not sent; {lower}raise the budget"
            )
    return found


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
