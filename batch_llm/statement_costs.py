"""What the statements of a warehouse that bills them cost, and their sum; figures only, no text of a statement.

Belongs here: the records and a record's one-line text. Not here: what a warehouse bills (warehouse/), where the lines
are kept (journal/).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

__all__ = ["StatementCost", "WarehouseBill", "bill_of"]

_BETWEEN = "~"  # stands in no name of an operation and in no job's id; a file's or object's name may hold it
_Number = TypeVar("_Number", int, Decimal)


@dataclass(frozen=True, slots=True)
class StatementCost:
    """One statement that ran."""

    name: str  # the operation: freeze, published, promote_upsert ..
    job_id: str  # under which the warehouse knows it
    slice_number: int | None  # the slice that it was for, 0-based; None: the whole run
    billed_bytes: int | None
    slot_ms: int | None
    cost_usd: Decimal | None  # by the price that was given when it ran; None: none was

    def as_text(self) -> str:
        """One line without blanks; what is unknown is empty."""
        values: tuple[Any, ...] = (self.name, self.slice_number, self.billed_bytes, self.slot_ms)
        cost = None if self.cost_usd is None else f"{self.cost_usd:f}"
        return _BETWEEN.join("" if value is None else str(value) for value in (*values, cost, self.job_id))

    @classmethod
    def from_text(cls, text: str) -> StatementCost | None:
        """What `as_text` wrote; None for anything else, such as half a line."""
        try:
            name, number, billed, slot_ms, cost, job_id = text.split(_BETWEEN)
            usd = Decimal(cost) if cost else None
            return cls(name, job_id, _whole(number), _whole(billed), _whole(slot_ms), usd) if job_id else None
        except (ValueError, InvalidOperation):
            return None


def _whole(text: str) -> int | None:
    return int(text) if text else None


@dataclass(frozen=True, slots=True)
class WarehouseBill:
    """What some statements cost together; a sum is None when one of them is unknown."""

    statements: int
    billed_bytes: int | None
    slot_ms: int | None
    cost_usd: Decimal | None


def bill_of(costs: Iterable[StatementCost]) -> WarehouseBill | None:
    """The sum of some statements; None for none: the warehouse bills nothing, or nothing was asked of it."""
    seen = list(costs)
    if not seen:
        return None
    return WarehouseBill(
        statements=len(seen),
        billed_bytes=_sum([one.billed_bytes for one in seen], 0),
        slot_ms=_sum([one.slot_ms for one in seen], 0),
        cost_usd=_sum([one.cost_usd for one in seen], Decimal(0)),
    )


def _sum(values: list[_Number | None], start: _Number) -> _Number | None:
    total = start
    for value in values:
        if value is None:
            return None
        total += value
    return total
