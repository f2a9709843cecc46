"""The rows of some slices, one slice after the other.

Belongs here: what a command asks of a run, opening its slices in turn, passing over those that another process works
on. Not here: calling (pipeline.py), waiting for the other process (engine.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from batch_llm.clock import Clock
from batch_llm.engine.equal_rows import EqualRows
from batch_llm.engine.publishing import Publisher
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.work import Work
from batch_llm.errors import JournalBusy
from batch_llm.warehouse.base import StatusCounts

__all__ = ["Asking", "Feed", "OpenSlice"]


@dataclass(frozen=True, slots=True)
class Asking:
    """What to ask: which slices, at most how many rows, and which failed rows once more."""

    numbers: list[int]
    limit: int | None = None
    reopen_below: Mapping[int, int] | None = None  # slice: journal bytes when the command came; see SliceWork.open
    alone: bool = False  # these slices only: what became of the run's others is neither looked up nor told

    def reopens(self, number: int) -> int | None:
        """What `SliceWork.open` is told for this slice."""
        return None if self.reopen_below is None else self.reopen_below.get(number, 0)


OpenSlice = Callable[[int, int | None], SliceWork | StatusCounts]
"""(slice, reopen_below): the open slice, or the stored counters of one where nothing is left; blocking."""


class Feed:
    """Hands out the rows of some slices, each opened when the one before is handed out.

    Rows that wait for the answer to an equal row, asked elsewhere, come when they are to be asked after all; meanwhile
    the next slices are handed out.
    """

    def __init__(self, asking: Asking, publisher: Publisher, open_slice: OpenSlice, clock: Clock) -> None:
        """``publisher`` hears of each slice that was opened, or found to be done, or whose rows all ended."""
        self._asking = asking
        self._publisher = publisher
        self._open_slice = open_slice
        self._opening: asyncio.Task[SliceWork | StatusCounts] | None = None
        self._equal_rows = EqualRows(clock)
        self._equal_rows.on_fed = self._fed
        self.left = asking.limit
        self.cut_short = False
        self.busy: list[int] = []  # slices that another process works on

    async def works(self) -> AsyncGenerator[Work]:
        """Every row that is still to be asked."""
        async with aclosing(self._all()) as works:
            async for work in works:
                if self.left is not None and self.left < work.count:
                    work.slice_work.outstanding -= work.count - self.left
                    work.slice_work.fed = False
                    self.cut_short = True
                    rows, self.left = work.rows()[: self.left], 0
                    if rows:
                        yield Work.together(rows, row_is_request=work.row_is_request)
                    return
                if self.left is not None:
                    self.left -= work.count
                yield work

    async def _all(self) -> AsyncGenerator[Work]:
        """The same, however many there may be."""
        waiting = self._equal_rows
        for number in self._asking.numbers:
            if self.left == 0:
                self.cut_short = True
                break
            while not self._publisher.may_open():
                for work in await waiting.looked_later():
                    yield work
            slice_work = await self._open(number)
            if slice_work is None:
                continue
            async with aclosing(self._of(slice_work)) as works:
                async for work in works:
                    yield work
            waiting.handed_out(slice_work)
        while waiting.any_waits:
            for work in await waiting.looked_later():
                yield work

    async def _of(self, slice_work: SliceWork) -> AsyncGenerator[Work]:
        """The rows of one slice, and between them those of earlier ones that have waited."""
        waiting = slice_work.equal_rows = self._equal_rows
        async with aclosing(slice_work.works()) as works:
            async for work in works:
                yield work
                if waiting.is_due:
                    for again in await waiting.looked():
                        yield again

    def _fed(self, slice_work: SliceWork) -> None:
        if not slice_work.outstanding:
            self._publisher.idle(slice_work)

    async def _open(self, number: int) -> SliceWork | None:
        """Open a slice; when cancelled meanwhile, it is open all the same and somebody knows of it.

        None: another process works on it, or did and nothing is left.
        """
        reopens = self._asking.reopens(number)
        opening = self._opening = asyncio.create_task(asyncio.to_thread(self._open_slice, number, reopens))
        opening.add_done_callback(self._opened)
        await asyncio.wait({opening})
        try:
            opened = opening.result()
        except JournalBusy:
            self.busy.append(number)
            return None
        if isinstance(opened, SliceWork):
            return opened
        self._publisher.found(number, opened)
        return None

    async def settle(self) -> None:
        """Until a slice that was being opened when the feed was cancelled is open and known."""
        if self._opening is not None:
            await asyncio.wait({self._opening})
            await asyncio.sleep(0)  # its callback runs

    def _opened(self, opening: asyncio.Task[SliceWork | StatusCounts]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            opened = opening.result()
            if isinstance(opened, SliceWork):
                self._publisher.opened(opened)
