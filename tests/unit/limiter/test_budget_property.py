"""Several processes, one cap, and everything that can go wrong: the money really spent never exceeds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batch_llm.clock import ManualClock
from batch_llm.errors import BudgetExhausted, LimiterUnreachable
from batch_llm.limiter.base import Hold
from batch_llm.limiter.budget import Account, LedgerBudget, free_dead
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.ledger import FORGOTTEN_S, SETTLING_S, LedgerCall, LedgerReply, ScopeView, user_cap
from tests.search import examples

ZERO = Decimal(0)
CAPS = st.integers(1, 400).map(lambda cents: Decimal(cents) / 100)
CENTS = st.one_of(st.integers(1, 10), st.integers(1, 150)).map(lambda cents: Decimal(cents) / 100)
SLICES = 5


class Weather:
    """A ledger that can be emptied, out of reach, or do what it is told and lose the answer."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.mood = "well"
        self.empty()

    def empty(self) -> None:
        self.inner = InProcessLedger(self.clock, settling_s=SETTLING_S)

    async def call(self, call: LedgerCall) -> LedgerReply:
        await asyncio.sleep(0)  # others get on with it meanwhile
        if self.mood == "away":
            raise LimiterUnreachable("away")
        reply = await self.inner.call(call)
        await asyncio.sleep(0)
        if self.mood == "mute":
            raise LimiterUnreachable("no answer")
        return reply

    async def set_caps(self, caps: Mapping[str, Decimal | None]) -> None:
        await self.inner.set_caps(caps)

    async def view(self) -> tuple[ScopeView, ...]:
        return await self.inner.view()

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass
class Journal:
    """What a slice has really cost: settled, and sent without an outcome."""

    settled: Decimal = ZERO
    in_flight: dict[int, Decimal] = field(default_factory=dict)
    writer: Process | None = None

    @property
    def spent(self) -> Decimal:
        return self.settled + sum(self.in_flight.values(), ZERO)


@dataclass
class Process:
    """One process: its budget, the requests it sent, those that wait for money."""

    budget: LedgerBudget
    sent: list[tuple[Hold, Journal]] = field(default_factory=list)
    waiting: list[asyncio.Task[None]] = field(default_factory=list)


class Money(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.ledger = Weather(self.clock)
        self.journals = {number: Journal() for number in range(SLICES)}
        self.processes: list[Process] = []
        self.ever_emptied = False
        self.refusals: list[str] = []

    @initialize(cap=CAPS, of_user=st.booleans())
    def begin(self, cap: Decimal, of_user: bool) -> None:
        """The cap is the run's or its user's."""
        self.cap, self.of_user = cap, of_user
        if of_user:
            self.runner.run(self.ledger.set_caps({user_cap("alice"): cap}))

    def teardown(self) -> None:
        try:
            if hasattr(self, "cap"):
                self.run(self._nothing_is_lost())
        finally:
            self.runner.close()

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @property
    def really_spent(self) -> Decimal:
        return sum((journal.spent for journal in self.journals.values()), ZERO)

    @property
    def settled(self) -> Decimal:
        """As `really_spent`, but what is in flight in a living process may still cost nothing."""
        return sum((j.settled if j.writer else j.spent for j in self.journals.values()), ZERO)

    # -- what processes do -----------------------------------------------------------------------------------------

    async def read(self, but_for: AbstractSet[int]) -> dict[int, Decimal]:
        found = {number: journal.spent for number, journal in self.journals.items() if number not in but_for}
        await asyncio.sleep(0)
        return found

    def made(self) -> LedgerBudget:
        # a run whose user is capped has a cap that never binds, or none
        account = Account("r", "alice", Decimal(1000) if self.of_user else self.cap)
        return LedgerBudget(self.ledger, account, self.read, self.clock)

    @precondition(lambda self: len(self.processes) < 4)
    @rule()
    def start(self) -> None:
        async def opened() -> None:
            process = Process(self.made())
            opening = asyncio.create_task(process.budget.__aenter__())
            await self.clock.advance(0.01 if self.ledger.mood == "well" else 11)
            try:
                opening.result()
            except LimiterUnreachable:
                return
            self.processes.append(process)

        self.run(opened())

    @precondition(lambda self: self.processes)
    @rule(who=st.integers(0, 3), number=st.integers(0, SLICES - 1), amount=CENTS, times=st.sampled_from([1, 1, 2, 9]))
    def hold(self, who: int, number: int, amount: Decimal, times: int) -> None:
        process, journal = self.processes[who % len(self.processes)], self.journals[number]
        if journal.writer not in (None, process):
            return
        if journal.writer is None:
            journal.writer = process
            process.budget.begin(number, journal.spent)
            journal.settled, journal.in_flight = journal.spent, {}  # a replay takes unknown outcomes for spent

        async def hold() -> None:
            try:
                hold = await process.budget.hold(amount, number)
            except BudgetExhausted as refusal:
                self.refusals.append(str(refusal))
                # whatever is in flight may cost its whole hold, but then there is really nothing left
                assert self.ever_emptied or self.really_spent + amount > self.cap
                return
            journal.in_flight[hold.number] = amount
            process.sent.append((hold, journal))

        async def begin() -> None:
            process.waiting += [asyncio.create_task(hold()) for _ in range(times)]
            await self.clock.advance(0.01)

        self.run(begin())

    @precondition(lambda self: any(process.sent for process in self.processes))
    @rule(which=st.integers(0, 99), share=st.sampled_from([0, 10, 50, 100, None]), freed=st.booleans())
    def end(self, which: int, share: int | None, freed: bool) -> None:
        """A request comes home: with a bill, with an unknown outcome (None), or never billed."""
        sent = [(process, *each) for process in self.processes for each in process.sent]
        process, hold, journal = sent[which % len(sent)]
        process.sent.remove((hold, journal))
        held = journal.in_flight.pop(hold.number)
        if freed:
            process.budget.release(hold)
        else:
            cost = None if share is None else (held * share / 100).quantize(Decimal("0.000000001"))
            journal.settled += held if cost is None else cost
            process.budget.settle(hold, cost)
        self.run(self.clock.advance(0.01))

    @rule(duration_s=st.sampled_from([0.3, 1.0, 1.6, 4.0, 35.0]))
    def time_passes(self, duration_s: float) -> None:
        self.run(self.clock.advance(duration_s))

    @rule(mood=st.sampled_from(["well", "well", "away", "mute"]))
    def weather(self, mood: str) -> None:
        self.ledger.mood = mood

    @precondition(lambda self: not self.of_user)
    @rule()
    def the_ledger_is_emptied(self) -> None:
        """Caps that people set would be gone with it: that is another matter."""
        self.run(self.clock.advance(0.001))
        self.ledger.empty()
        self.ever_emptied = True

    @precondition(lambda self: self.processes)
    @rule(who=st.integers(0, 3), killed=st.booleans())
    def stop(self, who: int, killed: bool) -> None:
        process = self.processes.pop(who % len(self.processes))

        async def end() -> None:
            tasks = [*process.waiting, *([process.budget._reader] if killed and process.budget._reader else [])]
            if killed and process.budget._reporter:
                tasks.append(process.budget._reporter)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not killed:
                await process.budget.__aexit__(None, None, None)

        self.run(end())
        for journal in self.journals.values():
            if journal.writer is process:
                journal.writer = None

    @precondition(lambda self: not self.processes)
    @rule()
    def free_dead(self) -> None:
        """Nobody works on the run: what the dead hold is given back, and nothing of what they sent is lost."""

        async def free() -> None:
            account = Account("r", "alice", None)
            await self.clock.advance(0.001)
            freeing = free_dead(self.ledger, account, self.read, self.clock, alone_at_s=self.clock.monotonic())
            try:
                await freeing
            except LimiterUnreachable:
                return
            views = {view.scope: view for view in await self.ledger.view()}
            assert "run:r" not in views
            assert "user:alice" not in views or not views["user:alice"].reserved_usd

        self.run(free())

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def the_cap_is_kept(self) -> None:
        if hasattr(self, "cap"):
            assert self.really_spent <= self.cap

    @invariant()
    def no_task_failed(self) -> None:
        for process in self.processes:
            for task in process.waiting:
                if task.done() and not task.cancelled():
                    task.result()

    async def _nothing_is_lost(self) -> None:
        """When all is quiet, what is left can be spent, to the last cent, and no more."""
        self.ledger.mood = "well"
        await self.clock.advance(2)
        for process in self.processes:
            for task in process.waiting:
                task.cancel()
            await asyncio.gather(*process.waiting, return_exceptions=True)
            await process.budget.__aexit__(None, None, None)
        self.clock._now += FORGOTTEN_S * 2
        async with self.made() as budget:
            assert self.ever_emptied or budget.spent_usd == self.really_spent
            views = {view.scope: view for view in await self.ledger.view()}
            assert self.ever_emptied or views["user:alice"].spent_usd == self.really_spent
            left = self.cap - budget.spent_usd
            budget.begin(0, self.journals[0].spent)
            task = asyncio.create_task(budget.hold(left))
            await self.clock.advance(SETTLING_S + 1)
            assert task.done() and task.result()
            with_more = asyncio.create_task(budget.hold(Decimal("0.000000001")))
            await self.clock.advance(1)
            if left:
                assert not with_more.done()  # the first may still cost less
                with_more.cancel()
            assert isinstance(
                (await asyncio.gather(with_more, return_exceptions=True))[0],
                asyncio.CancelledError if left else BudgetExhausted,
            )


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=examples(60), stateful_step_count=60, deadline=None)
