"""A run's end, in words and as the JSON object that scripts read.

Belongs here: wording a RunSummary. Not here: printing progress (watching/board.py), exit codes (exits.py).
"""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any

from batch_llm.cli.exits import SAMPLE
from batch_llm.cli.speech import arguments, bill_in_words, duration, number, usd
from batch_llm.engine.events import RunSummary
from batch_llm.engine.retry import RULES
from batch_llm.errors import ErrorClass
from batch_llm.watching.board import counted

__all__ = ["summary_as_json", "summary_in_words"]

NEEDS_MENDING = (ErrorClass.AUTHENTICATION, ErrorClass.DAILY_QUOTA, ErrorClass.DEADLINE)  # before the same command
# The promise of `run --json`: these keys, in this order
KEYS = (
    "job", "run_id", "rows", "ok", "failed", "pending", "cached", "requests", "attempts", "input_tokens",
    "output_tokens", "cost_usd", "wall_s", "output", "failed_by_class", "stopped", "cost_unknown_rows",
    "planned_cost_usd", "planned", "partition", "warehouse", "rows_by_model",
)  # fmt: skip


def summary_as_json(summary: RunSummary) -> dict[str, Any]:
    """The last line of ``run --json``."""
    values = asdict(summary)
    return {key: values[key] for key in KEYS}


def summary_in_words(summary: RunSummary) -> str:
    """What the user reads at the end, with what to do next."""
    failed = f"{summary.failed:,} failed{counted(summary.failed_by_class)}"
    # a call that a rate limit refused uses up no attempt
    refused = f" ({summary.throttled:,} of them refused by a limit)" if summary.throttled else ""
    asked = f"requests {summary.requests:,} now{refused}, attempts {summary.attempts:,} in the whole run"
    lines = [
        f"{summary.job}: {summary.rows:,} rows: {summary.ok:,} ok, {failed}, {summary.pending:,} pending",
        f"  {asked}, {summary.cached:,} rows from earlier answers",
        *_by_model(summary),
        *_costs_and_tokens(summary),
        *([] if summary.warehouse is None else [f"  warehouse {bill_in_words(summary.warehouse)}"]),
        f"  output {summary.output}   run {summary.run_id}",
    ]
    if summary.nothing_to_do:
        lines.insert(0, f"{summary.job}: nothing to do, {_why_nothing(summary)}.")
    return "\n".join([*lines, *_advice(summary)])


def _why_nothing(summary: RunSummary) -> str:
    failed = f"{summary.failed:,} rows failed before" if summary.failed else "no row failed"
    return f"every row was asked before, {failed}, and nothing has changed"


def _by_model(summary: RunSummary) -> list[str]:
    """Who answered, where a fallback could have."""
    shown = ", ".join(f"{model} {rows:,}" for model, rows in summary.rows_by_model.items())
    return [f"  answered by {shown}"] if shown else []


def _costs_and_tokens(summary: RunSummary) -> list[str]:
    """Actual against planned; how far off only where every row ended."""
    cost, time = _cost(summary), duration(summary.wall_s)
    given, written = number(summary.input_tokens), number(summary.output_tokens)
    plan = None if summary.nothing_to_do else summary.planned
    if plan is None or not plan.rows:
        return [f"  tokens {given} in and {written} out, cost {cost}, {time}"]
    whole = not summary.pending

    def beside(planned: str, actual: float | Decimal | None, expected: float | Decimal) -> str:
        off = f", {(float(actual) / float(expected) - 1):+.1%}" if whole and expected and actual is not None else ""
        return f"planned {planned}{'' if whole else ' for all rows'}{off}"

    planned_usd = summary.planned_cost_usd
    if planned_usd is not None:
        planned = f"{usd(planned_usd)} ({usd(plan.cost_low_usd)} to {usd(plan.cost_high_usd)})"
        cost = f"{cost}, {beside(planned, summary.cost_usd, planned_usd)}"
    given = f"{given} in ({beside(number(plan.input_tokens), summary.input_tokens, plan.input_tokens)})"
    written = f"{written} out ({beside(number(plan.output_tokens), summary.output_tokens, plan.output_tokens)})"
    lines = [f"  cost {cost}", f"  tokens {given} and {written}, {time}"]
    if plan.after_answers:
        first = "" if plan.first_cost_usd is None else f"; before the first: {usd(plan.first_cost_usd)}"
        lines.append(f"  planned after {plan.after_answers:,} answers{first}")
    return lines


def _cost(summary: RunSummary) -> str:
    """The sum of the known costs, and how many rows it leaves out."""
    known = usd(summary.cost_usd)
    if summary.cost_usd is None or not summary.cost_unknown_rows:
        return known
    return f"{known} and {summary.cost_unknown_rows:,} rows of unknown cost"


def _advice(summary: RunSummary) -> list[str]:
    lines, named = [], arguments(summary.job, summary.partition)
    if summary.stopped == SAMPLE:
        lines.append("This was a sample; run without --limit to go on. What is answered is not paid again.")
    elif summary.stopped is not None:
        lines.append(f"Stopped early: {summary.stopped}. {_how_it_goes_on(summary)}; nothing is paid twice.")
    if summary.blocked is not None:
        lines.append(f"Not promoted: {summary.blocked}")
    if summary.failed:
        lines.append(f"Look at the failed rows: batch-llm failed {named}   ask them again: batch-llm retry {named}")
    return lines


def _how_it_goes_on(summary: RunSummary) -> str:
    """The same command, unless it would stop at once again."""
    if summary.stopped in NEEDS_MENDING:
        advice = RULES[ErrorClass(summary.stopped)].advice
        return advice[0].upper() + advice[1:]
    if summary.stopped != ErrorClass.BUDGET:
        return "The same command goes on"
    if summary.cost_usd is None and summary.planned_cost_usd is None:  # the model has no price
        return "What the next row may cost is not known: do what is said above, then run it again"
    # vectors have no length to cap; a changed cap asks answered rows anew
    lower = ", or set params.max_output_tokens lower: less is set aside for a row"
    helps = "" if summary.ok or summary.kind == "embedding" else lower
    return (
        f"The next row may cost more than is left: raise budget_usd (or the cap named above){helps}, then run it again"
    )
