"""What a request takes of each dimension of one pool, made ready to be asked 10,000 times a second.

Belongs here: the debit rule as functions of one pool, the largest request that can ever fit. Not here: the rule itself
in its readable form (debit.py; a test compares the two).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batch_llm.limiter.base import Cost, Limits
from batch_llm.limiter.debit import is_corrected
from batch_llm.limiter.wire import CLOCK, Rule

__all__ = ["Amounts", "Measures", "span_of"]

MINUTE_S = 60.0
Amounts = tuple[float, ...]
"""One number per dimension, in the order of the pool's rules."""
Take = Callable[[Cost], float]


class Measures:
    """The debit rule of one pool, in the order of its rules.

    Attributes:
        reserved: What to reserve for a request.
        used: What an answered request really took, from what was reserved and what is reported; nonsense counts as a
            minute (a day) of the limit at most.
        most: The largest request that fits: the limit per minute or per day, units.
    """

    def __init__(self, limits: Limits, rules: Sequence[Rule]) -> None:
        """``rules`` as `debit.rules_of` made them."""
        capped = limits.debit != "actual"
        names = [rule.name.removesuffix("_per_day") for rule in rules]
        takes = [_take(name, capped=capped) for name in names]
        spends = [_take(name, capped=False) for name in names]
        self.most: Amounts = tuple(span_of(rule, rule.per_s) for rule in rules)
        self.reserved: Callable[[Cost], Amounts] = _together(names, takes, capped=capped)
        self.used: Callable[[Amounts, Cost], Amounts] = _used(names, spends, self.most, corrected=is_corrected(limits))
        self._kept = [name == "requests" for name in names]  # a request that was sent stays counted

    def rejected(self, reserved: Amounts) -> Amounts:
        """What a request took that the provider answered with 429: it stays counted, its tokens do not."""
        return tuple([amount if kept else 0.0 for amount, kept in zip(reserved, self._kept, strict=True)])


def span_of(rule: Rule, per_s: float) -> float:
    """Units per second as a person writes a limit: per minute, or per day."""
    return round(per_s * (MINUTE_S if rule.kind == CLOCK else rule.period_s), 6)


def _used(
    names: list[str], spends: list[Take], most: Amounts, *, corrected: bool
) -> Callable[[Amounts, Cost], Amounts]:
    if not corrected or set(names) <= {"requests"}:
        return lambda reserved, actual: reserved
    if names == ["requests", "tokens"]:  # most pools, so it is worth its own function
        most_tokens = most[1]

        def of_two(reserved: Amounts, actual: Cost) -> Amounts:
            requests, tokens = reserved
            told = actual.input_tokens + actual.output_tokens
            if 0 <= told <= most_tokens:
                return (requests, told)
            return (requests, min(max(0.0, told), max(most_tokens, tokens)))

        return of_two
    parts = [
        (None if name == "requests" else spend, limit) for name, spend, limit in zip(names, spends, most, strict=True)
    ]

    def of_all(reserved: Amounts, actual: Cost) -> Amounts:
        return tuple(
            [
                amount if spend is None else min(max(0.0, spend(actual)), max(limit, amount))
                for amount, (spend, limit) in zip(reserved, parts, strict=True)
            ]
        )

    return of_all


def _take(name: str, *, capped: bool) -> Take:
    if name == "requests":
        return lambda cost: cost.requests
    if name == "input_tokens":
        return lambda cost: cost.input_tokens
    if name == "output_tokens":
        return _capped_output if capped else lambda cost: cost.output_tokens
    if capped:
        return lambda cost: cost.input_tokens + _capped_output(cost)
    return lambda cost: cost.input_tokens + cost.output_tokens


def _capped_output(cost: Cost) -> float:
    """Without a cap on the output the prediction stands in for it."""
    return cost.output_tokens if cost.max_output_tokens is None else cost.max_output_tokens


def _together(names: list[str], takes: list[Take], *, capped: bool) -> Callable[[Cost], Amounts]:
    if len(takes) == 1:
        only = takes[0]
        return lambda cost: (only(cost),)
    if len(takes) == 2:
        first, second = takes
        if names == ["requests", "tokens"] and not capped:  # most pools, so it is worth its own function
            return lambda cost: (cost.requests, cost.input_tokens + cost.output_tokens)
        return lambda cost: (first(cost), second(cost))
    return lambda cost: tuple([take(cost) for take in takes])
