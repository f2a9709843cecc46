"""A model whose price nobody knows, under a cap on money: refused before anything is sent.

Belongs here: that refusal, for whichever command. Not here: a cap that is set while the run works (money.py), a budget
that is too small (starting.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from batch_llm.engine.parts import JobParts
from batch_llm.errors import ConfigurationError

__all__ = ["check_money"]

# by the kind of a cap of `Ledger.set_caps`: what it is on, and what takes it away
_CAPS = {
    "day": ("what everybody together may spend per day", "--per-day"),
    "user": ("what user {} may spend in total", "--user"),
    "user_day": ("what user {} may spend per day", "--user-per-day"),
}


def check_money(parts: JobParts) -> None:
    """Refuse a budget that cannot be kept, and a run under any cap that cannot; blocking.

    The caps are looked up only where a price is unknown.
    """
    unpriced = next((each.declared.job.model for each in (parts, *parts.fallbacks) if each.price is None), None)
    if unpriced is None:
        return
    why, advice = f"the price of {unpriced} is unknown, so", "give `prices` to its pool in the providers file, or"
    if parts.declared.job.budget_usd is not None:
        raise ConfigurationError(f"budget_usd: {why} a budget cannot be kept; {advice} drop the budget")
    caps = parts.caps()
    if caps:
        on, command = _in_words(caps)
        raise ConfigurationError(f"{why} no cap can be kept on {on}; {advice} lift the cap: {command}")


def _in_words(caps: Iterable[str]) -> tuple[str, str]:
    """(what these caps are on, the command that takes them away)."""
    on, options = [], []
    for kind, _, user in (cap.partition(":") for cap in caps):
        what, option = _CAPS[kind]
        on.append(what.format(user))
        options += [option, shlex.quote(f"{user}=none") if user else "none"]
    return " and on ".join(on), " ".join(["batch-llm limits budget", *options])
