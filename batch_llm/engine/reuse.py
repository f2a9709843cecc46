"""Answers that one open slice need not pay for: of the same request in an earlier row, another slice, run or job.

Belongs here: what is asked of the index, rows that wait for the answer of another row. Not here: the index
(journal/answer_index.py), reading the answers (copies.py), answers of the same key in the output table (prior.py).

A row asks only what nobody of its user asks now or has a good answer to. Of equal rows in one slice the first is asked,
the others are its twins: they get its answer, or its failure. A row that another slice is asking waits for that one's
end; if its process dies, this slice asks. What a model of `fallback` answered is an answer to another request: the
row's twins have it, for they are rows of the same job, and nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from batch_llm.engine.copies import Copies
from batch_llm.engine.rows import HASHES
from batch_llm.engine.work import Work
from batch_llm.journal.answer_index import Answered, AnswerIndex, Found, Mine, Slice, Theirs
from batch_llm.journal.base import Entry, EntryKind, RunStore

__all__ = ["Elsewhere", "Reuse", "Twin"]


@dataclass(frozen=True, slots=True)
class Twin:
    """A row that asks what an earlier row of this slice asks."""

    work: Work


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A row whose request another slice is asking."""

    work: Work
    run_id: str  # of that slice


class Reuse:
    """What one open slice may use again. `look` and `register` block; the rest is of the event loop."""

    def __init__(self, index: AnswerIndex, runs: RunStore, copies: Copies, owner: Slice) -> None:
        """``owner``: the slice, whose journal is open."""
        self._index = index
        self._runs = runs
        self._copies = copies
        self._owner = owner
        self._leaders: dict[str, list[int]] = {}  # request hash of a row on its way: its twins
        self._recent: dict[str, int] = {}  # request hash: place of a good answer that the index does not know yet
        self._news: list[tuple[str, int | None]] = []  # for the index: where the answer is; None: there is none

    # -- in a thread -------------------------------------------------------------------------------------------------

    def look(self, works: Sequence[Work], at: datetime) -> Iterator[Work | Entry | Twin | Elsewhere]:
        """For each of these rows: it is to be asked, it has an answer (noted at ``at``), or it waits for one."""
        claimed = self._index.claim([work.request_hash for work in works], self._owner)
        asked = zip(works, claimed, strict=True)
        copies = self._copies.of([(work.request_hash, said) for work, said in asked if isinstance(said, Found)])
        for work, said in zip(works, claimed, strict=True):
            if isinstance(said, Mine):
                yield work
            elif isinstance(said, Theirs):
                yield self._asked_by(work, said)
            else:
                yield self._found(work, said, copies.get((work.request_hash, said)), at)

    def _asked_by(self, work: Work, theirs: Theirs) -> Work | Twin | Elsewhere:
        if theirs.owner == self._owner:
            return Twin(work)
        if self._runs.is_busy(theirs.owner.run_id, theirs.owner.number):
            return Elsewhere(work, theirs.owner.run_id)
        taken = self._index.take_over(work.request_hash, theirs, self._owner)  # its process is dead
        return work if taken else Elsewhere(work, theirs.owner.run_id)

    def _found(self, work: Work, found: Found, copy: Entry | None, at: datetime) -> Work | Entry | Elsewhere:
        """The answer; where no good one stands, the row itself."""
        if copy is not None:
            return copy._replace(row=work.row, at=at)
        mine = self._index.wrong(work.request_hash, found, self._owner)
        return work if mine else Elsewhere(work, found.owner.run_id)

    def replayed(self, answers: Iterable[tuple[str, int]]) -> None:
        """Good answers that this slice's journal holds already: a crash may have kept them from the index."""
        known = [Answered(request_hash, self._owner, place) for request_hash, place in answers]
        if known:
            self._index.answered(known, replayed=True)

    def register(self) -> None:
        """Tell the index what ended since the last call."""
        news, self._news = self._news, []
        good = [Answered(request_hash, self._owner, place) for request_hash, place in news if place is not None]
        if good:
            self._index.answered(good)
        failed = [request_hash for request_hash, place in news if place is None]
        if failed:
            self._index.release(self._owner, failed)
        for request_hash, _ in news:
            self._recent.pop(request_hash, None)

    def close(self) -> None:
        """The slice is closed: what it did not ask, others may."""
        self.register()
        self._index.release(self._owner)

    # -- in the event loop -------------------------------------------------------------------------------------------

    def leads(self, work: Work) -> None:
        """The row is handed out: equal ones wait for it, or for the one before it where the index fails meanwhile."""
        self._leaders.setdefault(work.request_hash, [])

    def join(self, twin: Work) -> Entry | bool:
        """A twin's answer if it is there already; else whether it waits for its leader (False: look again)."""
        place = self._recent.get(twin.request_hash)
        if place is not None:
            return self._copies.twin(twin.row, twin.request_hash, place, None)
        leader = self._leaders.get(twin.request_hash)
        if leader is None:
            return False
        leader.append(twin.row)
        return True

    def answered(self, entry: Entry, place: int, vectors: Sequence[bytes]) -> None:
        """A call for vectors was answered, which is not noted of any twin yet."""
        hashes: list[str] = entry.detail.get(HASHES, [])
        if any(self._leaders.get(request_hash) for request_hash in hashes):
            self._copies.decoded(place, hashes, vectors)

    def ended(self, work: Work, place: int | None, failure: dict[str, str]) -> Iterator[Entry]:
        """A row that was handed out ended; what is to be noted of its twins. ``place``: of its good answer."""
        request_hash, shared = work.request_hash, place if work.fallback is None else None
        twins = self._leaders.pop(request_hash, [])
        if shared is not None:
            self._recent[request_hash] = shared
        self._news.append((request_hash, shared))
        if place is None:
            return (Entry(EntryKind.FAILED, row, request_hash=request_hash, detail=failure) for row in twins)
        return (self._copies.twin(row, request_hash, place, work.fallback) for row in twins)
