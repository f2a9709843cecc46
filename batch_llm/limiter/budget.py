"""Money: what a run may spend, inside one process.

Belongs here: holding, settling, the cap. Not here: prices (pricing.py), stopping the run (the engine).
Invariant: reserved + spent never exceed the cap, as long as no bill is dearer than its hold.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import count

from batch_llm.errors import BudgetExhausted, LimiterError
from batch_llm.limiter.base import Hold

__all__ = ["LocalBudget"]

ZERO = Decimal(0)


class LocalBudget:
    """The budget of one run in one process; implements `Budget`. Exact: sums of `Decimal`, never rounded."""

    def __init__(self, cap_usd: Decimal | None, spent_usd: Decimal = ZERO) -> None:
        """``spent_usd``: what the run had spent before, so that a resumed run keeps its cap."""
        if (cap_usd is not None and cap_usd < 0) or spent_usd < 0:
            raise ValueError(f"money cannot be negative: cap {cap_usd} USD, spent {spent_usd} USD")
        self._cap_usd = cap_usd
        self._spent_usd = spent_usd
        self._reserved_usd = ZERO
        self._open: dict[int, Hold] = {}
        self._numbers = count(1)

    def hold(self, amount_usd: Decimal) -> Hold:
        """See `Budget.hold`."""
        if amount_usd < 0:
            raise ValueError(f"money cannot be negative: hold {amount_usd} USD")
        if self._cap_usd is not None and self._spent_usd + self._reserved_usd + amount_usd > self._cap_usd:
            raise BudgetExhausted(
                f"the next request could cost {amount_usd} USD, but of the budget of {self._cap_usd} USD "
                f"{self._spent_usd} are spent and {self._reserved_usd} held for requests in flight. "
                "What is paid is kept; raise budget_usd and run the same command to go on."
            )
        hold = Hold(next(self._numbers), amount_usd)
        self._open[hold.number] = hold
        self._reserved_usd += amount_usd
        return hold

    def settle(self, hold: Hold, actual_usd: Decimal | None) -> None:
        """See `Budget.settle`. A bill dearer than its hold is counted in full: the money is gone."""
        if actual_usd is not None and actual_usd < 0:
            raise ValueError(f"money cannot be negative: settle {actual_usd} USD")
        self._end(hold)
        self._spent_usd += hold.amount_usd if actual_usd is None else actual_usd

    def release(self, hold: Hold) -> None:
        """See `Budget.release`."""
        self._end(hold)

    @property
    def cap_usd(self) -> Decimal | None:
        """See `Budget.cap_usd`."""
        return self._cap_usd

    @property
    def spent_usd(self) -> Decimal:
        """See `Budget.spent_usd`."""
        return self._spent_usd

    @property
    def reserved_usd(self) -> Decimal:
        """See `Budget.reserved_usd`."""
        return self._reserved_usd

    def _end(self, hold: Hold) -> None:
        if self._open.pop(hold.number, None) != hold:
            raise LimiterError(f"hold {hold.number} was settled or released before, or belongs to another budget")
        self._reserved_usd -= hold.amount_usd
