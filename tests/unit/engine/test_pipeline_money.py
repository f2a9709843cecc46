"""Little money, several pools, rows that come again: every run ends, nothing is lost and nothing stays set aside."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.engine.events import BudgetMark, Stopping
from batch_llm.engine.pipeline import Pipeline
from batch_llm.errors import ErrorClass
from batch_llm.journal.base import EntryKind
from batch_llm.limiter.ledger import user_cap
from tests.search import examples
from tests.unit.engine.test_pipeline import Bench, Gate, failed
from tests.unit.engine.test_pipeline_pools import TwoPools

DEAREST_USD, BILL_USD = Decimal("0.4"), Decimal("0.1")
DEAREST_NANO = 400_000_000
LONGEST_S = 4_000.0


def bench(rows: int, pools: int = 2) -> TwoPools:
    """Rows that cost 0.1 USD each, and could cost 0.4."""
    made = TwoPools(rows, a=DEAREST_NANO, b=DEAREST_NANO)
    del made.pools[pools:]
    return made


async def test_who_waits_for_money_says_so() -> None:
    """And not that rows are missing."""
    made = bench(2, 1)
    made.providers["a"].takes_s = 20.0
    asked = asyncio.create_task(made._ask(Decimal("0.5")))
    await made.clock.advance(5)
    assert made.pipeline.waits_for_money
    while not asked.done():
        await made.clock.advance(10)
    assert not made.pipeline.waits_for_money
    assert made.answered() == [0, 1]


@pytest.mark.parametrize(
    ("cap_usd", "marks"), [("0.9", [50, 100]), ("0.45", [100]), ("1", [50, 100]), ("2", [50]), ("9", [])]
)
async def test_a_budget_that_is_used_up_says_so_and_no_mark_is_told_that_was_not_spent(
    cap_usd: str, marks: list[int]
) -> None:
    """What is left, which may be much, does not pay for the next row: it cannot be used any more."""
    made = bench(12, 1)
    pipeline = await ended(made, Decimal(cap_usd))
    told = [event.percent for event in made.events if isinstance(event, BudgetMark)]
    assert told == marks and (pipeline.stopped is ErrorClass.BUDGET) is (100 in marks)
    if 100 in marks:
        assert [event.leaves_too_little for event in made.events if isinstance(event, BudgetMark)][-1]
        kinds = [type(event) for event in made.events]
        assert kinds.index(BudgetMark) < kinds.index(Stopping)


async def test_the_cap_of_a_user_says_nothing_of_the_runs_budget() -> None:
    """It is another sum."""
    made = bench(12, 1)
    await made.ledger.set_caps({user_cap("u"): Decimal("0.5")})
    pipeline = await ended(made, Decimal(9))
    assert pipeline.stopped is ErrorClass.BUDGET
    assert not [event for event in made.events if isinstance(event, BudgetMark)]


async def ended(made: TwoPools, cap_usd: Decimal) -> Pipeline:
    """The run, which must end by itself."""
    asked = asyncio.create_task(made._ask(cap_usd))
    until_s = made.clock.monotonic() + LONGEST_S
    while not asked.done():
        assert made.clock.monotonic() < until_s, f"stands still after {len(made.answered())} rows"
        await made.clock.advance(10)
    return await asked


@settings(max_examples=examples(60), deadline=None)
@given(
    pools=st.sampled_from([1, 2]),
    rows=st.integers(1, 12),
    holds=st.integers(1, 3),
    rejected=st.integers(0, 3),
    every_s=st.sampled_from([0.0, 0.05, 0.3, 2.0]),
    takes_s=st.tuples(st.sampled_from([0.0, 0.3, 5.0]), st.sampled_from([0.0, 0.3, 5.0])),
    at_once=st.sampled_from([1, 3, 64]),
)
def test_a_run_with_little_money_ends_with_every_row_answered_or_says_that_money_is_missing(
    pools: int, rows: int, holds: int, rejected: int, every_s: float, takes_s: tuple[float, float], at_once: int
) -> None:
    """It has enough for all bills and so many dearest ones beside them, so no row need be left."""

    async def run() -> None:
        made = bench(rows, pools)
        for name, seconds in zip("ab", takes_s, strict=True):
            made.gates[name].every_s, made.gates[name].at_once = every_s, at_once
            made.providers[name].takes_s = seconds
            made.providers[name].endings = [failed(ErrorClass.RATE_LIMITED, 1.0)] * rejected
        pipeline = await ended(made, BILL_USD * (rows - 1) + DEAREST_USD * holds)
        assert pipeline.stopped is None, pipeline.stop_message
        assert made.answered() == list(range(rows))

    asyncio.run(run())


@pytest.mark.parametrize("pools", [1, 2])
async def test_where_not_all_can_be_paid_the_run_stops_for_money_and_the_rest_waits(pools: int) -> None:
    made = bench(9, pools)
    made.providers["a"].endings = [failed(ErrorClass.RATE_LIMITED, 1.0)] * 2
    pipeline = await ended(made, Decimal("0.75"))
    assert pipeline.stopped is ErrorClass.BUDGET
    assert len(made.answered()) == 4


async def test_no_call_is_made_without_its_money() -> None:
    """A cap for two calls at once; a reservation that its money keeps waiting is given back for others to use."""
    bench = Bench(rows=6, gate=Gate(6))
    bench.parts.price = SimpleNamespace(cost_nano=lambda *tokens: 400_000_000, version="v")
    bench.provider.takes_s = 5.0
    pipeline = await bench.run(cap_usd=Decimal(1))
    assert pipeline.stopped is None, pipeline.stop_message
    assert bench.provider.rows == list(range(6))
    assert bench.gate.released > 0
    most = 0
    for entry in bench.rows.noted:
        most = most + 1 if entry.kind is EntryKind.SENT else most - 1
        assert most <= 2
    assert bench.rows.kinds(0) == [EntryKind.SENT, EntryKind.ANSWER]


async def test_a_budget_that_is_used_up_stops_the_run() -> None:
    """When nothing in flight can give money back any more; what was reserved goes back."""
    bench = Bench(rows=20, gate=Gate(20))
    bench.parts.price = SimpleNamespace(cost_nano=lambda *tokens: 400_000_000, version="v")
    pipeline = await bench.run(cap_usd=Decimal(1))
    assert pipeline.stopped is ErrorClass.BUDGET
    assert len(bench.provider.rows) == 7  # 0.7 are spent, 0.3 are left: less than the next one could cost
