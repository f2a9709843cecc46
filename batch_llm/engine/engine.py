"""The engine: runs a job, a slice, a retry; from start to the promoted output.

Belongs here: the order of things and the run's record. Not here: how rows are asked (pipeline.py), what a row
looks like in the output (publish.py), what is frozen (starting.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal

from batch_llm.engine.answers import Judge
from batch_llm.engine.events import RunFinished, RunStarted, RunSummary, SlicePublished
from batch_llm.engine.meter import Meter
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.pipeline import Pipeline
from batch_llm.engine.progress import Ticker
from batch_llm.engine.promotion import promote
from batch_llm.engine.publish import Pending
from batch_llm.engine.publishing import Publisher
from batch_llm.engine.rows import Rows
from batch_llm.engine.slice_work import SliceWork, Work
from batch_llm.engine.starting import Started, check_money, signatures, start
from batch_llm.engine.summary import summarise
from batch_llm.errors import ConfigurationError, ErrorClass
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.warehouse.base import StatusCounts

__all__ = ["Engine"]

SAMPLE = "sample"


class Engine:
    """One job in one process. `wiring.engine` makes it; every method may be called once at a time."""

    def __init__(self, parts: JobParts, calling: Calling) -> None:
        """``parts``: the job; ``calling``: what it may spend with."""
        self.parts = parts
        self.calling = calling
        self._judge = Judge(calling.provider, parts.schema)
        self._pipeline: Pipeline | None = None
        self._stop: tuple[ErrorClass, str] | None = None
        self._loop = asyncio.get_running_loop()

    async def start(self) -> Started:
        """Freeze a new run, or find the one to go on with. Spends nothing."""
        return await asyncio.to_thread(start, self.parts, self._judge)

    async def run(self, *, limit: int | None = None, promote_after: bool = True) -> RunSummary:
        """The whole job: every row of the input once, published and promoted.

        ``limit``: ask only so many rows now; the others stay pending. Raises `ConfigurationError` and its kin before
        anything is spent, `JournalError` when answers cannot be stored any more.
        """
        started = await self.start()
        record = started.record
        meter = Meter(self.parts.clock)
        if started.nothing_to_do:
            counts = await self._published(record)
            found = await asyncio.to_thread(summarise, self.parts, record, counts, meter)
            summary = replace(found, nothing_to_do=True)
            self.calling.tell(RunFinished(summary))
            return summary
        counts = await self._published(record)
        self._begin(record, resumed=started.resumed)
        numbers = self._open_slices(record, counts, lambda slice_counts: slice_counts.pending)
        stopped = await self._ask(record, meter, _Asking(numbers, limit=limit))
        return await self._finish(record, meter, stopped, promote_after)

    async def retry(self) -> RunSummary:
        """Ask the failed rows of the job's latest run once more. Raises `ConfigurationError` without such a run."""
        record = await asyncio.to_thread(self.parts.runs.latest, self.parts.declared.job.name)
        if record is None:
            raise ConfigurationError(f"job {self.parts.declared.job.name} has not run in this home; `run` it first")
        self._same_job(record)
        record = replace(record, state=RunState.PLANNED, job=self.parts.declared.job_data())
        self.parts.runs.save(record)
        counts = await self._published(record)
        meter = Meter(self.parts.clock)
        with_failures = self._open_slices(record, counts, lambda slice_counts: slice_counts.failed)
        self._begin(record, resumed=True)
        stopped = await self._ask(record, meter, _Asking(with_failures, reopen_failed=True))
        return await self._finish(record, meter, stopped, promote_after=True)

    async def run_slice(self, record: RunRecord, number: int) -> SlicePublished:
        """Ask what one slice has not answered yet and publish it.

        A slice that was published before is a rerun: its failed rows are asked once more, its ok rows never. Raises
        `ConfigurationError` when the job was changed since the run was planned.
        """
        self._same_job(record)
        counts = await self._published(record)
        meter = Meter(self.parts.clock)
        self._begin(record, resumed=number in counts)
        published = number in counts and self.parts.runs.is_published(record.run_id, number)
        rerun = published and counts[number].pending == 0
        publisher = self._publisher(record)
        await self._ask(record, meter, _Asking([number], reopen_failed=rerun), publisher)
        return publisher.event(number)

    async def promote(self, record: RunRecord) -> RunSummary:
        """Bring a run's published rows into the output table. Raises `ConfigurationError` while slices are missing."""
        counts = await self._published(record)
        missing = [number for number in range(len(record.slice_rows)) if number not in counts]
        if missing:
            shown = ", ".join(map(str, missing[:5]))
            raise ConfigurationError(f"run {record.run_id}: slices {shown} are not published yet; run them first")
        return await promote(self.parts, record, counts, Meter(self.parts.clock))

    def stop(self, error_class: ErrorClass = ErrorClass.CANCELLED, message: str = "stopped by the user") -> None:
        """Drain: nothing new is sent, what is in flight comes home, the rest stays pending. From any thread."""
        self._loop.call_soon_threadsafe(self._stop_now, error_class, message)

    def _stop_now(self, error_class: ErrorClass, message: str) -> None:
        self._stop = (error_class, message)
        if self._pipeline is not None:
            self._pipeline.stop(error_class, message)

    # -- the whole job ---------------------------------------------------------------------------------------------

    async def _finish(self, record: RunRecord, meter: Meter, stopped: str | None, promote_after: bool) -> RunSummary:
        counts = await self._published(record)
        if promote_after:
            summary = await promote(self.parts, record, counts, meter, stopped)
        else:
            summary = await asyncio.to_thread(summarise, self.parts, record, counts, meter, stopped)
        self.calling.tell(RunFinished(summary))
        return summary

    def _begin(self, record: RunRecord, *, resumed: bool) -> None:
        rows, slices = sum(record.slice_rows), len(record.slice_rows)
        job = self.parts.declared.job
        self.calling.tell(RunStarted(job.name, record.run_id, rows, slices, resumed, self.parts.output))

    # -- some slices -----------------------------------------------------------------------------------------------

    async def _ask(
        self, record: RunRecord, meter: Meter, asking: _Asking, publisher: Publisher | None = None
    ) -> str | None:
        """Ask and publish some slices; why it stopped early, if it did."""
        budget = self.calling.budget_of(await asyncio.to_thread(self._spent_usd, record))
        pipeline = self._pipeline = Pipeline(self.parts, self.calling, budget, meter)
        if self._stop is not None:
            pipeline.stop(*self._stop)
        publisher = publisher or self._publisher(record)
        feed = _Feed(self, record, asking, publisher)
        elsewhere = [c for n, c in (await self._published(record)).items() if n not in asking.numbers]
        ticker = Ticker(self.parts, self.calling, meter, pipeline)
        ticker.begin(record, elsewhere, publisher)
        try:
            async with ticker, publisher, aclosing(feed.works()) as works:
                await pipeline.run(works, publisher)
                await feed.settle()
            rest = [number for number in asking.numbers if number not in publisher.stored]
            sample = feed.cut_short and pipeline.stopped is None
            why = Pending.sample() if sample else Pending.because(pipeline.stopped)
            await publisher.publish_rest(rest, self.open_slice, why)
        finally:
            await feed.settle()
            await asyncio.to_thread(publisher.close)
            self._pipeline = None
        if pipeline.stopped is not None:
            return pipeline.stopped.value
        return SAMPLE if feed.cut_short else None

    def open_slice(self, record: RunRecord, number: int, *, reopen_failed: bool) -> SliceWork:
        """Open one slice; blocking."""
        work = SliceWork(self.parts, self._judge, record, number)
        work.open(reopen_failed=reopen_failed)
        return work

    def _open_slices(
        self, record: RunRecord, counts: dict[int, StatusCounts], has_work: Callable[[StatusCounts], int]
    ) -> list[int]:
        """Slices that are not published, have rows to ask, or whose journal grew since (a killed run)."""
        return [
            number
            for number in range(len(record.slice_rows))
            if number not in counts
            or has_work(counts[number])
            or not self.parts.runs.is_published(record.run_id, number)
        ]

    def _same_job(self, record: RunRecord) -> None:
        """All rows of a run are asked in one way."""
        if signatures(self.parts) != (record.signature, record.shape):
            raise ConfigurationError(
                f"job {self.parts.declared.job.name} changed since run {record.run_id} was planned (its prompt, model, "
                "params, input or output); `run` the job: it asks what the change touches"
            )
        check_money(self.parts)

    def _publisher(self, record: RunRecord) -> Publisher:
        return Publisher(self.parts, self.calling, record)

    async def _published(self, record: RunRecord) -> dict[int, StatusCounts]:
        return await asyncio.to_thread(self.parts.warehouse.published, record.run_id)

    def _spent_usd(self, record: RunRecord) -> Decimal:
        """What the run cost so far, from its journals; blocking, and only read where money is capped."""
        if self.parts.declared.job.budget_usd is None:
            return Decimal(0)
        return sum((self._slice_spent_usd(record, n) for n in range(len(record.slice_rows))), Decimal(0))

    def _slice_spent_usd(self, record: RunRecord, number: int) -> Decimal:
        runs = self.parts.runs
        known = runs.spent(record.run_id, number)
        if known is not None:
            return Decimal(known[1])
        rows = Rows(self._judge, self.parts.price)
        rows.replay(runs.entries(record.run_id, number))
        return rows.spent_usd


@dataclass(frozen=True, slots=True)
class _Asking:
    """What to ask: which slices, at most how many rows, and whether failed rows are asked once more."""

    numbers: list[int]
    limit: int | None = None
    reopen_failed: bool = False


class _Feed:
    """The rows of some slices, one slice after the other, each opened when the one before is handed out."""

    def __init__(self, engine: Engine, record: RunRecord, asking: _Asking, publisher: Publisher) -> None:
        self._engine = engine
        self._record = record
        self._asking = asking
        self._left = asking.limit
        self._publisher = publisher
        self.cut_short = False
        self._opening: asyncio.Task[SliceWork] | None = None

    async def works(self) -> AsyncGenerator[Work]:
        """Every row that is still to be asked."""
        for number in self._asking.numbers:
            if self._left == 0:
                self.cut_short = True
                return
            slice_work = await self._open(number)
            async with aclosing(slice_work.works()) as works:
                async for work in works:
                    if self._left == 0:
                        slice_work.outstanding -= 1
                        self.cut_short = True
                        return
                    if self._left is not None:
                        self._left -= 1
                    yield work
            if not slice_work.outstanding:
                self._publisher.idle(slice_work)

    async def _open(self, number: int) -> SliceWork:
        """Open a slice; when cancelled meanwhile, it is open all the same and somebody knows of it."""
        opening = self._opening = asyncio.create_task(
            asyncio.to_thread(self._engine.open_slice, self._record, number, reopen_failed=self._asking.reopen_failed)
        )
        opening.add_done_callback(self._opened)
        await asyncio.wait({opening})
        return opening.result()

    async def settle(self) -> None:
        """Until a slice that was being opened when the feed was cancelled is open and known."""
        if self._opening is not None:
            await asyncio.wait({self._opening})
            await asyncio.sleep(0)  # its callback runs

    def _opened(self, opening: asyncio.Task[SliceWork]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._publisher.opened(opening.result())
