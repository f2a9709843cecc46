"""The engine: runs a job, a slice, a retry; from start to the promoted output.

Belongs here: the order of things and the run's record. Not here: how rows are asked (pipeline.py), what a row
looks like in the output (publish.py), what is frozen (starting.py).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial

from batch_llm.engine.call_answers import judge_for
from batch_llm.engine.date_partition import latest_run
from batch_llm.engine.events import BY_USER, RunFinished, RunStarted, RunSummary, SlicePublished, Stopping, Waiting
from batch_llm.engine.feed import Asking, Feed
from batch_llm.engine.going_on import any_unbegun, check_same_job, open_slices, to_retry
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.planned import keep_learned
from batch_llm.engine.prices import note_prices
from batch_llm.engine.progress import Ticker
from batch_llm.engine.promotion import has_grown, promote
from batch_llm.engine.publish import Pending
from batch_llm.engine.publishing import Publisher
from batch_llm.engine.rows import Rows
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.starting import Started, start
from batch_llm.engine.summary import summarise
from batch_llm.errors import (
    ConfigurationError,
    ErrorClass,
    LimiterError,
    LimiterStoreError,
    LimiterUnreachable,
    SliceBusy,
    WarehouseError,
    WarehouseRefused,
)
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.journal.last_words import last_words
from batch_llm.limiter.base import Budget
from batch_llm.warehouse.base import StatusCounts

__all__ = ["Engine"]

SHOWN_SLICES = 5
FREE_S = 3.0  # at the end of a run, for a ledger that does not answer
POLL_S = 0.5  # between two looks at what another process works on
WAITING_EVERY_S = 30.0  # says again whom it waits for


class Engine:
    """One job in one process. `wiring.engine` makes it; every method may be called once at a time."""

    def __init__(self, parts: JobParts, calling: Calling) -> None:
        """``parts``: the job; ``calling``: what it may spend with."""
        self.parts = parts
        self.calling = calling
        self._judge = judge_for(calling.pools[0].provider, parts.schema)
        self._pipeline: Pipeline | None = None
        self._stop: tuple[ErrorClass, str] | None = None
        self._waited_for: set[int] = set()  # slices it said it waits for
        self._waiting_at_s = -math.inf  # when it said so last
        self._loop = asyncio.get_running_loop()

    async def start(self) -> Started:
        """Freeze a new run, or find the one to go on with. Spends nothing.

        Waits while another process works on a run of the job that this one would end.
        """
        told = False
        while True:
            try:
                return await asyncio.to_thread(start, self.parts, self._judge)
            except SliceBusy as busy:
                if self._stop is not None:
                    raise
                if not told:
                    self.calling.tell(Waiting(str(busy)))
                told = True
            await self.parts.clock.sleep(POLL_S)

    async def run(self, *, limit: int | None = None, promote_after: bool = True) -> RunSummary:
        """The whole job: every row of the input once, published and promoted.

        ``limit``: ask only so many rows now; the others stay pending. Raises `ConfigurationError` and its kin before
        anything is spent, `JournalError` when answers cannot be stored any more.
        """
        while True:
            started = await self.start()
            record = started.record
            meter = Meter(self.parts.clock)
            if started.nothing_to_do:
                counts = await self._published(record)
                found = await asyncio.to_thread(summarise, self.parts, record, counts, meter)
                return self._told(replace(found, nothing_to_do=True))
            async with self._at_work(record) as stands:
                if not stands:  # between the start and now another process began a newer run
                    continue
                counts = await self._published(record)
                asked_before = bool(counts) or await asyncio.to_thread(self._was_asked, record)
                self._begin(record, resumed=started.resumed and asked_before)
                numbers = open_slices(self.parts, record, counts, lambda stored: stored.pending)
                async with self._kept(record, meter):
                    summary = await self._work_off(record, meter, Asking(numbers, limit=limit), promote_after)
            return self._told(await self._last_word(summary))

    async def retry(self) -> RunSummary:
        """Ask the failed rows of the job's latest run once more, and those that an earlier retry did not come to.

        Raises `ConfigurationError` when the job has not run.
        """
        record = await asyncio.to_thread(latest_run, self.parts)
        if record is None:
            raise ConfigurationError(f"job {self.parts.declared.job.name} has not run in this home; `run` it first")
        await asyncio.to_thread(check_same_job, self.parts, record)
        async with self._at_work(record) as stands:
            if not stands:
                raise SliceBusy(f"a newer run of the job took the place of {record.run_id} just now; try again")
            counts = await self._published(record)
            meter = Meter(self.parts.clock)
            numbers = open_slices(self.parts, record, counts, to_retry)
            if not numbers and record.state is RunState.FINISHED and not has_grown(self.parts, record):
                found = await asyncio.to_thread(summarise, self.parts, record, counts, meter)
                return self._told(replace(found, nothing_to_do=True))
            job = self.parts.declared.job_data()
            of = record.begun_by
            record = self.parts.runs.change(record.run_id, state=RunState.PLANNED, job=job, user=of)
            asking = Asking(numbers, None, self._sizes(record, numbers))
            self._begin(record, resumed=True)
            async with self._kept(record, meter):
                summary = await self._work_off(record, meter, asking, promote_after=True)
        return self._told(await self._last_word(summary))

    async def run_slice(self, record: RunRecord, number: int) -> SlicePublished:
        """Ask what one slice has not answered yet and publish it; waits for another process that works on it.

        A slice that was published before is a rerun: its failed rows are asked once more, its ok rows never. Raises
        `ConfigurationError` when the job was changed since the run was planned.
        """
        await asyncio.to_thread(check_same_job, self.parts, record)
        async with self._at_work(record) as stands:
            if not stands and record.state is not RunState.SUPERSEDED:
                raise SliceBusy(f"a newer run of the job took the place of {record.run_id}: this slice is not asked")
            counts = await self._published(record, number)
            meter = Meter(self.parts.clock)
            self._begin(record, resumed=number in counts)
            published = number in counts and self.parts.runs.is_published(record.run_id, number)
            rerun = published and counts[number].pending == 0
            publisher = self._publisher(record)
            below = self._sizes(record, [number]) if rerun else None
            await self._ask(record, meter, Asking([number], None, below, alone=True), publisher)
            await asyncio.to_thread(keep_learned, self.parts, record)
            return publisher.event(number)

    async def promote(self, record: RunRecord) -> RunSummary:
        """Bring a run's published rows into the output table. Raises `ConfigurationError` while slices are missing."""
        counts = await self._published(record)
        missing = [number for number in range(len(record.slice_rows)) if number not in counts]
        if missing:
            shown = ", ".join(map(str, missing[:5]))
            raise ConfigurationError(f"run {record.run_id}: slices {shown} are not published yet; run them first")
        return await promote(self.parts, record, Meter(self.parts.clock))

    def stop(self, error_class: ErrorClass = ErrorClass.CANCELLED, message: str = BY_USER) -> None:
        """Drain: nothing new is sent, what is in flight comes home, the rest stays pending. From any thread."""
        self._loop.call_soon_threadsafe(self._stop_now, error_class, message)

    def _stop_now(self, error_class: ErrorClass, message: str) -> None:
        self._stop = (error_class, message)
        if self._pipeline is not None:
            self._pipeline.stop(error_class, message)

    # -- the whole job ---------------------------------------------------------------------------------------------

    async def _work_off(self, record: RunRecord, meter: Meter, asking: Asking, promote_after: bool) -> RunSummary:
        """Ask, publish, promote. A stop that kept no row from being asked stopped nothing: the run is complete."""
        stopped = await self._ask(record, meter, asking)
        if promote_after:
            summary = await promote(self.parts, record, meter, stopped)
        else:
            counts = await self._published(record)
            summary = await asyncio.to_thread(summarise, self.parts, record, counts, meter, stopped)
        if stopped is None or summary.pending:
            return summary
        left = await asyncio.to_thread(any_unbegun, self.parts, record, asking.reopen_below or {})
        return summary if left else replace(summary, stopped=None)

    async def _last_word(self, summary: RunSummary) -> RunSummary:
        """Of several processes that stop early on one run, the last one tells its end."""
        if summary.stopped is None or not await asyncio.to_thread(self.parts.runs.is_at_work, summary.run_id):
            return summary
        return replace(summary, ended_elsewhere=True)

    def _told(self, summary: RunSummary) -> RunSummary:
        self.calling.tell(RunFinished(summary))
        return summary

    @asynccontextmanager
    async def _at_work(self, record: RunRecord) -> AsyncIterator[bool]:
        """Say that this process works on the run; whether the run still stands. Raises `JournalError` if it is gone.

        Money that dead processes hold of it is given back by the first at work, and by the last one that ends well.
        """
        runs = self.parts.runs
        await self._free_dead(record)
        with ExitStack() as held:
            await asyncio.to_thread(held.enter_context, runs.at_work(record.run_id))
            stored = await asyncio.to_thread(runs.get, record.run_id)
            yield stored.state is not RunState.SUPERSEDED
        with suppress(LimiterError, TimeoutError):  # whoever comes next tries again
            async with asyncio.timeout(FREE_S):
                await self._free_dead(record)

    async def _free_dead(self, record: RunRecord) -> None:
        alone_at_s = self.parts.clock.monotonic()
        if not await asyncio.to_thread(self.parts.runs.is_at_work, record.run_id):
            await self.calling.free_dead(record, partial(self._spent_usd, record), alone_at_s)

    @asynccontextmanager
    async def _kept(self, record: RunRecord, meter: Meter) -> AsyncIterator[None]:
        """What is paid is kept: a refusal of the warehouse then ends a run that goes on, like its other failures."""
        try:
            yield
        except WarehouseRefused as refused:
            sizes = await asyncio.to_thread(self._sizes, record, list(range(len(record.slice_rows))))
            if not meter.requests and not any(sizes.values()):
                raise
            raise WarehouseError(str(refused)) from refused

    def _begin(self, record: RunRecord, *, resumed: bool) -> None:
        rows, slices = sum(record.slice_rows), len(record.slice_rows)
        job = self.parts.declared.job
        self.calling.tell(RunStarted(job.name, record.run_id, rows, slices, resumed, self.parts.output))

    # -- some slices -----------------------------------------------------------------------------------------------

    async def _ask(
        self, record: RunRecord, meter: Meter, asking: Asking, publisher: Publisher | None = None
    ) -> str | None:
        """Ask and publish some slices; why it stopped early, if it did.

        Slices that another process works on come last: when it has left them, what is left of them is asked.
        """
        publisher = publisher or self._publisher(record)
        while True:
            try:
                stopped, left = await self._ask_free(record, meter, asking, publisher)
            except (LimiterStoreError, LimiterUnreachable) as error:  # while a budget was opened once more
                if not meter.requests:
                    raise
                self.calling.tell(Stopping(f"the ledger of money cannot go on: {error}", 0))
                return ErrorClass.BUDGET.value
            if stopped is not None or not left.numbers:
                return stopped
            await self._until_free(record, left.numbers)
            if self._stop is not None:
                self.calling.tell(Stopping(self._stop[1], 0))
                return self._stop[0].value
            asking = left

    async def _ask_free(
        self, record: RunRecord, meter: Meter, asking: Asking, publisher: Publisher
    ) -> tuple[str | None, Asking]:
        """Ask the slices that nobody else works on; why it stopped early, if it did, and what is left to ask."""
        await asyncio.to_thread(note_prices, self.parts, record)
        async with self.calling.budget_of(record, partial(self._spent_usd, record)) as budget:
            return await self._ask_within(budget, record, meter, asking, publisher)

    async def _ask_within(
        self, budget: Budget, record: RunRecord, meter: Meter, asking: Asking, publisher: Publisher
    ) -> tuple[str | None, Asking]:
        pipeline = self._pipeline = Pipeline(self.parts, self.calling, budget, meter)
        if self._stop is not None:
            pipeline.stop(*self._stop)
        feed = Feed(asking, publisher, partial(self.open_slice, record), self.parts.clock)
        before = {} if asking.alone else await self._published(record)
        numbers = {*asking.numbers, *publisher.stored} if asking.alone else range(len(record.slice_rows))
        ticker = Ticker(self.parts, self.calling, meter, pipeline)
        ticker.begin(record, sum(record.slice_rows[number] for number in numbers), before, publisher)
        try:
            async with ticker, publisher, aclosing(feed.works()) as works:
                await pipeline.run(works, publisher)
                await feed.settle()
            if pipeline.stopped is None and publisher.failed:
                again = partial(self.open_slice, record, reopen_below=None)
                await publisher.publish_rest(sorted(publisher.failed), again, Pending.because(None))
                ticker.tell()
            rest = [number for number in asking.numbers if number not in publisher.stored]
            stopped = pipeline.stopped or (ErrorClass.SAMPLE if feed.cut_short else None)
            if stopped is None:
                if set(rest) <= set(feed.busy):
                    return None, replace(asking, numbers=feed.busy, limit=feed.left)
                stopped = ErrorClass.INTERNAL  # all was asked, and rows have no end: never to be taken for done
            why = Pending.sample() if stopped is ErrorClass.SAMPLE else Pending.because(stopped)
            await publisher.publish_rest(rest, partial(self.open_slice, record, reopen_below=None), why)
            ticker.tell()
        finally:
            await feed.settle()
            await asyncio.to_thread(publisher.close)
            self._pipeline = None
        return stopped.value, asking

    async def _until_free(self, record: RunRecord, numbers: list[int]) -> None:
        """Until another process has left one of these slices, or this one is to stop.

        Says whom it waits for, and every 30 s again how far the other is.
        """
        runs, clock = self.parts.runs, self.parts.clock
        while self._stop is None and all(runs.is_busy(record.run_id, number) for number in numbers):
            is_news = not self._waited_for.issuperset(numbers)
            if is_news or clock.monotonic() - self._waiting_at_s >= WAITING_EVERY_S:
                whom = _busy(numbers, {runs.worker(record.run_id, number) for number in numbers})
                so_far = "" if is_news else await asyncio.to_thread(self._so_far, record, numbers)
                self.calling.tell(Waiting(f"{whom}{so_far}; waiting for the end of that"))
                self._waiting_at_s = clock.monotonic()
            self._waited_for.update(numbers)
            await clock.sleep(POLL_S)

    def _so_far(self, record: RunRecord, numbers: list[int]) -> str:
        """How many rows of these slices have an answer or have failed, by their journals."""
        words = last_words(self.parts.runs.entries(record.run_id, number) for number in numbers)
        return f", {words.ended:,} of {sum(record.slice_rows[number] for number in numbers):,} rows so far"

    def open_slice(self, record: RunRecord, number: int, reopen_below: int | None) -> SliceWork | StatusCounts:
        """Open one slice, or say how its stored rows stand when nothing of it is left; blocking.

        Raises `JournalBusy` while another process works on it.
        """
        work = SliceWork(self.parts, self._judge, record, number)
        work.on_failed = self.calling.tell_first
        work.open(reopen_below=reopen_below)
        with ExitStack() as opened:
            opened.callback(work.close)
            if reopen_below is None and work.journal.size() and self.parts.runs.is_published(record.run_id, number):
                counts = self.parts.warehouse.published(record.run_id, number).get(number)
                if counts is not None and not counts.pending:
                    return counts
            opened.pop_all()
        return work

    def _sizes(self, record: RunRecord, numbers: list[int]) -> dict[int, int]:
        """The journals as they stand: failures noted later are not this command's to ask again."""
        return {number: self.parts.runs.size(record.run_id, number) for number in numbers}

    def _was_asked(self, record: RunRecord) -> bool:
        """Whether anything is noted of its rows; a run that was only planned has none."""
        return any(self.parts.runs.size(record.run_id, number) for number in range(len(record.slice_rows)))

    def _publisher(self, record: RunRecord) -> Publisher:
        return Publisher(self.parts, self.calling, record)

    async def _published(self, record: RunRecord, number: int | None = None) -> dict[int, StatusCounts]:
        return await asyncio.to_thread(self.parts.warehouse.published, record.run_id, number)

    async def _spent_usd(self, record: RunRecord, but_for: AbstractSet[int]) -> dict[int, Decimal]:
        """What each slice of the run cost so far, from its journal."""
        numbers = [number for number in range(len(record.slice_rows)) if number not in but_for]
        return await asyncio.to_thread(lambda: {number: self._slice_spent_usd(record, number) for number in numbers})

    def _slice_spent_usd(self, record: RunRecord, number: int) -> Decimal:
        runs = self.parts.runs
        known = runs.spent(record.run_id, number)
        if known is not None:
            return Decimal(known[1])
        rows = Rows(self.parts.answerers(self._judge, record), record.slice_rows[number])
        rows.replay(runs.entries(record.run_id, number))
        return rows.spent_usd


def _busy(numbers: list[int], workers: set[int | None]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN_SLICES])) + (", .." if len(numbers) > SHOWN_SLICES else "")
    which = f"slice {shown} is" if len(numbers) == 1 else f"slices {shown} are"
    known = [str(pid) for pid in sorted(pid for pid in workers if pid is not None)]
    who = f"process {' and '.join(known)}" if known else "another process"
    return f"{which} being worked on by {who}"
