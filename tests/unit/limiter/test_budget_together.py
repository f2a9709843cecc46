"""The budget of a run over the ledger that all processes share: others, the dead, an emptied or absent ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from decimal import Decimal

import pytest

from batch_llm.errors import BudgetExhausted, ConfigurationError, LimiterError, LimiterStoreError, LimiterUnreachable
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.ledger import user_cap
from tests.unit.limiter.budget_lab import USD, House, kill, two


@pytest.fixture
def house() -> House:
    return House()


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


@pytest.mark.parametrize("cap", [None, "1"])
async def test_what_the_dead_hold_is_free_when_nobody_works_on_the_run(house: House, cap: str | None) -> None:
    """At once, with a budget and without one; what it had sent is in its journal, and of that it is charged."""
    dead = house.budget(cap)
    await dead.__aenter__()
    await dead.hold(USD("0.5"), 0)
    await house.clock.advance(2)
    await kill(dead)
    house.journals = {0: USD("0.2")}
    assert (await house.views())["user:alice"][2] >= USD("0.5")
    await house.clock.advance(0.1)
    await house.free_dead(run="r2")
    assert (await house.views())["user:alice"][2] >= USD("0.5")  # that is another run
    await house.free_dead()
    assert await house.views() == {scope: (None, USD("0.2"), 0) for scope in await house.views()}
    assert "run:r1" not in await house.views()
    readings = house.readings
    await house.free_dead()
    assert house.readings == readings  # nobody is dead: no journal is read


async def test_who_began_since_nobody_worked_on_the_run_keeps_what_it_holds(house: House) -> None:
    """Two processes that come at the same time both find nobody there."""
    async with house.budget("1") as living:
        await living.hold(USD("0.5"), 0)
        await house.free_dead(alone_for_s=0.5)
        assert (await house.views())["run:r1"][2] >= USD("0.5") and living.reserved_usd == USD("0.5")


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


@pytest.mark.parametrize("failure", [LimiterStoreError("disk full"), LimiterUnreachable("away")])
async def test_the_last_word_that_the_ledger_does_not_take_is_no_error(house: House, failure: LimiterError) -> None:
    """What was paid is in the journals: a run that ends for whatever reason ends for that one."""
    async with house.budget("1") as budget:
        await budget.hold(USD("0.1"))
        house.ledger.failure = failure


async def test_a_ledger_that_is_away_at_the_start_is_waited_for_a_while(house: House) -> None:
    house.ledger.failure = LimiterUnreachable("away")
    opening = asyncio.create_task(house.budget("1").__aenter__())
    await house.clock.advance(8)
    house.ledger.failure = None
    await house.clock.advance(1)
    await opening.result().__aexit__(None, None, None)
    house.ledger.failure = LimiterUnreachable("away")
    opening = asyncio.create_task(house.budget("1").__aenter__())
    await house.clock.advance(11)
    with pytest.raises(LimiterUnreachable, match="away"):
        opening.result()


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
