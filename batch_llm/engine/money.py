"""The money of the calls: what is set aside before each one, given back, and told when much of it is gone.

Belongs here: the dearest possible bill of a call, its hold, the note of the intent. Not here: the caps (limiter), what
an answer cost (rows.py), which row goes where (pipeline.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from batch_llm.engine.context import longest_answer, most_input
from batch_llm.engine.events import BudgetMark
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.route import Route
from batch_llm.engine.work import Work
from batch_llm.errors import BudgetExhausted, JournalError
from batch_llm.journal.base import HELD_USD, EntryKind
from batch_llm.limiter.base import Budget, Hold
from batch_llm.pricing import usd_of_nano

__all__ = ["Money", "held"]

BUDGET_MARKS = (50, 80, 100)


def held(hold: Hold) -> dict[str, str]:
    """What the journal notes of it; nothing where no price is known."""
    return {HELD_USD: str(hold.amount_usd)} if hold.amount_nano else {}


class Money:
    """What one pipeline sets aside."""

    def __init__(self, parts: JobParts, calling: Calling, budget: Budget, routes: Sequence[Route]) -> None:
        """``budget`` knows what the run spent before."""
        self._parts = parts
        self._tell = calling.tell
        self._budget = budget
        self._routes = routes
        self._others = {each.declared.job.model: each for each in parts.fallbacks}
        self._begun: set[int] = set()  # slices that the budget knows
        cap = budget.cap_usd  # what was spent before is no news
        self._marked = _mark(budget.spent_usd * 100 / cap) if cap else 0
        self._late: Hold | None = None  # came when the limit's turn was over; for whichever row goes next
        self._waiting = 0  # rows that wait for money

    @property
    def is_waited_for(self) -> bool:
        """Whether a row waits for money that others have set aside."""
        return self._waiting > 0

    def note_sent(self, work: Work, hold: Hold) -> None:
        """Where money is capped, the intent is in the journal before the call."""
        if not self._budget.is_capped:
            return
        try:
            work.note(EntryKind.SENT, detail={HELD_USD: str(hold.amount_usd)})
        except JournalError:
            self._budget.release(hold)
            raise

    def hold_now(self, work: Work) -> Hold | None:
        """The dearest bill set aside at once, where the allowance has room for it."""
        self.release_late()  # this row has its turn now: no other one comes sooner
        number = work.slice_work.number
        if number not in self._begun:
            self._begun.add(number)
            self._budget.begin(number, work.slice_work.rows.spent_usd)
        return self._budget.hold_now(self._dearest_nano(work), number)

    async def hold(self, work: Work) -> Hold:
        """The same, when money came back: see `Budget.hold`."""
        nano = self._dearest_nano(work)
        self._waiting += 1
        try:
            return await self._budget.hold(None if nano is None else usd_of_nano(nano), work.slice_work.number)
        except BudgetExhausted as error:
            if nano is not None:
                raise
            model = self._parts_of(work).declared.job.model
            raise BudgetExhausted(f"{model}: {error}", of_run=False) from error
        finally:
            self._waiting -= 1

    def keep(self, hold: Hold) -> None:
        """It came too late for its call. Kept for the next one, unless a row waits for it: then that has it."""
        self.release_late()
        if self._waiting:
            self._budget.release(hold)
        else:
            self._late = hold

    def release_late(self) -> None:
        """No row goes next, or this one takes what it needs itself."""
        if self._late is not None:
            self._budget.release(self._late)
            self._late = None

    def release(self, hold: Hold) -> None:
        """The call that it was set aside for is not made."""
        self._budget.release(hold)

    def tell_marks(self) -> None:
        """Money was spent: say so when it is much of the cap."""
        cap = self._budget.cap_usd
        if cap is None:
            return
        self._tell_up_to(self._budget.spent_usd * 100 / cap, cap)

    def tell_used_up(self) -> None:
        """What is left of the cap does not pay for the next row: none of it can be used."""
        cap = self._budget.cap_usd
        if cap is not None:
            self._tell_up_to(Decimal(BUDGET_MARKS[-1]), cap)

    def _tell_up_to(self, percent: Decimal, cap_usd: Decimal) -> None:
        """Of several marks that are passed at once, the highest."""
        mark = _mark(percent)
        if mark > self._marked:
            self._marked = mark
            self._tell(BudgetMark(mark, self._budget.spent_usd, cap_usd))

    def _parts_of(self, work: Work) -> JobParts:
        return self._parts if work.fallback is None else self._others[work.fallback]

    def _dearest_nano(self, work: Work) -> int | None:
        """The dearest bill, whichever pool of the model that the row asks it goes to; None: a price is unknown."""
        parts = self._parts_of(work)
        if parts.price is None:
            return None
        size_bytes, texts = work.input_bytes + work.image_tokens, work.text_count
        input_tokens = most_input(parts, work.cost.input_tokens, size_bytes, texts)
        longest = longest_answer(parts, work.cost)
        if len(self._routes) == 1:
            return parts.price.cost_nano(input_tokens, longest)
        pools = [route.pool for route in self._routes if route.fallback == work.fallback]
        return max(pool.price.cost_nano(input_tokens, longest) for pool in pools if pool.price is not None)


def _mark(percent: Decimal) -> int:
    """The highest mark that is reached; 0: none."""
    return max((mark for mark in BUDGET_MARKS if mark <= percent), default=0)
