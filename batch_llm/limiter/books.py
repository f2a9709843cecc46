"""What one writer of the ledger knows of its own money.

Belongs here: open holds, what slices have cost, what is left of the allowance. Not here: talking to the ledger
(budget.py). Everything is sync and local.

    reserve (booked in the ledger for this writer) = held + unreported + free
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import count

from batch_llm.errors import LimiterError
from batch_llm.limiter.base import Hold
from batch_llm.limiter.ledger import SliceReport, nano_up

__all__ = ["Books"]


@dataclass(slots=True)
class _Slice:
    base_nano: int  # when this writer began with it
    spent_nano: int
    reported_nano: int  # what the ledger was told, and answered
    registered: bool = False  # the ledger knows that this writer works on it


class Books:
    """Holds and slices of one writer; amounts in nano-dollars, which is what bills are in."""

    def __init__(self) -> None:
        self.reserve_nano = 0  # what the ledger is known to have booked for this writer, at least
        self.held_nano = 0
        self.unreported_nano = 0
        self.registered_nano = 0  # what the ledger counts of the run for slices of this writer
        self.own_nano = 0  # the same with what is unreported
        self._open: dict[int, Hold] = {}
        self._slices: dict[int, _Slice] = {}
        self._numbers = count(1)

    @property
    def free_nano(self) -> int:
        """What is left of the allowance; below 0 after bills that were dearer than their holds."""
        return self.reserve_nano - self.held_nano - self.unreported_nano

    @property
    def slice_numbers(self) -> frozenset[int]:
        """The slices this writer works on or has worked on."""
        return frozenset(self._slices)

    @property
    def open_holds(self) -> list[Hold]:
        """Not settled and not released."""
        return list(self._open.values())

    def begin(self, number: int, spent_usd: Decimal) -> None:
        """A slice whose journal says this now; nothing happens when it was begun before."""
        if number not in self._slices:
            nano = nano_up(spent_usd)
            self._slices[number] = _Slice(nano, nano, nano)

    def is_registered(self, number: int) -> bool:
        """Whether the ledger knows that this writer works on the slice."""
        known = self._slices.get(number)
        return known is not None and known.registered

    @property
    def all_registered(self) -> bool:
        """Whether the ledger knows of every slice."""
        return all(known.registered for known in self._slices.values())

    def take(self, nano: int, number: int) -> Hold:
        """Hold this much; whether it fits was asked before."""
        hold = Hold(next(self._numbers), nano, number)
        self._open[hold.number] = hold
        self.held_nano += nano
        return hold

    def settle(self, hold: Hold, actual_nano: int | None) -> None:
        """The hold ends and this much is spent; None: all of it."""
        self.release(hold)
        known = self._slices[hold.slice_number]
        nano = hold.amount_nano if actual_nano is None else actual_nano
        known.spent_nano += nano
        self.own_nano += nano
        self.unreported_nano += nano

    def release(self, hold: Hold) -> None:
        """The hold ends and nothing is spent."""
        if self._open.get(hold.number) != hold:
            raise LimiterError(f"hold {hold.number} was settled or released before, or belongs to another budget")
        del self._open[hold.number]
        self.held_nano -= hold.amount_nano

    def reports(self, *, everything: bool) -> tuple[SliceReport, ...]:
        """What the ledger was not told yet, or all of it."""
        return tuple(
            SliceReport(number, known.base_nano, known.spent_nano)
            for number, known in self._slices.items()
            if everything or not known.registered or known.spent_nano != known.reported_nano
        )

    def reported(self, reports: Iterable[SliceReport]) -> None:
        """The ledger has taken these reports."""
        for report in reports:
            known = self._slices[report.number]
            self.unreported_nano -= report.spent_nano - known.reported_nano
            if known.registered:
                self.registered_nano += report.spent_nano - known.reported_nano
            else:
                self.registered_nano += report.spent_nano
                self.own_nano += known.base_nano
            known.reported_nano = report.spent_nano
            known.registered = True
