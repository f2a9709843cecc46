"""The budget of a run, seen from one process."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from batch_llm.errors import BudgetExhausted, ConfigurationError, LimiterError
from batch_llm.limiter.base import Hold
from batch_llm.limiter.ledger import DAY_CAP, MOST_NANO, usd_of, user_cap, user_day_cap
from tests.unit.limiter.budget_lab import USD, House


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
            lambda: budget.release(Hold(9, hold.amount_nano)),
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


async def test_what_may_cost_anything_fits_where_nothing_is_capped(house: House) -> None:
    async with house.budget(None) as budget:
        budget.settle(await budget.hold(None), None)
        hold = budget.hold_now(None)
        assert hold is not None and hold.amount_nano == 0
        assert (budget.spent_usd, budget.reserved_usd) == (0, 0)


@pytest.mark.parametrize(
    ("cap", "usd", "message"),
    [
        (user_cap("alice"), USD(1), "what user alice may spend in total, 1 USD"),
        (user_day_cap("alice"), USD("0.5"), r"what user alice may spend per day \(UTC\), 0\.5 USD"),
        (DAY_CAP, usd_of(MOST_NANO), r"what everybody together may spend per day \(UTC\), 9007199\.254740991 USD"),
        (None, USD(0), "the budget, 1 USD"),
    ],
)
async def test_what_may_cost_anything_fits_under_no_cap(
    house: House, cap: str | None, usd: Decimal, message: str
) -> None:
    """However high it is, and whatever part of it this process has at hand."""
    if cap is not None:
        await house.ledger.set_caps({cap: usd})
    async with house.budget("1" if cap is None else None) as budget, house.budget(None, run="r2") as other:
        for known in (budget, other):
            known.release(await known.hold(USD("0.1")))
        assert budget.hold_now(None) is None
        asked = asyncio.create_task(budget.hold(None))
        await house.clock.advance(1)
        with pytest.raises(BudgetExhausted, match=f"not known.*no price.* cap cannot be kept: {message}"):
            await asked
        assert budget.reserved_usd == 0
        if cap is not None:
            await house.ledger.set_caps({cap: None})
            assert await budget.hold(None)


async def test_a_cap_set_while_a_run_without_a_price_works_binds_within_a_second(house: House) -> None:
    """Though such a run has nothing to report."""
    async with house.budget(None) as budget:
        budget.settle(await budget.hold(None), USD(0))
        await house.ledger.set_caps({DAY_CAP: USD(1000)})
        await house.clock.advance(2)
        assert budget.hold_now(None) is None
        with pytest.raises(BudgetExhausted, match="what everybody together may spend"):
            await budget.hold(None)


async def test_a_new_day_has_its_own_cap(house: House) -> None:
    await house.ledger.set_caps({user_day_cap("alice"): USD(1)})
    async with house.budget(None) as budget:
        budget.settle(await budget.hold(USD(1)), USD(1))
        with pytest.raises(BudgetExhausted):
            await budget.hold(USD("0.1"))
        house.clock._now += 86_400  # nobody need wake up in between
        await house.clock.advance(1)
        assert await budget.hold(USD(1))


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
