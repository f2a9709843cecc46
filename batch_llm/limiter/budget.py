"""Money: what a run may spend, together with every process that works on it, its user and its day.

Belongs here: when money is taken from an allowance, when the ledger is called, when nothing is left. Not here: what
the ledger decides (ledger.py), prices (pricing.py), stopping the run (the engine).
Invariant: over all processes, reserved + spent never exceed a cap, as long as no bill is dearer than its hold.

A process books an allowance in the ledger and takes its holds from it without asking. Once a second, while there is
something to say, it reports what was spent and gives back what it does not need. What it last heard is good for
`FRESH_S`: an allowance that the ledger may have forgotten meanwhile is not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from math import ceil
from types import TracebackType
from typing import Self
from uuid import uuid4

from batch_llm.clock import Clock
from batch_llm.errors import BudgetExhausted, LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter.base import Hold
from batch_llm.limiter.books import Books
from batch_llm.limiter.ledger import (
    BEYOND_ANY_CAP,
    FRESH_S,
    Denial,
    Ledger,
    LedgerCall,
    LedgerReply,
    nano_cap,
    nano_up,
    usd_of,
)

__all__ = ["Account", "JournalReader", "LedgerBudget", "free_dead"]

REPORT_S = 1.0
POLL_S = 0.25  # how often a hold asks again that waits for other processes
PATIENCE_S = 10.0  # at the start, for a ledger that is being restarted
BLIND_S = 60.0  # without any cap, and without the ledger
CHUNK_HOLDS = 64  # an allowance is booked for so many holds like the one that asks for it

JournalReader = Callable[[AbstractSet[int]], Awaitable[Mapping[int, Decimal]]]
"""Reads from the journals what each slice has cost, unknown outcomes in full, except the slices named."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money is spent, and how much of it."""

    run_id: str
    user: str
    cap_usd: Decimal | None  # of the run


async def free_dead(
    ledger: Ledger, account: Account, read_spent: JournalReader, clock: Clock, *, alone_at_s: float
) -> None:
    """End what dead processes hold of a run's money, whose journals are read for that; nothing happens without any.

    ``alone_at_s``: on the clock, a moment before the one when nobody worked on the run. Who began since is not touched.
    Raises `LimiterUnreachable` and `LimiterStoreError`.
    """
    call = LedgerCall(uuid4().hex, 1, 0, account.run_id, account.user, None, closing=True)
    reply = await ledger.call(call)
    # on the ledger's clock, no later than that moment: its answer may have been long on its way
    alone_us = reply.now_us - ceil((clock.monotonic() - alone_at_s) * 1_000_000)
    call = replace(call, sequence=2, epoch=reply.epoch, alone_us=alone_us)
    reply = await ledger.call(call)
    if reply.reseed:
        seed = _nano(await read_spent(frozenset()))
        await ledger.call(replace(call, sequence=3, epoch=reply.epoch, seed=seed, as_of_us=reply.now_us))


@dataclass(frozen=True, slots=True)
class _Asking:
    """What a call is made for."""

    needed_nano: int = 0  # of free allowance; less is of no use
    want_nano: int = 0  # beyond that
    keep_nano: int | None = None  # of the free allowance, at most; None: all
    seed: tuple[tuple[int, int], ...] = ()
    as_of_us: int = 0
    closing: bool = False


class LedgerBudget:
    """The budget of one run in one process, over the ledger that all share; implements `Budget`.

    ``async with`` opens it (reads the journals, tells the ledger) and closes it (reports, gives the allowance back).
    Opening raises `LimiterUnreachable` (after `PATIENCE_S`) and `LimiterStoreError`.
    """

    def __init__(self, ledger: Ledger, account: Account, read_spent: JournalReader, clock: Clock) -> None:
        """``ledger`` stays open when this is closed. Raises `ConfigurationError` for a cap that cannot be kept."""
        self._ledger = ledger
        self._account = account
        self._cap_nano = None if account.cap_usd is None else nano_cap(account.cap_usd, "budget_usd")
        self._read_spent = read_spent
        self._clock = clock
        self._books = Books()
        self._writer = uuid4().hex
        self._sequences = count(1)
        self._said = LedgerCall(self._writer, 0, 0, account.run_id, account.user, self._cap_nano)
        self._heard: LedgerReply | None = None
        self._heard_at_s = 0.0  # when the call was sent that was answered last
        self._failing: LimiterError | None = None  # how the last call failed
        self._capped_once = account.cap_usd is not None
        self._read_usd: Mapping[int, Decimal] = {}
        self._taken = False  # a hold was taken since the last report
        self._usual_nano = 0
        self._line = asyncio.Lock()  # one call at a time
        self._turn = asyncio.Lock()  # holds that wait, in order
        self._wake = asyncio.Event()
        self._reporter: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        end_s = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                await self._open()
            except LimiterUnreachable:
                if self._clock.monotonic() >= end_s:
                    raise
                await self._clock.sleep(POLL_S)
                continue
            self._reporter = asyncio.create_task(self._report_each_second())
            return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._reporter, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for hold in self._books.open_holds:  # whoever had it is gone: whether it is billed is not known
            self._books.settle(hold, None)
        # the journals know it too; the allowance ends when they are read
        with suppress(LimiterUnreachable, LimiterStoreError):
            await self._exchange(_Asking(closing=True))

    # -- Budget ----------------------------------------------------------------------------------------------------

    def begin(self, slice_number: int, spent_usd: Decimal) -> None:
        """See `Budget.begin`."""
        self._books.begin(slice_number, spent_usd)

    def hold_now(self, amount_nano: int | None, slice_number: int = 0) -> Hold | None:
        """See `Budget.hold_now`."""
        needed_nano = BEYOND_ANY_CAP if amount_nano is None else amount_nano
        if needed_nano < 0:
            raise ValueError(f"money cannot be negative: hold {usd_of(needed_nano)} USD")
        if not self._turn.locked() and self._may_take(needed_nano, slice_number):
            return self._take(amount_nano or 0, slice_number)
        return None

    async def hold(self, amount_usd: Decimal | None, slice_number: int = 0) -> Hold:
        """See `Budget.hold`. Raises `LimiterStoreError` as well."""
        self._books.begin(slice_number, self._read_usd.get(slice_number, Decimal(0)))
        nano = None if amount_usd is None else nano_up(amount_usd)
        held = self.hold_now(nano, slice_number)
        if held is not None:
            return held
        async with self._turn:
            await self._cover(BEYOND_ANY_CAP if nano is None else nano, slice_number)
            return self._take(nano or 0, slice_number)

    def settle(self, hold: Hold, actual_usd: Decimal | None) -> None:
        """See `Budget.settle`. A bill dearer than its hold is counted in full: the money is gone."""
        self.settle_nano(hold, None if actual_usd is None else nano_up(actual_usd))

    def settle_nano(self, hold: Hold, actual_nano: int | None) -> None:
        """See `Budget.settle_nano`."""
        if actual_nano is not None and actual_nano < 0:
            raise ValueError(f"money cannot be negative: settle {usd_of(actual_nano)} USD")
        self._books.settle(hold, actual_nano)
        self._wake.set()

    def release(self, hold: Hold) -> None:
        """See `Budget.release`."""
        self._books.release(hold)
        self._wake.set()

    @property
    def cap_usd(self) -> Decimal | None:
        """See `Budget.cap_usd`."""
        return self._account.cap_usd

    @property
    def is_capped(self) -> bool:
        """See `Budget.is_capped`."""
        return self._capped_once

    @property
    def spent_usd(self) -> Decimal:
        """See `Budget.spent_usd`."""
        everywhere = 0 if self._heard is None else self._heard.run_spent_nano
        return usd_of(everywhere - self._books.registered_nano + self._books.own_nano)

    @property
    def reserved_usd(self) -> Decimal:
        """See `Budget.reserved_usd`."""
        return usd_of(self._books.held_nano)

    # -- holding ---------------------------------------------------------------------------------------------------

    def _may_take(self, nano: int, number: int) -> bool:
        """Whether this may be held without asking the ledger."""
        if self._heard is None or not self._books.is_registered(number):
            return False
        if not self._heard.capped:
            return self._is_fresh() or self._may_go_on_blind()
        return self._is_fresh() and self._books.free_nano >= nano

    def _is_fresh(self) -> bool:
        return self._failing is None and self._clock.monotonic() - self._heard_at_s <= FRESH_S

    def _may_go_on_blind(self) -> bool:
        """The ledger does not answer, and as far as anybody knew, no cap applies."""
        if self._heard is None or self._heard.capped or not isinstance(self._failing, LimiterUnreachable):
            return False
        return self._clock.monotonic() - self._heard_at_s <= BLIND_S

    def _take(self, nano: int, number: int) -> Hold:
        self._taken = True
        self._usual_nano = nano
        return self._books.take(nano, number)

    async def _cover(self, nano: int, number: int) -> None:
        """Until the allowance has room for this; the turn is ours. Raises `BudgetExhausted`, `LimiterStoreError`."""
        while not self._may_take(nano, number):
            if self._reader is not None and self._reader.done():
                self._reader.result()  # the journals could not be read: no money can be freed
            try:
                reply = await self._exchange(_Asking(nano, 0 if nano == BEYOND_ANY_CAP else CHUNK_HOLDS * nano))
            except LimiterUnreachable:
                if self._may_go_on_blind():
                    return
                await self._wait_for_money(None)
                continue
            self._read_if_asked(reply)
            if reply.denial is None:
                if not reply.capped or self._books.free_nano >= nano:
                    return
                continue  # the ledger had booked less for us than we knew of
            self._judge(reply.denial, nano)
            left = reply.denial.cap_nano - reply.denial.spent_nano - reply.denial.reserved_nano
            await self._wait_for_money(nano - max(0, left) if reply.denial.kind else None)

    def _judge(self, denial: Denial, nano: int) -> None:
        """Raise when no money can come back that would do."""
        if not denial.kind:
            return
        too_little = denial.cap_nano - denial.spent_nano < nano  # even if all that is reserved came back
        if too_little or not (denial.may_come or self._said.held_nano):
            raise BudgetExhausted(_exhausted(self._account, denial, nano), of_run=denial.kind == "run")

    async def _wait_for_money(self, enough_nano: int | None) -> None:
        """Until own requests gave so much back, or none is left in flight, or it is time to ask again."""
        alarm = asyncio.ensure_future(self._clock.sleep(POLL_S))
        alarm.add_done_callback(lambda _: self._wake.set())
        waits_for_own = enough_nano is not None and self._books.held_nano > 0
        try:
            while not alarm.done():
                self._wake.clear()
                await self._wake.wait()
                if enough_nano is not None and self._books.free_nano >= enough_nano:
                    return
                if waits_for_own and not self._books.held_nano:
                    return
        finally:
            alarm.cancel()

    # -- talking to the ledger -------------------------------------------------------------------------------------

    async def _open(self) -> None:
        reply = await self._exchange(_Asking())
        read = self._cap_nano is None  # without a cap on the run, what it spent before is not asked for
        while not (read and reply.known):
            reply, read = await self._read_journals(reply.now_us), True

    async def _exchange(self, asking: _Asking) -> LedgerReply:
        """One call; a ledger with a new epoch is told everything at once."""
        async with self._line:
            reply = await self._call(asking, everything=False)
            while reply.epoch != self._said.epoch:
                reply = await self._call(asking, everything=True)
            return reply

    async def _call(self, asking: _Asking, *, everything: bool) -> LedgerReply:
        books, sent_at_s = self._books, self._clock.monotonic()
        reports = books.reports(everything=everything)
        free = max(0, books.free_nano)
        kept_free = free if asking.keep_nano is None else min(free, asking.keep_nano)
        least = max(0, asking.needed_nano - kept_free)
        self._said = call = LedgerCall(
            writer=self._writer,
            sequence=next(self._sequences),
            epoch=0 if self._heard is None else self._heard.epoch,
            run=self._account.run_id,
            user=self._account.user,
            cap_nano=self._cap_nano,
            held_nano=books.held_nano,
            kept_nano=books.held_nano + kept_free,
            least_nano=least,
            want_nano=asking.want_nano,
            reports=reports,
            seed=asking.seed,
            as_of_us=asking.as_of_us,
            closing=asking.closing,
        )
        # what the call may give back is not ours any more, whether an answer comes or not
        surely_kept = call.held_nano if least else call.kept_nano
        books.reserve_nano = min(books.reserve_nano, surely_kept + books.unreported_nano)
        try:
            reply = await self._ledger.call(call)
        except (LimiterUnreachable, LimiterStoreError) as error:
            self._failing = error
            raise
        books.reported(reports)
        books.reserve_nano = reply.reserve_nano
        self._heard, self._heard_at_s, self._failing = reply, sent_at_s, None
        self._capped_once = self._capped_once or reply.capped
        return reply

    async def _report_each_second(self) -> None:
        while True:
            await self._clock.sleep(REPORT_S)
            kept_free = 0
            if self._taken and self._heard is not None and not self._heard.starved:
                kept_free = CHUNK_HOLDS * self._usual_nano
            self._taken = False
            if not (self._books.reserve_nano or self._books.held_nano or self._books.reports(everything=False)):
                continue
            with suppress(LimiterUnreachable, LimiterStoreError):  # the next hold tries again and says so
                self._read_if_asked(await self._exchange(_Asking(keep_nano=kept_free)))

    def _read_if_asked(self, reply: LedgerReply) -> None:
        """Read the journals in the background when the ledger needs them."""
        if (reply.reseed or not reply.known) and (self._reader is None or _is_over(self._reader)):
            self._reader = asyncio.create_task(self._read_in_background(reply.now_us))

    async def _read_in_background(self, as_of_us: int) -> None:
        with suppress(LimiterUnreachable, LimiterStoreError):  # the next reply asks for it again
            await self._read_journals(as_of_us)

    async def _read_journals(self, as_of_us: int) -> LedgerReply:
        """Tell the ledger what the journals say that are read now; ``as_of_us``: the ledger's time, just before."""
        self._read_usd = await self._read_spent(self._books.slice_numbers)
        return await self._exchange(_Asking(seed=_nano(self._read_usd), as_of_us=as_of_us))


def _nano(spent_usd: Mapping[int, Decimal]) -> tuple[tuple[int, int], ...]:
    return tuple((number, nano_up(usd)) for number, usd in spent_usd.items() if usd)


def _is_over(task: asyncio.Task[None]) -> bool:
    """It ended well; one that failed is kept, for the next hold to raise."""
    return task.done() and not task.cancelled() and task.exception() is None


def _exhausted(account: Account, denial: Denial, nano: int) -> str:
    """In words; ``nano``: what was needed."""
    of, advice = {
        "user": (f"what user {account.user} may spend in total", "raise that cap"),
        "user_day": (f"what user {account.user} may spend per day (UTC)", "wait for the next day or raise that cap"),
        "day": ("what everybody together may spend per day (UTC)", "wait for the next day or raise that cap"),
    }.get(denial.kind, ("the budget", f"raise budget_usd above {usd_of(denial.spent_nano + nano):f}"))
    if nano == BEYOND_ANY_CAP:
        return (
            f"what the next request may cost is not known, for its model has no price, so a cap cannot be kept: {of}, "
            f"{usd_of(denial.cap_nano):f} USD. What is paid is kept; give `prices` to the model's pool in the "
            "providers file, or lift that cap, then run it again."
        )
    return (
        f"the next request could cost {usd_of(nano):f} USD, but of {of}, {usd_of(denial.cap_nano):f} USD, "
        f"{usd_of(denial.spent_nano):f} are spent and {usd_of(denial.reserved_nano):f} held for requests in flight. "
        f"What is paid is kept; {advice}, then run it again."
    )
