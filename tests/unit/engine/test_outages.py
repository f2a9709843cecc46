"""A provider that answers nobody, and rows that it never answers: the one is waited for, the others fail."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.clock import ManualClock
from batch_llm.engine.window import AWAY_PATIENCE_S, OUTAGE_ATTEMPT_S, PROBE_FIRST_S, PROBE_LONGEST_S
from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.journal.base import EntryKind
from batch_llm.providers.base import RawAnswer, Request, Sending
from tests.unit.engine.test_pipeline import Bench, Gate, Provider
from tests.unit.engine.test_pipeline_pools import TwoPools

ANSWERED = ProviderError(ErrorClass.SERVER_ERROR, "500: the model fell over")
CUT = ProviderError(ErrorClass.CONNECTION, "the connection broke", maybe_paid=True)
REFUSED = ProviderError(ErrorClass.CONNECTION, "cannot connect: refused")
ATTEMPTS = 5
LATENCY_S = 0.05


class Picky(Provider):
    """Never answers some rows, and for a while nobody."""

    def __init__(self, clock: ManualClock, bad: Collection[int] = (), error: ProviderError = ANSWERED) -> None:
        super().__init__(clock)
        self.bad, self.error = frozenset(bad), error
        self.down_from_s = self.down_until_s = math.inf
        self.good_at_s: list[float] = []

    async def send(self, request: Request, *, sending: Sending) -> RawAnswer:
        row, now_s = int(request.custom_id), self.clock.monotonic()
        self.rows.append(row)
        self.at_s.append(now_s)
        await self.clock.sleep(LATENCY_S)
        if row in self.bad or self.down_from_s <= now_s < self.down_until_s:
            raise self.error
        self.good_at_s.append(self.clock.monotonic())
        return RawAnswer(b"{}", {}, LATENCY_S)


def bench_of(rows: int, bad: Collection[int] = (), error: ProviderError = ANSWERED, at_once: int = 100) -> Bench:
    bench = Bench(rows=rows, gate=Gate(at_once), attempts=ATTEMPTS)
    bench.provider = Picky(bench.clock, bad, error)
    return bench


def ended(bench: Bench) -> tuple[set[int], set[int]]:
    """The rows that were answered, and those that failed, with the reason that the provider gave."""
    answered = {entry.row for entry in bench.rows.noted if entry.kind is EntryKind.ANSWER}
    failed = [entry for entry in bench.rows.noted if entry.kind is EntryKind.FAILED]
    assert all("500" in entry.detail["message"] or "broke" in entry.detail["message"] for entry in failed)
    return answered, {entry.row for entry in failed}


# -- rows that are never answered -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 8, 40])
@pytest.mark.parametrize("error", [ANSWERED, CUT], ids=["answered", "cut"])
async def test_rows_that_fail_beside_others_that_are_answered_fail_as_soon_as_one_would(
    count: int, error: ProviderError
) -> None:
    """The last calls of a run are theirs alone: that is no outage, for others were answered between their failures."""
    bad = {10 + 2 * each for each in range(count)}
    bench = bench_of(100, bad, error)
    began_s = bench.clock.monotonic()
    pipeline = await bench.run()
    assert pipeline.stopped is None
    assert ended(bench) == (set(range(100)) - bad, bad)
    assert bench.provider.at_s[-1] - began_s < 60
    assert Counter(bench.provider.rows) == {row: ATTEMPTS if row in bad else 1 for row in range(100)}


@pytest.mark.parametrize(("count", "minutes"), [(3, 5), (8, 5), (100, 12)])
async def test_rows_that_fail_and_are_all_that_is_left_fail_after_some_minutes(count: int, minutes: int) -> None:
    """Nobody is answered any more: it may be the provider. An attempt a minute tells."""
    bad = set(range(200 - count, 200))
    bench = bench_of(200, bad, at_once=5)
    began_s = bench.clock.monotonic()
    pipeline = await bench.run()
    assert pipeline.stopped is None
    assert ended(bench) == (set(range(200)) - bad, bad)
    assert bench.provider.at_s[-1] - began_s < 60 * minutes


async def test_calls_that_may_have_been_paid_use_up_an_attempt_each() -> None:
    """Also those that probe: none may be paid more often than the job allows, but for the one that was in flight."""
    bad = set(range(180, 200))
    bench = bench_of(200, bad, CUT, at_once=5)
    pipeline = await bench.run()
    assert pipeline.stopped is None and ended(bench) == (set(range(180)), bad)
    calls = Counter(bench.provider.rows)
    assert max(calls[row] for row in bad) <= ATTEMPTS + 1


async def test_fresh_rows_find_out_at_once_that_the_provider_is_there() -> None:
    """The rows that failed wait; asking goes on with the first good answer."""
    bench = bench_of(400, range(20), at_once=20)
    provider = bench.provider
    assert isinstance(provider, Picky)
    provider.down_from_s, provider.down_until_s = 0.0, bench.clock.monotonic() + 10
    began_s = bench.clock.monotonic()
    await bench.run()
    assert ended(bench) == (set(range(20, 400)), set(range(20)))
    first_s, last_s = min(provider.good_at_s) - began_s, max(provider.good_at_s) - began_s
    assert first_s < 10 + PROBE_LONGEST_S + 1 and last_s < 60


async def test_rows_that_are_never_answered_end_with_the_run_however_many_they_are() -> None:
    """Half an hour is not enough for all their attempts, and the next run would only repeat it."""
    bad = set(range(20, 320))
    bench = bench_of(320, bad, CUT, at_once=10)
    began_s = bench.clock.monotonic()
    pipeline = await bench.run()
    assert pipeline.stopped is None and ended(bench) == (set(range(20)), bad)
    assert bench.provider.at_s[-1] - began_s > AWAY_PATIENCE_S


@pytest.mark.parametrize("error", [ANSWERED, CUT], ids=["answered", "cut"])
async def test_the_attempts_told_are_the_calls_that_were_made(error: ProviderError) -> None:
    bad = set(range(190, 200))
    bench = bench_of(200, bad, error, at_once=5)
    await bench.run()
    calls = Counter(bench.provider.rows)
    told = {entry.row: entry.attempt for entry in bench.rows.noted if entry.kind is EntryKind.FAILED}
    assert told == {row: calls[row] for row in bad}


async def test_rows_that_are_never_answered_end_with_several_pools_too() -> None:
    bench = TwoPools(100)
    bad = set(range(10, 66, 7))
    for name in bench.providers:
        bench.providers[name] = Picky(bench.clock, bad)
    pipeline = await bench.run()
    assert pipeline.stopped is None and ended(bench) == (set(range(100)) - bad, bad)


async def test_rows_that_are_all_that_is_left_end_with_several_pools_too() -> None:
    bench = TwoPools(100)
    bad = set(range(90, 100))
    for name in bench.providers:
        bench.providers[name] = Picky(bench.clock, bad)
    pipeline = await bench.run()
    assert pipeline.stopped is None and ended(bench) == (set(range(100)) - bad, bad)


@settings(max_examples=15, deadline=None)
@given(
    bad=st.sets(st.integers(0, 59), max_size=40),
    error=st.sampled_from([ANSWERED, CUT]),
    at_once=st.sampled_from([1, 7, 100]),
)
async def test_every_run_ends_and_answers_whoever_can_be_answered(
    bad: set[int], error: ProviderError, at_once: int
) -> None:
    bench = bench_of(60, bad, error, at_once=at_once)
    pipeline = await bench.run()
    assert pipeline.stopped is None
    assert ended(bench) == (set(range(60)) - bad, bad)


# -- a provider that is away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 8, 300])
@pytest.mark.parametrize("error", [ANSWERED, REFUSED], ids=["answered", "refused"])
async def test_an_outage_of_a_minute_fails_no_row(rows: int, error: ProviderError) -> None:
    """With as many rows as are there: those that are asked again and again, too."""
    bench = bench_of(rows, error=error, at_once=20)
    provider = bench.provider
    assert isinstance(provider, Picky)
    began_s = bench.clock.monotonic()
    provider.down_from_s, provider.down_until_s = 0.0, began_s + OUTAGE_ATTEMPT_S
    pipeline = await bench.run()
    assert pipeline.stopped is None and ended(bench) == (set(range(rows)), set())
    assert min(provider.good_at_s) - began_s < OUTAGE_ATTEMPT_S + PROBE_LONGEST_S + 1


async def test_a_provider_that_cuts_every_connection_for_a_minute_fails_no_row() -> None:
    """Each probe is another row."""
    bench = bench_of(300, error=CUT, at_once=20)
    provider = bench.provider
    assert isinstance(provider, Picky)
    provider.down_from_s = bench.clock.monotonic() + 0.02
    provider.down_until_s = provider.down_from_s + 60
    await bench.run()
    assert ended(bench) == (set(range(300)), set())


async def test_a_provider_that_dies_is_noticed_within_about_a_second() -> None:
    bench = bench_of(1_000, at_once=3)
    provider = bench.provider
    assert isinstance(provider, Picky)
    provider.down_from_s = bench.clock.monotonic() + 0.2
    provider.down_until_s = provider.down_from_s + 60
    await bench.run()
    meanwhile = [at_s for at_s in provider.at_s if provider.down_from_s + 1.5 <= at_s < provider.down_until_s]
    first_minute = [at_s for at_s in meanwhile if at_s < provider.down_from_s + 55]
    assert all(later - earlier >= PROBE_FIRST_S for earlier, later in pairwise(first_minute))
    assert len(meanwhile) < 20 and ended(bench) == (set(range(1_000)), set())


async def test_a_provider_that_cannot_be_reached_is_noticed_with_one_row() -> None:
    bench = bench_of(1, error=REFUSED)
    provider = bench.provider
    assert isinstance(provider, Picky)
    provider.down_from_s, provider.down_until_s = 0.0, bench.clock.monotonic() + AWAY_PATIENCE_S / 2
    await bench.run()
    assert ended(bench) == ({0}, set())
    assert len(provider.rows) > AWAY_PATIENCE_S / 2 / PROBE_LONGEST_S > bench.rows.noted[-1].attempt


async def test_a_provider_that_answers_nobody_stops_the_run_while_rows_are_left_that_were_never_asked() -> None:
    """So may have been its fault, and the same command goes on: no row fails for it."""
    bench = bench_of(600, range(600), CUT, at_once=10)
    pipeline = await bench.run()
    assert pipeline.stopped is ErrorClass.CANCELLED and "has not answered for 30 minutes" in pipeline.stop_message
    assert ended(bench) == (set(), set())
