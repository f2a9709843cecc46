"""Publishing slices while others are still asked.

Belongs here: which slices are open, publishing each when its rows ended. Not here: the rows themselves (publish.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from batch_llm.engine.events import NotPublished, SlicePublished
from batch_llm.engine.parts import Calling, JobParts, frozen_input
from batch_llm.engine.publish import Pending, output_batches
from batch_llm.engine.slice_work import SliceWork
from batch_llm.errors import JournalBusy, JournalError, WarehouseError
from batch_llm.journal.base import RunRecord
from batch_llm.warehouse.base import StatusCounts

__all__ = ["Publisher", "publish_slice"]

OPEN_SLICES_MAX = 8  # each keeps a journal open and the state of its rows in memory
GIVEN_UP_AFTER = 2  # failures in a row


def publish_slice(work: SliceWork, pending: Pending) -> None:
    """Write an open slice's rows to the warehouse; blocking, repeatable."""
    parts = work.parts
    frozen = frozen_input(work.record)
    first = next(parts.warehouse.read(frozen, work.number, batch_rows=1))
    schema = parts.output_schema(first.schema)
    work.sync()  # and its answers into the index: once it is marked nobody opens it for them
    parts.warehouse.publish(work.record.run_id, work.number, output_batches(work, pending), schema)
    parts.runs.mark_published(work.record.run_id, work.number)


class Publisher:
    """Publishes a run's slices in the background, one at a time; ``async with`` waits for all of them.

    A warehouse that fails does not keep rows from being asked: their answers are in the journal. Such a slice is closed
    and stands in ``failed``; publish it with `publish_rest` when all is asked.
    """

    def __init__(self, parts: JobParts, calling: Calling, record: RunRecord) -> None:
        """``record``: the run whose slices these are."""
        self._parts = parts
        self._calling = calling
        self._record = record
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen_live = False
        self.on_room: Callable[[], None] = lambda: None
        self.on_broken: Callable[[str, BaseException], None] = lambda _, __: None
        self.open_slices: dict[int, SliceWork] = {}
        self.waiting = 0  # slices whose rows all ended and that are not published yet
        self.stored: dict[int, StatusCounts] = {}  # of the slices published here, or found published
        self.failed: dict[int, StatusCounts] = {}  # of the slices that could not be published, by their journals
        self._told_failure = ""

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None:
            for error in ended:
                if isinstance(error, BaseException):
                    raise error

    def opened(self, work: SliceWork) -> None:
        """A slice's journal is open."""
        self.open_slices[work.number] = work

    def idle(self, work: SliceWork) -> None:
        """All rows of this slice ended: publish it in the background."""
        self.waiting += 1
        task = asyncio.create_task(self._publish_behind(work))
        task.add_done_callback(partial(self._ended, work.number))
        self._tasks.add(task)

    def may_open(self) -> bool:
        """Whether another slice may be opened: publishing must keep up with asking."""
        return len(self.open_slices) < OPEN_SLICES_MAX

    def has_room(self) -> bool:
        """Whether rows may be read; also where slices are open only because rows of theirs wait for others."""
        return self.may_open() or any(work.asked_elsewhere for work in self.open_slices.values())

    def found(self, number: int, counts: StatusCounts) -> None:
        """Another process published this slice, and nothing of it is left to ask."""
        self.stored[number] = counts
        self.failed.pop(number, None)

    async def publish_rest(
        self, numbers: list[int], open_slice: Callable[[int], SliceWork | StatusCounts], pending: Pending
    ) -> None:
        """Publish slices that were not asked, not wholly, or in vain: the rows without a result are pending.

        Those that another process works on are its own to publish. One that cannot be published does not keep the
        next from it; two in a row are a warehouse that fails. Raises the first failure.
        """
        failures: list[WarehouseError] = []
        in_a_row = 0
        for number in numbers:
            work = await self._opened_again(number, open_slice)
            if work is None:
                continue
            try:
                await self._publish(work, pending)
            except WarehouseError as failure:
                failures.append(failure)
                in_a_row += 1
                if in_a_row == GIVEN_UP_AFTER:
                    break
            else:
                in_a_row = 0
        if failures:
            raise failures[0]

    def event(self, number: int) -> SlicePublished:
        """What the stored rows of a slice say; one that another process still works on is pending."""
        rows = self._record.slice_rows[number]
        counts = self.stored.get(number, StatusCounts(rows=rows, pending=rows))
        return SlicePublished(
            self._record.run_id,
            number,
            len(self._record.slice_rows),
            counts.rows,
            counts.ok,
            counts.failed,
            counts.pending,
            counts.input_tokens,
            counts.output_tokens,
            counts.cost_usd,
        )

    def close(self) -> None:
        """Unlock all journals; blocking."""
        for work in self.open_slices.values():
            work.close()
        self.open_slices.clear()

    async def _opened_again(
        self, number: int, open_slice: Callable[[int], SliceWork | StatusCounts]
    ) -> SliceWork | None:
        """The slice, open; None when there is nothing to publish here."""
        if number in self.open_slices:
            return self.open_slices[number]
        try:
            opened = await asyncio.to_thread(open_slice, number)
        except JournalBusy:
            return None
        if isinstance(opened, SliceWork):
            self.opened(opened)
            return opened
        self.found(number, opened)
        return None

    async def _publish_behind(self, work: SliceWork) -> None:
        """Publish while others are asked; a failure is told, once as long as it stays the same."""
        try:
            await self._publish(work, Pending.because(None))
        except (WarehouseError, JournalError) as failure:
            self.failed[work.number] = work.counts()
            if str(failure) != self._told_failure:
                self._told_failure = str(failure)
                self._calling.tell(NotPublished(work.number, str(failure)))
        finally:
            self.waiting -= 1
            self.on_room()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        """Tell at once what nobody foresaw, without a word of the rows: nothing more is paid for a run that breaks."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        why = str(error) if isinstance(error, OSError) else f"{type(error).__name__} in batch_llm; please report it"
        self._calling.tell(NotPublished(number, why))
        self.on_broken(f"slice {number} cannot be published: {why}", error)

    async def _publish(self, work: SliceWork, pending: Pending) -> None:
        async with self._turn:
            try:
                await asyncio.to_thread(publish_slice, work, pending)
                if not self._seen_live:
                    self._seen_live = True
                    await asyncio.to_thread(self._parts.warehouse.live_view, self._record.run_id, self._parts.output)
                counts = await asyncio.to_thread(self._parts.warehouse.published, self._record.run_id, work.number)
                self.stored[work.number] = counts[work.number]
                self.failed.pop(work.number, None)
            finally:
                self.open_slices.pop(work.number, None)
                await asyncio.to_thread(work.close)
        self._calling.tell(self.event(work.number))
