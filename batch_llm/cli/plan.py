"""``batch-llm plan JOB``: what a run would do, before a cent is spent.

Belongs here: the page and its JSON. Not here: the numbers (engine/planning.py).
"""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING

from batch_llm.cli.jobs import declared_job
from batch_llm.cli.speech import bill_in_words, duration, megabytes, number, print_json, say, usd

if TYPE_CHECKING:
    from batch_llm.engine.planning import DayNeed, FallbackCost, Plan
    from batch_llm.warehouse.base import ExpectedStatement

__all__ = ["plan_in_words", "print_plan"]

PROMPT_LINES = 30
PROMPT_CHARACTERS = 3_000


def print_plan(reference: str, partition: str | None, *, json: bool, full: bool = False) -> None:
    """``batch-llm plan``; spends nothing and needs no key. ``full``: the prompts to their end."""
    from batch_llm import wiring
    from batch_llm.config.settings import Settings

    settings = Settings.from_environment()
    declared = declared_job(settings, reference, partition)
    plan = wiring.planner(settings, declared).plan()
    if json:
        print_json(asdict(plan))
    else:
        say(plan_in_words(plan, declared.job.budget_usd, full=full))


def plan_in_words(plan: Plan, budget_usd: Decimal | None = None, *, full: bool = False) -> str:
    """The page."""
    lines = [
        f"{plan.job}: {plan.source} -> {plan.output}",
        "",
        f"rows      {plan.rows:,}: {_rows(plan)}",
        f"input     {_input(plan)}",
        *_output(plan),
        f"cost      {_cost(plan)}{_of_budget(budget_usd)}",
        *_lanes(plan),
        *(f"          {_of_fallback(fallback)}" for fallback in plan.fallbacks),
        f"time      {_time(plan)}",
        *(f"          {_day(need)}" for need in plan.days),
        f"slices    {plan.slices:,}",
        *_warehouse(plan),
        *(f"warning   {warning}" for warning in plan.warnings),
    ]
    for position, prompt in enumerate(plan.prompts, 1):
        lines += ["", f"-- prompt {position} of {len(plan.prompts)} shown --", prompt if full else _beginning(prompt)]
    return "\n".join([*lines, "", _spent(plan)])


def _beginning(prompt: str) -> str:
    """Some lines of a prompt, and how much more there is."""
    shown = "\n".join(prompt[:PROMPT_CHARACTERS].split("\n")[:PROMPT_LINES])
    rest = len(prompt) - len(shown)
    return prompt if not rest else f"{shown}\n.. ({rest:,} more characters; --full shows them)"


def _rows(plan: Plan) -> str:
    return (
        f"{plan.new:,} new, {plan.changed:,} changed, {plan.done:,} done, "
        f"{plan.failed:,} failed before (asked again only by retry)"
    )


def _input(plan: Plan) -> str:
    how = {
        "exact": "counted, every row",
        "sampled": f"counted in a sample of {plan.counted_rows:,} rows",
        "estimated": f"estimated from the texts' bytes, in {plan.counted_rows:,} rows",
    }[plan.counted]
    return (
        f"{number(plan.input_tokens_p50)} tokens per row (p50), {number(plan.input_tokens_p99)} (p99), "
        f"{number(plan.input_tokens_total)} in all ({how})"
        + (f", {number(plan.image_tokens)} of them for images" if plan.image_tokens else "")
    )


def _output(plan: Plan) -> list[str]:
    """One line; none of vectors."""
    from batch_llm.engine.expected import OF_VECTORS

    if plan.output_from == OF_VECTORS:
        return []
    low, high = number(plan.output_tokens_low), number(plan.output_tokens_high)
    return [f"output    about {number(plan.output_tokens_total)} tokens, {low} to {high} (by: {plan.output_from})"]


def _cost(plan: Plan) -> str:
    if plan.cost_expected_usd is None:
        return _range(None, None)
    dearest = "" if plan.cost_dearest_usd is None else f"; at the dearest {usd(plan.cost_dearest_usd)}"
    return f"about {usd(plan.cost_expected_usd)}, {_range(plan.cost_low_usd, plan.cost_high_usd)}{dearest}"


def _of_fallback(fallback: FallbackCost) -> str:
    """If all rows went there."""
    if fallback.cost_expected_usd is None:
        return f"fallback {fallback.model}: {_range(None, None)}"
    dearest = "" if fallback.cost_dearest_usd is None else f"; at the dearest {usd(fallback.cost_dearest_usd)}"
    between = _range(fallback.cost_low_usd, fallback.cost_high_usd)
    return f"if {fallback.model} answered all: about {usd(fallback.cost_expected_usd)}, {between}{dearest}"


def _lanes(plan: Plan) -> list[str]:
    """A line per lane, where there is a choice."""
    if len(plan.lanes) < 2:
        return []
    return [f"          {lane}: {_range(*(prices or (None, None)))}" for lane, prices in plan.lanes.items()]


def _time(plan: Plan) -> str:
    if plan.minutes is None:
        return "no limit is declared"
    days = next((need.days for need in plan.days if need.limit == plan.binding and need.days > 1), None)
    time = duration(plan.minutes * 60) if days is None else f"{days:,} days"
    return f"{time} at the current limits; what binds: {plan.binding}"


def _warehouse(plan: Plan) -> list[str]:
    """Some lines where the warehouse bills what it reads."""
    lines = [_statement(each) for each in plan.warehouse]
    if plan.freeze_bytes is not None:
        lines.insert(0, f"freeze {megabytes(plan.freeze_bytes)} of the input (by a dry run), {_how_often(plan)}")
    return [f"{'' if place else 'warehouse':<10}{line}" for place, line in enumerate(lines)]


def _how_often(plan: Plan) -> str:
    if plan.freeze_kept_minutes is None:
        return "by the plan and again by the run: such rows are not kept (a view, or rows that not all see alike)"
    return f"once for plan and run, if the run begins within {duration(plan.freeze_kept_minutes * 60)}"


def _statement(each: ExpectedStatement) -> str:
    times = "" if each.times == 1 else f", {each.times:,} times"
    if each.billed_bytes is not None:
        return f"{each.name} {megabytes(each.billed_bytes)} (by a dry run){times}"
    return f"{each.name} cannot be known before; {megabytes(each.least_bytes)} at least{times}"


def _spent(plan: Plan) -> str:
    if plan.billed is None:
        return "Nothing was spent."
    return f"No model was asked. The warehouse, for this plan: {bill_in_words(plan.billed)}."


def _day(need: DayNeed) -> str:
    """200 requests per day: 600 take 3 days."""
    counted = "rows" if need.limit == "requests_per_day" else "tokens"
    takes = f"take {need.days:,} days" if need.days > 1 else "fit into one day"
    return f"{need.per_day:,.0f} {need.limit.replace('_', ' ')}: {number(need.needed)} {counted} {takes}"


def _range(low: Decimal | None, high: Decimal | None) -> str:
    if low is None:
        return "unknown (no price for this model; give `prices` in the providers file)"
    return usd(high) if low == high else f"{usd(low)} to {usd(high)}"


def _of_budget(budget_usd: Decimal | None) -> str:
    return "" if budget_usd is None else f", budget {usd(budget_usd)}"
