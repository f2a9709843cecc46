"""Little money and calls for many rows: a call that is dearer than what is left is asked in parts that are not.

Belongs here: what is sent, and when it stops. Not here: one row per call (test_pipeline_money.py), the ledger
(tests/unit/limiter).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.engine.answers import Verdict
from batch_llm.engine.work import Work
from batch_llm.errors import ErrorClass
from batch_llm.journal.base import HELD_USD, Entry, EntryKind
from batch_llm.limiter.base import Cost
from batch_llm.providers.base import EmbeddingRequest, Message, RawAnswer, Request, Sending
from tests.search import examples
from tests.unit.engine.test_pipeline import Bench, Provider, Rows, failed
from tests.unit.engine.test_pipeline_money import ended
from tests.unit.engine.test_pipeline_pools import TwoPools

DEAREST_USD, BILL_USD = Decimal("0.4"), Decimal("0.1")  # of a token
DEAREST_NANO, BILL_NANO = 400_000_000, 100_000_000


class Texts(Rows):
    """Rows of so many tokens each, so many in each call; notes what was set aside and billed."""

    def __init__(self, bench: Bench, calls: Sequence[Sequence[int]]) -> None:
        self.tokens = [tokens for call in calls for tokens in call]
        super().__init__(bench.clock, len(self.tokens))
        self.calls = calls
        self.spent_usd = self.held_usd = self.most_usd = Decimal(0)

    async def works(self) -> AsyncIterator[Work]:
        row = 0
        slice_work: Any = self
        for call in self.calls:
            works = []
            for tokens in call:
                request = Request(str(row), "m", (Message("user", str(row)),), {}, None)
                works.append(Work(slice_work, row, request, f"h{row}", 1, Cost(tokens, 0), 1, 1))
                row += 1
            yield Work.together(works, row_is_request=False)

    def note(self, entry: Entry) -> Verdict | None:
        if entry.kind is EntryKind.SENT:
            self.held_usd += Decimal(entry.detail[HELD_USD])
        elif entry.kind in (EntryKind.ANSWER, EntryKind.UNBILLED):
            tokens = sum(self.tokens[row] for row in entry.detail["rows"])
            self.held_usd -= tokens * DEAREST_USD
            if entry.kind is EntryKind.ANSWER:
                self.spent_usd += tokens * BILL_USD
                self.rows.last_cost_nano = tokens * BILL_NANO
        self.most_usd = max(self.most_usd, self.spent_usd + self.held_usd)
        return super().note(entry)


class Vectors(Provider):
    """Takes many texts at once; notes the rows of each call that it answered."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.calls: list[list[int]] = []

    async def send(self, request: Request | EmbeddingRequest, *, sending: Sending) -> RawAnswer:
        assert isinstance(request, EmbeddingRequest)
        ending = self.endings.pop(0) if self.endings else None
        await self.clock.sleep(self.takes_s)
        if ending is not None:
            raise ending
        self.calls.append([int(text) for text in request.texts])
        return RawAnswer(b"{}", {}, 0.0)


def bench(calls: Sequence[Sequence[int]], pools: int = 1) -> TwoPools:
    """A token costs 0.1 USD, and could cost 0.4."""
    made = TwoPools(0, a=0, b=0)
    made.rows = Texts(made, calls)
    price: Any = SimpleNamespace(cost_nano=lambda given, written: given * DEAREST_NANO, version="v")
    made.parts.price = price
    made.parts.declared.job.is_embedding = True
    for pool in made.pools:
        object.__setattr__(pool, "price", price)
    made.providers = {name: Vectors(made.clock) for name in "ab"}
    del made.pools[pools:]
    return made


def asked(made: TwoPools) -> list[list[int]]:
    """The rows of each call that was answered."""
    return [call for provider in made.providers.values() for call in provider.calls]  # type: ignore[attr-defined]


@pytest.mark.parametrize("pools", [1, 2])
async def test_a_call_that_is_dearer_than_the_budget_is_asked_in_parts(pools: int) -> None:
    """The whole bill, 3.2 USD, and what is set aside for a row are there; for the whole call 12.8 would have to be."""
    made = bench([[1] * 32], pools)
    pipeline = await ended(made, Decimal("3.5"))
    assert pipeline.stopped is None, pipeline.stop_message
    assert sorted(row for call in asked(made) for row in call) == list(range(32))
    assert max(map(len, asked(made))) == 8 and len(asked(made)) < 20


async def test_a_call_waits_for_money_that_others_have_set_aside_and_is_not_split() -> None:
    made = bench([[1] * 8, [1] * 8, [1] * 8])
    made.providers["a"].takes_s = 30.0
    pipeline = await ended(made, DEAREST_USD * 8 + BILL_USD * 16)
    assert pipeline.stopped is None and asked(made) == [list(range(at, at + 8)) for at in (0, 8, 16)]


async def test_rows_of_a_split_call_come_before_what_stands_behind_it_and_count_no_attempt() -> None:
    """So that few are split: those behind it stay whole until it is their turn."""
    made = bench([[1] * 4, [1] * 64])
    pipeline = await ended(made, Decimal("0.8"))
    assert pipeline.stopped is ErrorClass.BUDGET
    assert asked(made) == [[0, 1], [2], [3], [4]]
    assert {entry.attempt for entry in made.rows.noted} == {1}


async def test_a_single_row_that_no_money_is_left_for_stops_the_run() -> None:
    made = bench([[5] * 3])
    pipeline = await ended(made, Decimal("1.9"))
    assert pipeline.stopped is ErrorClass.BUDGET and asked(made) == []
    assert "could cost 2 USD" in pipeline.stop_message


async def test_a_call_that_was_refused_before_goes_on_in_parts() -> None:
    """It waits in another line by then."""
    made = bench([[1] * 8, [1] * 8])
    made.providers["a"].endings = [failed(ErrorClass.RATE_LIMITED, 1.0)] * 2
    pipeline = await ended(made, Decimal("3.2"))
    assert pipeline.stopped is None, pipeline.stop_message
    assert sorted(row for call in asked(made) for row in call) == list(range(16))


CALLS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=9), min_size=1, max_size=5)


@settings(max_examples=examples(60), deadline=None)
@given(
    calls=CALLS,
    cents=st.integers(40, 800),
    pools=st.sampled_from([1, 2]),
    rejected=st.integers(0, 3),
    takes_s=st.tuples(st.sampled_from([0.0, 0.3, 5.0]), st.sampled_from([0.0, 0.3, 5.0])),
    at_once=st.sampled_from([1, 64]),
)
def test_whatever_the_budget_it_is_kept_and_used(
    calls: list[list[int]], cents: int, pools: int, rejected: int, takes_s: tuple[float, float], at_once: int
) -> None:
    """Each row is asked at most once, and the run ends only when some row that is left does not fit any more."""
    cap_usd = Decimal(cents) / 100

    async def run() -> None:
        made = bench(calls, pools)
        for name, seconds in zip("ab", takes_s, strict=True):
            made.gates[name].at_once = at_once
            made.providers[name].takes_s = seconds
            made.providers[name].endings = [failed(ErrorClass.RATE_LIMITED, 1.0)] * rejected
        pipeline = await ended(made, cap_usd)
        rows: Any = made.rows
        found = [row for call in asked(made) for row in call]
        left = set(range(len(rows.tokens))) - set(found)
        assert len(found) == len(set(found)) and rows.held_usd == 0
        assert rows.most_usd <= cap_usd
        if pipeline.stopped is None:
            assert not left and rows.outstanding == 0
        else:
            assert pipeline.stopped is ErrorClass.BUDGET
            assert cap_usd - rows.spent_usd < DEAREST_USD * max(rows.tokens[row] for row in left)

    asyncio.run(run())
