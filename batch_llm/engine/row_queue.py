"""The rows that wait to be sent: first those to be asked again that are due, then those never asked.

Belongs here: reading ahead, order, how long a row waits for its next turn, which of several pools a row waits for. Not
here: limits, money, calls (pipeline.py), why a row is asked again (retry.py).

Where several pools take rows, each lists other ones, so that none is asked for twice: a row stands in that pool's claim
until it is sent. A pool for which no row is left lists those of the others as well, from their end: whichever limit
lets one of them go first has it. So what waits for a pool that is paused or away keeps nobody waiting.

Rows whose last call failed, by their own fault or the provider's, stand in a line of their own: a pool that is away is
probed with them last, and each time with another one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice

from batch_llm.clock import Clock
from batch_llm.engine.window import Standing
from batch_llm.engine.work import Work

__all__ = ["Claim", "Lines", "RowQueue"]

LISTED_MAX = 64  # rows shown to the limiter in one call: more of them would be copied more often than sent
AHEAD_BYTES = 32 * 1024 * 1024  # of prompts and images read and never sent: rows may be of a megabyte each
AGAIN_MAX, AGAIN_BYTES = 1_000, 32 * 1024 * 1024  # rows that wait to be asked again; then nothing new is sent


@dataclass(slots=True, eq=False)
class Lines:
    """Rows that may be sent now."""

    due: deque[Work] = field(default_factory=deque)  # again: after a 429, a bad answer, a pool that was closed
    failing: deque[Work] = field(default_factory=deque)  # again: after a failure that may be the row's own
    fresh: deque[Work] = field(default_factory=deque)

    def in_turn(self, to: Standing = Standing.THERE) -> tuple[deque[Work], ...]:
        """The lines, the first one first; where the provider is away, what is asked is whether it answers anybody."""
        return (self.due, self.fresh, self.failing) if to is Standing.AWAY else (self.due, self.failing, self.fresh)

    def rows(self) -> list[Work]:
        """All of them, in turn."""
        return [*self.due, *self.failing, *self.fresh]


@dataclass(slots=True, eq=False)
class Claim(Lines):
    """The rows that one of several pools waits for; they stand in no other line meanwhile."""

    pool: str = ""


class RowQueue:
    """The rows of one pipeline; in one event loop."""

    def __init__(self, clock: Clock) -> None:
        """Empty."""
        self._clock = clock
        self._later: list[tuple[float, int, Work]] = []  # a heap: due at (monotonic), order, row
        self._again: dict[int, int] = {}  # every row that waits to be asked again, by its id: its bytes
        self._again_bytes = 0
        self._lines = Lines()
        self._fresh = self._lines.fresh
        self._fresh_bytes = 0
        self._claims: list[Claim] = []
        self._order = count()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.all_read = False

    def wake(self) -> None:
        """Something changed outside: a call ended, a slice was closed."""
        self._news.set()
        self._room.set()

    def again(self, work: Work, delay_s: float) -> None:
        """This row is to be sent again, so many seconds from now at the earliest."""
        heapq.heappush(self._later, (self._clock.monotonic() + delay_s, next(self._order), work))
        self._again[id(work)] = work.held_bytes
        self._again_bytes += work.held_bytes
        self._news.set()

    def listed(self, room: int, to: Standing = Standing.THERE) -> list[Work]:
        """The next rows that may be sent now, in order; they stay until `sent`.

        ``room``: how many more calls may be in flight. Rows that wait to be asked again take none; only where very many
        wait, nothing new is sent, and earlier ``to`` a provider that may be away. One that is away is probed.
        """
        if self._later:
            self._look_what_is_due()
        if room <= 0:
            return []
        most, lines = min(room, LISTED_MAX), self._lines
        if not self._again:
            return list(islice(lines.fresh, most))
        new = self._may_send_new(room, to)
        return list(islice(chain(*(line for line in lines.in_turn(to) if new or line is not lines.fresh)), most))

    def _may_send_new(self, room: int, to: Standing) -> bool:
        most = room if to is Standing.IN_DOUBT else AGAIN_MAX
        return to is Standing.AWAY or (len(self._again) < most and self._again_bytes < AGAIN_BYTES)

    def claim(self, pool: str) -> Claim:
        """For one of several pools; all of them list through `claimed` from then on."""
        claim = Claim(pool=pool)
        self._claims.append(claim)
        return claim

    def claimed(self, room: int, claim: Claim, to: Standing = Standing.THERE) -> list[Work]:
        """As `listed`, for one of several pools."""
        self.give_back(claim)
        if self._later:
            self._look_what_is_due()
        left = most = min(room, LISTED_MAX)
        lines, new = self._lines, self._may_send_new(room, to)
        for line, claimed in zip(lines.in_turn(to), claim.in_turn(to), strict=True):
            if new or line is not lines.fresh:
                self._claim(line, claimed, left, claim.pool)
                left -= len(claimed)
        return list(chain(*claim.in_turn(to))) or self._of_others(most, claim)

    def give_back(self, claim: Claim) -> None:
        """No row waits for this pool any more; the others may have them."""
        for line, claimed in zip(self._lines.in_turn(), claim.in_turn(), strict=True):
            line.extendleft(reversed(claimed))
            claimed.clear()

    @staticmethod
    def _claim(queue: deque[Work], claimed: deque[Work], most: int, pool: str) -> None:
        """Move the first rows that fit the pool; the others stay in their order."""
        passed_by: list[Work] = []
        while queue and len(claimed) < most:
            work = queue.popleft()
            (passed_by if pool in work.fits_not else claimed).append(work)
        queue.extendleft(reversed(passed_by))

    def _of_others(self, most: int, claim: Claim) -> list[Work]:
        """Rows that wait for other pools, the last ones first: they would go there last."""
        rows = [work for each in self._claims if each is not claim for work in each.rows()]
        fitting = [work for work in reversed(rows) if claim.pool not in work.fits_not]
        return fitting[: max(0, most)]

    def waits(self, work: Work, claim: Claim) -> bool:
        """Whether a row that `claimed` listed was not sent by another pool meanwhile."""
        return self._place_of(work, claim) is not None

    def take(self, work: Work, claim: Claim) -> bool:
        """A row that `claimed` listed is on its way (or has ended); False: another pool has it already."""
        place = self._place_of(work, claim)
        if place is None:
            return False
        line, at, is_fresh = place
        del line[at]
        self._left(work, is_fresh)
        return True

    def replace(self, work: Work, by: Sequence[Work]) -> None:
        """These are to be sent instead of a row that was listed and waits: where it stands, in this order."""
        place = self._place_of(work, self._lines)
        assert place is not None  # noqa: S101  it waits
        line, at, is_fresh = place
        del line[at]
        self._left(work, is_fresh)
        for each in reversed(by):
            line.insert(at, each)
            if is_fresh:
                self._fresh_bytes += each.held_bytes
            else:
                self._again[id(each)] = each.held_bytes
                self._again_bytes += each.held_bytes

    def _place_of(self, work: Work, lines: Lines) -> tuple[deque[Work], int, bool] | None:
        """Where the row waits to be sent now: at the head of these, of a claim, as nearly always, or anywhere.

        Also where its claim was given back meanwhile.
        """
        for each in (lines, *self._claims, self._lines):
            for line in each.in_turn():
                at = _index(line, work)
                if at is not None:
                    return line, at, line is each.fresh
        return None

    def sent(self, work: Work) -> None:
        """A listed row that stands first in its line is on its way (or has ended)."""
        lines, fresh = self._lines, self._fresh
        is_fresh = bool(fresh) and fresh[0] is work
        line = fresh if is_fresh else lines.due if lines.due and lines.due[0] is work else lines.failing
        taken = line.popleft()
        assert taken is work  # noqa: S101  rows are sent in the order they were listed in
        self._left(work, is_fresh)

    def _left(self, work: Work, is_fresh: bool) -> None:
        if is_fresh:
            self._fresh_bytes -= work.held_bytes
        else:
            self._again_bytes -= self._again.pop(id(work))
        self._room.set()

    def clear(self) -> None:
        """No row waits any more: all of them ended."""
        for each in (*self._claims, self._lines):
            for line in each.in_turn():
                line.clear()
        self._later.clear()
        self._again.clear()
        self._again_bytes = self._fresh_bytes = 0
        self.wake()

    def more(self, listed: int) -> bool:
        """Whether rows stand behind the first ``listed`` ones, as far as can be known."""
        lines = self._lines
        return not self.all_read or len(lines.due) + len(lines.failing) + len(lines.fresh) > listed

    @property
    def is_empty(self) -> bool:
        """Everything was read and nothing waits."""
        if not self.all_read or self._fresh or self._later or self._lines.due or self._lines.failing:
            return False
        return not any(claim.rows() for claim in self._claims)

    @property
    def waiting(self) -> list[Work]:
        """All rows that were read and are not under way."""
        claimed = [work for claim in self._claims for work in claim.rows()]
        return [*claimed, *self._lines.rows(), *(entry[2] for entry in self._later)]

    async def changed(self) -> None:
        """Until a row was read or is due again, or `wake`."""
        self._news.clear()
        alarm = None
        if self._later:
            alarm = self._clock.call_later(self._later[0][0] - self._clock.monotonic(), self._news.set)
        try:
            await self._news.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    async def read(self, works: AsyncIterator[Work], has_room: Callable[[], bool], ahead: Callable[[], int]) -> None:
        """Read all rows, as far as ``ahead`` of what is sent and memory allows, and only while ``has_room``."""
        while True:
            while len(self._fresh) >= ahead() or self._fresh_bytes >= AHEAD_BYTES or not has_room():
                self._room.clear()
                await self._room.wait()
            work = await anext(works, None)
            if work is None:
                break
            self._fresh.append(work)
            self._fresh_bytes += work.held_bytes
            self._news.set()
        self.all_read = True
        self._news.set()

    def _look_what_is_due(self) -> None:
        now_s = self._clock.monotonic()
        while self._later and self._later[0][0] <= now_s:
            work = heapq.heappop(self._later)[2]
            (self._lines.due if work.failure is None else self._lines.failing).append(work)


def _index(rows: deque[Work], work: Work) -> int | None:
    return next((at for at, one in enumerate(rows) if one is work), None)
