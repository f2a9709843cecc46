"""What is told each second of a run on its way: how long it will take, whether it stands still."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from batch_llm.engine.events import Progress, Stalled
from batch_llm.engine.listening import Guard
from batch_llm.engine.meter import Meter
from batch_llm.engine.progress import STALL_S, TICK_S, Ticker
from batch_llm.warehouse.base import StatusCounts
from batch_llm.watching.board import Board
from tests.unit.engine.test_pipeline import Bench

ROWS = 1_000


class Told(Bench):
    """A run whose ticker is driven by hand: no call is made."""

    def __init__(self) -> None:
        super().__init__()
        self.parts.learning = SimpleNamespace(keep=lambda: None)
        self.publisher: Any = SimpleNamespace(open_slices={}, stored={}, failed={}, waiting=0)
        self.board = Board("lab")
        window = SimpleNamespace(outage=None, is_shrunk=False)
        route = SimpleNamespace(
            name="main", tier=0, limiter=self.gate, pool=SimpleNamespace(limits=self.parts.limits), window=window,
            meter=self.meter, is_held_up=lambda now_s: False,
        )  # fmt: skip
        pipeline: Any = SimpleNamespace(
            stopped=None, routes=[route], tiers=SimpleNamespace(taking=lambda: [route]), waits_for_money=False,
            oldest_call=lambda: (0.0, "an answer"),
        )  # fmt: skip
        calling: Any = SimpleNamespace(tell=Guard(self._hear))
        self.ticker = Ticker(self.parts, calling, self.meter, pipeline)

    def _hear(self, event: Any) -> None:
        self.events.append(event)
        self.board.take(event)

    def begin(self, before: dict[int, StatusCounts] | None = None) -> None:
        """A run of so many rows; these slices are published."""
        record: Any = SimpleNamespace(run_id="r")
        self.ticker.begin(record, ROWS, before or {}, self.publisher)

    async def after(self, seconds: float) -> Progress:
        """What it tells at the end of so many seconds."""
        for _ in range(int(seconds / TICK_S)):
            told = len(self.of(Progress))
            await self.clock.advance(TICK_S)
            while len(self.of(Progress)) == told:
                await asyncio.sleep(0)  # what a tick does in a thread
        return self.of(Progress)[-1]

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def call(self, rows: int = 1) -> None:
        """A call goes out."""
        self.meter.sent(self.clock.monotonic(), 10, 100, rows)

    def comes_back(self) -> None:
        """And ends, one way or the other."""
        self.meter.ended(self.clock.monotonic())


def open_slice(number: int, counts: StatusCounts) -> SimpleNamespace:
    """A slice whose journal says this."""
    return SimpleNamespace(number=number, counts=lambda: counts, asked_elsewhere=0, asked_by=set())


async def test_the_time_left_is_that_of_rows_and_the_limit_is_that_of_requests() -> None:
    """A call for vectors asks many rows."""
    run = Told()
    run.begin()
    async with run.ticker:
        for _ in range(5):
            run.call(rows=20)
            now = await run.after(2)
    assert now.requests_per_minute == pytest.approx(5 * 60 / 10)
    assert now.eta_s == pytest.approx(ROWS / (5 * 20 / 10))


async def test_a_stall_lasts_until_a_call_comes_back() -> None:
    """It is told once, and each second's progress knows of it: so does the panel."""
    run = Told()
    run.begin()
    async with run.ticker:
        run.call()
        assert not (await run.after(STALL_S - 2)).stalled and run.board.state == "running"
        assert (await run.after(2)).stalled and (await run.after(30)).stalled
        assert run.board.state == "stalled" and len(run.of(Stalled)) == 1
        run.comes_back()
        assert not (await run.after(1)).stalled and run.board.state == "running"
        await run.after(STALL_S)
        assert len(run.of(Stalled)) == 2


async def test_a_stall_that_ended_is_not_told_at_the_end() -> None:
    run = Told()
    run.begin()
    async with run.ticker:
        run.call()
        await run.after(STALL_S)
        run.comes_back()
    assert run.board.state == "running"


async def test_the_time_in_which_another_process_was_waited_for_is_no_stall() -> None:
    """Nothing was asked in it."""
    run = Told()
    await run.clock.advance(10 * STALL_S)
    run.begin()
    async with run.ticker:
        assert not (await run.after(2)).stalled
    assert not run.of(Stalled)


async def test_a_slice_counts_once_by_what_is_known_of_it_last() -> None:
    """Published before; open now; published, or failed to be, by this process."""
    run = Told()
    done = StatusCounts(rows=10, ok=10, cost_usd=Decimal(1))
    half = StatusCounts(rows=10, ok=4, pending=6, cost_usd=Decimal("0.4"))
    run.begin({0: done, 1: half, 2: half, 3: half})
    work = open_slice(2, StatusCounts(ok=6, cost_usd=Decimal("0.6")))
    run.publisher.open_slices, run.publisher.stored = {2: work}, {3: done}
    run.publisher.failed = {4: StatusCounts(ok=9, failed=1, cost_usd=Decimal(1))}
    run.ticker.tell()
    now = run.of(Progress)[-1]
    assert (now.ok, now.failed, now.cost_usd, now.slices_done) == (10 + 4 + 6 + 10 + 9, 1, Decimal("4.0"), 2)


async def test_rows_that_are_found_again_do_not_vanish_meanwhile() -> None:
    """Answers of an earlier run are known when the slice was read, not when it is opened."""
    run = Told()
    run.begin({0: StatusCounts(rows=10, ok=8, failed=2)})
    run.publisher.open_slices = {0: open_slice(0, StatusCounts())}
    run.ticker.tell()
    assert (run.of(Progress)[-1].ok, run.of(Progress)[-1].failed) == (8, 0)


@pytest.mark.parametrize(("cost_usd", "requests", "told"), [(None, 0, Decimal(0)), (None, 1, None), ("2", 1, "2")])
async def test_nothing_asked_costs_nothing_and_an_unknown_price_is_not_nothing(
    cost_usd: str | None, requests: int, told: Decimal | str | None
) -> None:
    run = Told()
    run.meter = run.ticker._meter = Meter(run.clock, requests=requests)
    run.begin({0: StatusCounts(rows=10, ok=10, cost_usd=None if cost_usd is None else Decimal(cost_usd))})
    run.ticker.tell()
    assert run.of(Progress)[-1].cost_usd == (told if told is None else Decimal(told))
