"""The rows of some slices, one slice after the other.

Belongs here: what a command asks of a run, opening its slices in turn, passing over those that another process works
on. Not here: calling (pipeline.py), waiting for the other process (engine.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

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
    """Hands out the rows of some slices, each opened when the one before is handed out."""

    def __init__(self, asking: Asking, publisher: Publisher, open_slice: OpenSlice) -> None:
        """``publisher`` hears of each slice that was opened, or found to be done."""
        self._asking = asking
        self._publisher = publisher
        self._open_slice = open_slice
        self._opening: asyncio.Task[SliceWork | StatusCounts] | None = None
        self.left = asking.limit
        self.cut_short = False
        self.busy: list[int] = []  # slices that another process works on

    async def works(self) -> AsyncGenerator[Work]:
        """Every row that is still to be asked."""
        for number in self._asking.numbers:
            if self.left == 0:
                self.cut_short = True
                return
            slice_work = await self._open(number)
            if slice_work is None:
                continue
            async with aclosing(slice_work.works()) as works:
                async for work in works:
                    if self.left is not None and self.left < work.count:
                        slice_work.outstanding -= work.count - self.left
                        self.cut_short = True
                        rows, self.left = work.rows()[: self.left], 0
                        if rows:
                            yield Work.together(rows, row_is_request=work.row_is_request)
                        return
                    if self.left is not None:
                        self.left -= work.count
                    yield work
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
