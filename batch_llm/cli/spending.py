"""Asking before money is spent.

Belongs here: the estimate of what is about to be spent, and the question. Not here: the plan itself (engine), the
budget, which holds whatever was answered here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TYPE_CHECKING

import typer

from batch_llm.cli.speech import usd
from batch_llm.errors import Cancelled, ConfigurationError

if TYPE_CHECKING:
    from batch_llm.engine.planning import Plan

__all__ = [
    "CONFIRM_ABOVE_USD",
    "NO_CAP",
    "NO_PRICE",
    "Consent",
    "Estimate",
    "estimate_of_plan",
    "make_sure",
    "parse_usd",
]

CONFIRM_ABOVE_USD = Decimal(1)
CENT = Decimal("0.01")
NO_PRICE = "the model's price is unknown"
NO_CAP = "params.max_output_tokens gives no number"


@dataclass(frozen=True, slots=True)
class Consent:
    """What the user said beforehand."""

    yes: bool = False  # --yes: do not ask
    above_usd: Decimal = CONFIRM_ABOVE_USD  # ask only above this


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is about to be spent."""

    rows: int  # rows that will be asked
    upper_usd: Decimal | None  # None: nobody knows
    reason: str = NO_PRICE  # why nobody knows

    @property
    def text(self) -> str:
        """In words."""
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        if self.upper_usd is None:
            return f"asking {rows}; {self.reason}, so what it costs is not known beforehand"
        return f"asking {rows}; this costs up to {usd(self.upper_usd)}"


def estimate_of_plan(plan: Plan, limit: int | None = None) -> Estimate:
    """The upper cost of what a plan would ask, or of a sample of ``limit`` of its rows, whichever model answers."""
    asked = plan.new + plan.changed
    rows = asked if limit is None else min(limit, asked)
    if not rows:
        return Estimate(0, Decimal(0))
    each = [plan.cost_dearest_usd, *(model.cost_dearest_usd for model in plan.fallbacks)]
    known = [dearest for dearest in each if dearest is not None]
    if len(known) == len(each):
        return Estimate(rows, max(known) * rows / asked)
    if None not in (plan.cost_low_usd, *(model.cost_low_usd for model in plan.fallbacks)):
        return Estimate(rows, None, NO_CAP)
    return Estimate(rows, None)


def parse_usd(text: str) -> Decimal:
    """An amount as a user writes it: 5, 0.50, $5. Raises `ConfigurationError`."""
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"--confirm-above {text}: give an amount in US dollars, such as 5 or 0.50")
    return amount


def make_sure(estimate: Estimate, consent: Consent) -> None:
    """Return when the money may be spent.

    Asks in a terminal; without one raises `ConfigurationError`; raises `Cancelled` when the answer is no. The budget
    of the job holds in any case.
    """
    if consent.yes or not estimate.rows:
        return
    if estimate.upper_usd is not None and estimate.upper_usd <= consent.above_usd:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(
            f"{estimate.text}. Without a terminal to ask in, nothing above {usd(consent.above_usd)} (or of unknown "
            f"cost) is spent. {_what_helps(estimate, consent)}. Nothing was spent."
        )
    if not typer.confirm(f"{estimate.text}. Go on?", err=True):
        raise Cancelled("not started; nothing was spent")


def _what_helps(estimate: Estimate, consent: Consent) -> str:
    if estimate.upper_usd is not None:
        enough = estimate.upper_usd.quantize(CENT, ROUND_CEILING)
        return f"Add --yes, or --confirm-above {enough:f}"
    budget = f"set budget_usd to {usd(consent.above_usd)} or less (to more, with --confirm-above of as much)"
    if estimate.reason == NO_CAP:
        return f"Set params.max_output_tokens to a number, or {budget}, or add --yes"
    return f"Add --yes, or give the model a price in the providers file (`prices` of its pool) and {budget}"
