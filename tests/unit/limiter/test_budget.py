"""The budget of a run over the ledger that all processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from batch_llm.clock import ManualClock
from batch_llm.errors import BudgetExhausted, ConfigurationError, LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter.base import Hold
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.ledger import DAY_CAP, SETTLING_S, LedgerCall, LedgerReply, user_cap, user_day_cap

USD = Decimal


class Watched:
    """A ledger that counts calls and can be out of reach."""

    def __init__(self, clock: ManualClock, settling_s: float = 0.0) -> None:
        self.inner = InProcessLedger(clock, settling_s=settling_s)
        self.calls: list[LedgerCall] = []
        self.failure: LimiterError | None = None
        self.answer: asyncio.Event | None = None  # answers come when it is set

    async def call(self, call: LedgerCall) -> LedgerReply:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            await self.answer.wait()
        return await self.inner.call(call)

    async def set_caps(self, caps: Mapping[str, Decimal | None]) -> None:
        await self.inner.set_caps(caps)

    async def view(self) -> Any:
        return await self.inner.view()

    async def aclose(self) -> None:
        await self.inner.aclose()


class House:
    """Budgets of one or more processes over one ledger, and the journals of their run."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ledger = Watched(self.clock)
        self.journals: dict[int, Decimal] = {}
        self.readings = 0

    def budget(self, cap: str | None, *, user: str = "alice", run: str = "r1") -> LedgerBudget:
        async def read(but_for: AbstractSet[int]) -> dict[int, Decimal]:
            self.readings += 1
            return {number: usd for number, usd in self.journals.items() if number not in but_for}

        account = Account(run, user, None if cap is None else USD(cap))
        return LedgerBudget(self.ledger, account, read, self.clock)

    def empty(self) -> None:
        """Everything is forgotten."""
        self.clock._now += 0.001
        self.ledger.inner = InProcessLedger(self.clock, settling_s=SETTLING_S)

    async def held(self, task: asyncio.Task[Hold], within_s: float = 2.0) -> Hold:
        """The hold, when it comes within this time."""
        await self.clock.advance(within_s)
        assert task.done(), "still waiting"
        return task.result()

    async def views(self) -> dict[str, tuple[Decimal | None, Decimal, Decimal]]:
        views = await self.ledger.view()
        return {view.scope: (view.cap_usd, view.spent_usd, view.reserved_usd) for view in views}


@pytest.fixture
def house() -> House:
    return House()


async def test_a_hold_that_does_not_fit_is_refused_with_the_figures_and_changes_nothing(house: House) -> None:
    house.journals = {0: USD("24.90")}
    async with house.budget("25") as budget:
        budget.begin(1, USD(0))
        first = await budget.hold(USD("0.06"), 1)
        with pytest.raises(
            BudgetExhausted,
            match=r"0\.11 USD, but of the budget, 25 USD, 24\.9 are spent and 0\.06 held .* raise budget_usd",
        ):
            await budget.hold(USD("0.11"), 1)
        assert budget.reserved_usd == USD("0.06")
        await budget.hold(USD("0.04"), 1)  # exactly the cap
        budget.release(first)


async def test_an_unknown_outcome_counts_as_spent_in_full(house: House) -> None:
    async with house.budget("1") as budget:
        budget.settle(await budget.hold(USD("0.7")), None)
        assert (budget.spent_usd, budget.reserved_usd) == (USD("0.7"), 0)


async def test_a_release_gives_all_of_it_back(house: House) -> None:
    async with house.budget("1") as budget:
        budget.release(await budget.hold(USD(1)))
        assert (budget.spent_usd, budget.reserved_usd) == (0, 0)
        budget.release(await budget.hold(USD(1)))


async def test_a_bill_dearer_than_its_hold_is_not_hidden(house: House) -> None:
    async with house.budget("1") as budget:
        budget.settle(await budget.hold(USD("0.5")), USD(2))
        assert budget.spent_usd == 2
        with pytest.raises(BudgetExhausted, match="2 are spent"):
            await budget.hold(USD("0.000000001"))


async def test_without_a_cap_everything_fits_and_is_counted(house: House) -> None:
    async with house.budget(None) as budget:
        budget.settle(await budget.hold(USD(10**9)), USD(1))
        assert (budget.cap_usd, budget.is_capped, budget.spent_usd) == (None, False, 1)


async def test_a_hold_ends_once(house: House) -> None:
    async with house.budget("1") as budget:
        hold = await budget.hold(USD("0.5"))
        budget.settle(hold, USD("0.1"))
        for end in (
            lambda: budget.settle(hold, None),
            lambda: budget.release(hold),
            lambda: budget.release(Hold(9, hold.amount_usd)),
        ):
            with pytest.raises(LimiterError, match="settled or released before"):
                end()
        assert (budget.spent_usd, budget.reserved_usd) == (USD("0.1"), 0)


async def test_negative_money_and_caps_that_cannot_be_kept_are_refused(house: House) -> None:
    async with house.budget(None) as budget:
        with pytest.raises(ValueError, match="money cannot be negative"):
            await budget.hold(USD(-1))
        hold = await budget.hold(USD(1))
        with pytest.raises(ValueError, match="money cannot be negative"):
            budget.settle(hold, USD(-1))
    with pytest.raises(ConfigurationError, match="budget_usd is -1"):
        house.budget("-1")
    with pytest.raises(ConfigurationError, match=r"budget_usd is 1E\+7 USD; the largest that can be kept is 9007199"):
        house.budget("1E+7")


async def test_fractions_below_a_nano_dollar_are_never_lost_in_favour_of_the_spender(house: House) -> None:
    """1,000 holds of 1.5 nano-dollars do not fit under a cap of 1,999.9: it is 1,999, and each takes 2."""
    async with house.budget("0.0000019999") as budget:
        for hold in [await budget.hold(USD("0.0000000015")) for _ in range(999)]:
            budget.settle(hold, USD("0.000000002"))
        with pytest.raises(BudgetExhausted, match=r"0\.000001998 are spent"):
            await budget.hold(USD("0.0000000015"))


@asynccontextmanager
async def two(house: House, cap: str) -> AsyncIterator[tuple[LedgerBudget, LedgerBudget]]:
    async with house.budget(cap) as first, house.budget(cap) as second:
        first.begin(0, house.journals.get(0, USD(0)))
        second.begin(1, house.journals.get(1, USD(0)))
        yield first, second


async def test_two_processes_share_one_cap(house: House) -> None:
    async with two(house, "1") as (first, second):
        mine = await first.hold(USD("0.6"), 0)
        waiting = asyncio.create_task(second.hold(USD("0.6"), 1))
        await house.clock.advance(5)
        assert not waiting.done()  # the other's request may cost less
        first.settle(mine, USD("0.3"))
        theirs = await house.held(waiting)
        assert (first.spent_usd, second.reserved_usd) == (USD("0.3"), USD("0.6"))
        second.settle(theirs, USD("0.6"))
        await house.clock.advance(2)
        with pytest.raises(BudgetExhausted, match=r"0\.9 are spent"):
            await first.hold(USD("0.2"), 0)


async def test_two_waiting_processes_do_not_wait_for_each_other_for_ever(house: House) -> None:
    """Neither holds anything, both have some allowance: one of them gets the rest."""
    async with two(house, "1") as (first, second):
        for budget, number in ((first, 0), (second, 1)):
            budget.release(await budget.hold(USD("0.001"), number))
        tasks = [asyncio.create_task(budget.hold(USD("0.99"), n)) for n, budget in enumerate((first, second))]
        await house.clock.advance(0.6)
        done = [task for task in tasks if task.done()]
        assert len(done) == 1 and done[0].result()
        (waiting,) = [task for task in tasks if not task.done()]
        waiting.cancel()


async def test_money_at_the_cap_is_not_stuck_in_an_idle_process(house: House) -> None:
    """What one process booked ahead comes back within two seconds when another needs it."""
    async with two(house, "1") as (first, second):
        held = [await first.hold(USD("0.001"), 0)]
        assert (await house.views())["run:r1"][2] > USD("0.05")  # it booked ahead
        waiting = asyncio.create_task(second.hold(USD("0.999"), 1))
        await house.held(waiting)
        assert held


async def test_an_allowance_saves_calls(house: House) -> None:
    async with house.budget("100") as budget:
        before = len(house.ledger.calls)
        for _ in range(640):
            budget.settle(await budget.hold(USD("0.01")), USD("0.001"))
        assert len(house.ledger.calls) - before <= 3


async def test_an_idle_process_hands_its_allowance_back(house: House) -> None:
    async with house.budget("100") as budget:
        hold = await budget.hold(USD("0.01"))
        await house.clock.advance(3)
        assert (await house.views())["run:r1"] == (100, 0, USD("0.01"))
        budget.settle(hold, USD("0.001"))
        await house.clock.advance(3)
        assert (await house.views())["run:r1"] == (100, USD("0.001"), 0)
        calls = len(house.ledger.calls)
        await house.clock.advance(60)
        assert len(house.ledger.calls) == calls  # and has nothing more to say


async def test_a_closed_budget_leaves_nothing_reserved_and_everything_reported(house: House) -> None:
    async with house.budget("100") as budget:
        await budget.hold(USD("0.5"))  # never settled: its outcome is unknown
        budget.settle(await budget.hold(USD("0.01")), USD("0.001"))
    assert (await house.views())["user:alice"] == (None, USD("0.501"), 0)


async def test_a_resumed_run_counts_what_the_journals_say(house: House) -> None:
    house.journals = {0: USD("0.4"), 1: USD("0.3")}
    async with house.budget("1") as budget:
        assert budget.spent_usd == USD("0.7")
        budget.begin(0, USD("0.4"))
        with pytest.raises(BudgetExhausted, match=r"0\.7 are spent"):
            await budget.hold(USD("0.4"), 0)
        budget.settle(await budget.hold(USD("0.3"), 0), USD("0.2"))
        assert budget.spent_usd == USD("0.9")
    views = await house.views()
    assert views["user:alice"][1] == USD("0.2")  # the day's spending is what was spent today


@pytest.mark.parametrize(
    ("cap", "message"),
    [
        (user_cap("alice"), "of what user alice may spend in total, 1 USD, 0.9 are spent"),
        (user_day_cap("alice"), r"of what user alice may spend per day .*wait for the next day or raise that cap"),
        (DAY_CAP, "of what everybody together may spend per day"),
    ],
)
async def test_caps_set_by_people_bind_all_runs(house: House, cap: str, message: str) -> None:
    await house.ledger.set_caps({cap: USD(1)})
    async with house.budget(None, run="r1") as first, house.budget("100", run="r2") as second:
        first.settle(await first.hold(USD("0.9")), USD("0.9"))
        assert first.is_capped
        await house.clock.advance(1)
        with pytest.raises(BudgetExhausted, match=message):
            await second.hold(USD("0.2"))
        await house.ledger.set_caps({cap: None})
        assert await second.hold(USD("0.2"))


async def test_a_cap_set_while_a_run_works_binds_within_a_second(house: House) -> None:
    async with house.budget(None) as budget:
        held = await budget.hold(USD("0.9"))
        await house.ledger.set_caps({user_cap("alice"): USD(1)})
        await house.clock.advance(1)
        assert budget.is_capped
        budget.settle(held, None)
        with pytest.raises(BudgetExhausted):
            await budget.hold(USD("0.2"))


async def test_a_new_day_has_its_own_cap(house: House) -> None:
    await house.ledger.set_caps({user_day_cap("alice"): USD(1)})
    async with house.budget(None) as budget:
        budget.settle(await budget.hold(USD(1)), USD(1))
        with pytest.raises(BudgetExhausted):
            await budget.hold(USD("0.1"))
        house.clock._now += 86_400  # nobody need wake up in between
        await house.clock.advance(1)
        assert await budget.hold(USD(1))


async def test_a_dead_process_gives_its_allowance_back_after_its_journals_were_read(house: House) -> None:
    """Its request in flight is in its journal and counts in full; nothing else of its reserve is lost."""
    dead = house.budget("1")
    await dead.__aenter__()
    await dead.hold(USD("0.5"), 0)
    await kill(dead)
    house.journals = {0: USD("0.5")}
    async with house.budget("1") as budget:
        budget.begin(0, USD("0.5"))
        waiting = asyncio.create_task(budget.hold(USD("0.5"), 0))
        await house.clock.advance(20)
        assert not waiting.done()  # nobody knows yet that it is dead
        await house.clock.advance(20)
        assert waiting.done() and waiting.result()
        assert budget.spent_usd == USD("0.5")
    assert (await house.views())["user:alice"] == (None, 1, 0)


async def test_what_a_process_held_that_died_for_good_counts_as_spent(house: House) -> None:
    """Nobody resumes its run; its user's money is not blocked for ever, and not free either."""
    await house.ledger.set_caps({user_cap("alice"): USD(10)})
    dead = house.budget("100")
    await dead.__aenter__()
    await dead.hold(USD("0.25"), 0)
    await kill(dead)
    await house.clock.advance(3_700)
    async with house.budget(None, run="r2"):
        _, spent, reserved = (await house.views())["user:alice"]
        assert spent > USD("0.25") and not reserved  # all that it could have sent
    house.journals = {0: USD("0.25")}
    async with house.budget("1"):  # resumed after all: its journals say exactly how much it was
        assert (await house.views())["user:alice"] == (10, USD("0.25"), 0)


async def test_what_only_the_ledger_knows_stays_counted(house: House) -> None:
    """Without a cap the journal does not say what a request of unknown outcome may have cost; the ledger was told."""
    async with house.budget(None) as first:
        first.settle(await first.hold(USD("0.5")), None)
    async with house.budget(None) as second:
        second.begin(0, USD(0))
        second.settle(await second.hold(USD("0.3")), USD("0.3"))
    assert (await house.views())["user:alice"][1] == USD("0.8")


async def test_a_slice_at_work_elsewhere_counts_as_its_process_says(house: House) -> None:
    """Its journal holds requests in flight in full; who reads it does not take them for spent."""
    async with house.budget("1") as first:
        hold = await first.hold(USD("0.5"), 0)
        house.journals = {0: USD("0.5")}
        async with house.budget("1") as second:
            assert second.spent_usd == 0
            first.settle(hold, USD("0.1"))
            await house.clock.advance(1)
            second.begin(1, USD(0))
            await house.held(asyncio.create_task(second.hold(USD("0.9"), 1)))
            assert second.spent_usd == USD("0.1")


async def test_journals_read_before_a_process_reported_are_no_news(house: House) -> None:
    """While the journals were read, the process at work ended: its own last word counts, not the earlier reading."""
    first = house.budget("1")
    await first.__aenter__()
    hold = await first.hold(USD("0.5"), 0)

    async def read(but_for: AbstractSet[int]) -> dict[int, Decimal]:
        await house.clock.advance(1)
        first.settle(hold, USD("0.1"))
        await first.__aexit__(None, None, None)
        return {0: USD("0.5")}

    async with LedgerBudget(house.ledger, Account("r1", "alice", USD(1)), read, house.clock) as second:
        assert second.spent_usd == USD("0.1")


async def test_an_emptied_ledger_learns_everything_again_before_it_promises(house: House) -> None:
    async with two(house, "1") as (first, second):
        first.settle(await first.hold(USD("0.4"), 0), USD("0.4"))
        held = await first.hold(USD("0.3"), 0)
        house.journals = {0: USD("0.7")}
        house.empty()
        waiting = asyncio.create_task(second.hold(USD("0.2"), 1))
        await house.clock.advance(2.5)
        assert not waiting.done()
        await house.held(waiting)
        assert (await house.views())["run:r1"] == (1, USD("0.4"), USD("0.5"))
        first.settle(held, USD("0.1"))
        await house.clock.advance(1)
        assert (await house.views())["run:r1"][:2] == (1, USD("0.5"))


async def test_an_allowance_that_the_ledger_forgot_is_not_given_to_others_while_it_is_used(house: House) -> None:
    """The emptied ledger promises nothing before every process alive has spoken, or stopped using what it had."""
    async with two(house, "1") as (first, second):
        mine = [await first.hold(USD("0.01"), 0)]
        await house.clock.advance(0.5)
        house.empty()
        waiting = asyncio.create_task(second.hold(USD("0.95"), 1))
        await house.clock.advance(0.4)
        mine += [await first.hold(USD("0.01"), 0) for _ in range(9)]  # from the allowance, without asking
        await house.clock.advance(10)
        assert not waiting.done()
        for hold in mine:
            first.settle(hold, USD(0))
        await house.held(waiting)


async def test_an_allowance_is_not_touched_when_the_ledger_was_silent_for_long(house: House) -> None:
    """It may have been emptied meanwhile, and the money promised to others."""
    async with two(house, "1") as (first, second):
        first.release(await first.hold(USD("0.01"), 0))
        await kill(first)  # it says nothing any more, but goes on: its machine is very busy
        await house.clock.advance(1)
        house.empty()
        theirs = await house.held(asyncio.create_task(second.hold(USD("0.95"), 1)), 5)
        late = asyncio.create_task(first.hold(USD("0.1"), 0))
        await house.clock.advance(5)
        assert not late.done()
        second.settle(theirs, USD(0))
        await house.held(late)


async def test_a_process_that_was_taken_for_dead_has_no_allowance_any_more(house: House) -> None:
    async with two(house, "1") as (first, second):
        in_flight = await first.hold(USD("0.01"), 0)
        await kill(first)  # it sleeps
        house.journals = {0: USD("0.01")}
        await house.clock.advance(40)
        second.release(await house.held(asyncio.create_task(second.hold(USD("0.98"), 1))))
        await house.held(asyncio.create_task(second.hold(USD("0.98"), 1)))
        late = asyncio.create_task(first.hold(USD("0.1"), 0))  # it wakes up
        await house.clock.advance(5)
        assert not late.done()
        first.settle(in_flight, USD(0))
        assert first.reserved_usd == 0
        late.cancel()
        await asyncio.wait({late})


async def test_what_is_being_given_back_is_not_used(house: House) -> None:
    """While a call is on its way that gives the allowance back, a hold asks for its own."""
    async with house.budget("1") as budget:
        budget.release(await budget.hold(USD("0.01")))
        await house.clock.advance(1.9)
        answer = house.ledger.answer = asyncio.Event()
        await house.clock.advance(0.2)  # the call is on its way
        late = asyncio.create_task(budget.hold(USD("0.01")))
        await house.clock.advance(0.2)
        was_used = late.done()
        answer.set()
        await house.held(late)
        assert not was_used


async def test_a_capped_run_waits_while_the_ledger_is_out_of_reach(house: House) -> None:
    async with house.budget("1") as budget:
        budget.release(await budget.hold(USD("0.1")))
        house.ledger.failure = LimiterUnreachable("away")
        await house.clock.advance(2)
        waiting = asyncio.create_task(budget.hold(USD("0.1")))
        await house.clock.advance(300)
        assert not waiting.done()
        house.ledger.failure = None
        await house.held(waiting)


async def test_an_uncapped_run_goes_on_for_a_minute_without_the_ledger(house: House) -> None:
    async with house.budget(None) as budget:
        budget.release(await budget.hold(USD("0.1")))
        house.ledger.failure = LimiterUnreachable("away")
        await house.clock.advance(50)
        calls = len(house.ledger.calls)
        for _ in range(100):
            budget.settle(await budget.hold(USD("0.1")), USD("0.05"))
        assert len(house.ledger.calls) <= calls + 1  # a row does not wait for an answer that does not come
        await house.clock.advance(20)
        waiting = asyncio.create_task(budget.hold(USD("0.1")))
        await house.clock.advance(20)
        assert not waiting.done()
        house.ledger.failure = None
        await house.held(waiting)
        assert (await house.views())["user:alice"][1] == 5


async def test_a_store_that_answers_with_an_error_is_told(house: House) -> None:
    async with house.budget("1") as budget:
        house.ledger.failure = LimiterStoreError("out of memory")
        with pytest.raises(LimiterStoreError, match="out of memory"):
            await budget.hold(USD("0.1"))
        house.ledger.failure = None
        assert await budget.hold(USD("0.1"))  # it may pass


async def test_a_ledger_that_cannot_be_reached_at_the_start_is_told_at_once(house: House) -> None:
    house.ledger.failure = LimiterUnreachable("away")
    with pytest.raises(LimiterUnreachable, match="away"):
        await house.budget("1").__aenter__()


async def test_journals_that_cannot_be_read_again_stop_the_run(house: House) -> None:
    async with two(house, "1") as (first, _):
        first.release(await first.hold(USD("0.1"), 0))

        async def broken(but_for: AbstractSet[int]) -> dict[int, Decimal]:
            raise ConfigurationError("the journal is gone")

        first._read_spent = broken
        house.empty()
        waiting = asyncio.create_task(first.hold(USD("0.2"), 0))
        await house.clock.advance(5)
        with pytest.raises(ConfigurationError, match="the journal is gone"):
            waiting.result()


async def test_without_any_cap_rows_cost_no_calls(house: House) -> None:
    async with house.budget(None) as budget:
        before = len(house.ledger.calls)
        for _ in range(10_000):
            budget.settle(await budget.hold(USD("0.01")), USD("0.001"))
        assert len(house.ledger.calls) - before == 1
        await house.clock.advance(1)
        assert (await house.views())["user:alice"][1] == 10
    assert house.readings == 0


async def test_holds_are_covered_in_the_order_they_came(house: House) -> None:
    """A large hold is not overtaken for ever by small ones."""
    async with house.budget("1") as budget:
        first = await budget.hold(USD("0.6"))
        large = asyncio.create_task(budget.hold(USD("0.9")))
        await house.clock.advance(1)
        small = asyncio.create_task(budget.hold(USD("0.1")))
        await house.clock.advance(1)
        assert not small.done()
        budget.release(first)
        await house.clock.advance(1)
        assert large.done() and small.done()


async def kill(budget: LedgerBudget) -> None:
    """As `kill -9` does: nothing is said any more."""
    for task in (budget._reporter, budget._reader):
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
