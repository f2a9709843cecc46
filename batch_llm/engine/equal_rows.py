"""Rows that wait for the answer to an equal row, which another slice, run or job is asking.

Belongs here: holding the waiting rows of all slices that one process works on, looking at them again, telling when a
slice has none of them any more. Not here: what the index says of a row (reuse.py), opening slices in turn (feed.py).

They keep no other row waiting, of their slice or a later one, as long as there is room for more of them. A look hands
out what is to be asked here after all. Whoever waits for one must have handed out what it had claimed: these rows, or
those of another process, may wait for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from batch_llm.clock import Clock
from batch_llm.engine.work import Work

if TYPE_CHECKING:
    from batch_llm.engine.slice_work import SliceWork

__all__ = ["EqualRows"]

LOOK_AGAIN_S = 0.5  # at what others are asking
WAITING_MAX = 1_000  # rows of all slices; then no more are read
WAITING_BYTES = 32 * 1024 * 1024  # of their prompts and images, likewise


class EqualRows:
    """The waiting rows of the slices that one process works on; in one event loop."""

    def __init__(self, clock: Clock) -> None:
        """None waits."""
        self._clock = clock
        self._works: list[Work] = []
        self._bytes = 0
        self._looked_at_s = clock.monotonic()
        self._handed_out: list[SliceWork] = []
        self.on_fed: Callable[[SliceWork], None] = lambda slice_work: None  # called when all its rows are handed out

    def add(self, work: Work) -> None:
        """This row waits."""
        self._works.append(work)
        self._bytes += work.held_bytes
        work.slice_work.asked_elsewhere += 1

    def handed_out(self, slice_work: SliceWork) -> None:
        """All rows of this slice were handed out, but for those that wait."""
        self._handed_out.append(slice_work)
        self._tell_fed()

    @property
    def any_waits(self) -> bool:
        """Whether there is something to look at."""
        return bool(self._works)

    @property
    def is_full(self) -> bool:
        """Whether no more rows may be read, for any might have to wait."""
        return len(self._works) >= WAITING_MAX or self._bytes >= WAITING_BYTES

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return bool(self._works) and self._clock.monotonic() - self._looked_at_s >= LOOK_AGAIN_S

    async def looked_later(self) -> list[Work]:
        """After a while: those of the waiting rows that are to be asked here after all."""
        await self._clock.sleep(LOOK_AGAIN_S)
        return await self.looked()

    async def looked(self) -> list[Work]:
        """Those of the waiting rows that are to be asked here after all, now."""
        self._looked_at_s = self._clock.monotonic()
        by_slice: dict[int, list[Work]] = {}
        for work in self._works:
            by_slice.setdefault(work.slice_work.number, []).append(work)
        self._works, self._bytes = [], 0
        to_ask: list[Work] = []
        for works in by_slice.values():
            slice_work = works[0].slice_work
            reused = await asyncio.to_thread(slice_work.reused, works)
            slice_work.asked_elsewhere -= len(works)
            slice_work.asked_by = set()
            to_ask.extend(slice_work.to_ask(reused))
        self._tell_fed()
        return to_ask

    def _tell_fed(self) -> None:
        fed = [slice_work for slice_work in self._handed_out if not slice_work.asked_elsewhere]
        self._handed_out = [slice_work for slice_work in self._handed_out if slice_work.asked_elsewhere]
        for slice_work in fed:
            slice_work.fed = True
            self.on_fed(slice_work)
