"""Answers that one open slice need not pay for: of the same request in an earlier row, another slice, run or job.

Belongs here: what is asked of the index, checking what it says, rows that wait for the answer of another row. Not here:
the index (journal/answer_index.py), answers of the same key in the output table (prior.py).

A row asks only what nobody of its user asks now or has a good answer to. Of equal rows in one slice the first is asked,
the others are its twins: they get its answer, or its failure. A row that another slice is asking waits for that one's
end; if its process dies, this slice asks. What a model of `fallback` answered is an answer to another request: the
row's twins have it, for they are rows of the same job, and nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from batch_llm.engine.answerers import FALLBACK
from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.work import Work
from batch_llm.journal.answer_index import Answered, AnswerIndex, Found, Mine, Slice, Theirs
from batch_llm.journal.base import POINTER, Entry, EntryKind, RunStore

__all__ = ["Elsewhere", "Reuse", "Sharing", "Twin"]


@dataclass(frozen=True, slots=True)
class Twin:
    """A row that asks what an earlier row of this slice asks."""

    work: Work


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A row whose request another slice is asking."""

    work: Work
    run_id: str  # of that slice


class Sharing(Protocol):
    """What one open slice need not pay for. `look`, `register` and `close` block; the rest is of the event loop."""

    def look(self, works: Sequence[Work], at: datetime) -> Iterator[Work | Entry | Twin | Elsewhere]:
        """For each of these rows: it is to be asked, it has an answer (noted at ``at``), or it waits for one."""
        ...

    def leads(self, work: Work) -> None:
        """The row is handed out: equal ones wait for it."""
        ...

    def join(self, twin: Work) -> Entry | bool:
        """A twin's answer if it is there already; else whether it waits for its leader (False: look again)."""
        ...

    def ended(self, work: Work, place: int | None, failure: dict[str, str]) -> list[Entry]:
        """A row that was handed out ended; what is to be noted of its twins. ``place``: of its good answer."""
        ...

    def register(self) -> None:
        """Tell others what ended since the last call."""
        ...

    def close(self) -> None:
        """The slice is closed: what it did not ask, others may."""
        ...


class Reuse:
    """Implements `Sharing` where each call asks one row: by the index, with all slices, runs and jobs of the user."""

    def __init__(self, index: AnswerIndex, runs: RunStore, judge: AnyJudge, owner: Slice) -> None:
        """``owner``: the slice, whose journal is open."""
        self._index = index
        self._runs = runs
        self._judge = judge
        self._owner = owner
        self._leaders: dict[str, list[int]] = {}  # request hash of a row on its way: its twins
        self._recent: dict[str, int] = {}  # request hash: place of a good answer that the index does not know yet
        self._news: list[tuple[str, int | None]] = []  # for the index: where the answer is; None: there is none

    # -- in a thread -------------------------------------------------------------------------------------------------

    def look(self, works: Sequence[Work], at: datetime) -> Iterator[Work | Entry | Twin | Elsewhere]:
        """See `Sharing.look`."""
        claimed = self._index.claim([work.request_hash for work in works], self._owner)
        answers = self._answers([said for said in claimed if isinstance(said, Found)])
        for work, said in zip(works, claimed, strict=True):
            if isinstance(said, Mine):
                yield work
            elif isinstance(said, Theirs):
                yield self._asked_by(work, said)
            else:
                yield self._found(work, said, answers.get(said), at)

    def _asked_by(self, work: Work, theirs: Theirs) -> Work | Twin | Elsewhere:
        if theirs.owner == self._owner:
            return Twin(work)
        if self._runs.is_busy(theirs.owner.run_id, theirs.owner.number):
            return Elsewhere(work, theirs.owner.run_id)
        taken = self._index.take_over(work.request_hash, theirs, self._owner)  # its process is dead
        return work if taken else Elsewhere(work, theirs.owner.run_id)

    def _answers(self, found: Iterable[Found]) -> dict[Found, Entry]:
        """The entries that the index points to, as far as they are there."""
        by_slice: dict[Slice, list[Found]] = {}
        for each in found:
            by_slice.setdefault(each.owner, []).append(each)
        answers: dict[Found, Entry] = {}
        for owner, places in by_slice.items():
            entries = self._runs.entries_at(owner.run_id, owner.number, [each.place for each in places])
            answers.update((each, entry) for each, entry in zip(places, entries, strict=True) if entry is not None)
        return answers

    def _found(self, work: Work, found: Found, entry: Entry | None, at: datetime) -> Work | Entry | Elsewhere:
        """The answer, if it really is one to this request and good by this job's own judgement."""
        good = (
            entry is not None
            and entry.kind is EntryKind.ANSWER
            and entry.request_hash == work.request_hash
            and self._judge.judge(entry.body).error_class is None
        )
        if good and entry is not None:
            detail = {"run_id": found.owner.run_id}
            return Entry(
                EntryKind.CACHED, work.row, at=at, request_hash=work.request_hash, body=entry.body, detail=detail
            )
        mine = self._index.wrong(work.request_hash, found, self._owner)
        return work if mine else Elsewhere(work, found.owner.run_id)

    def replayed(self, answers: Iterable[tuple[str, int]]) -> None:
        """Good answers that this slice's journal holds already: a crash may have kept them from the index."""
        known = [Answered(request_hash, self._owner, place) for request_hash, place in answers]
        if known:
            self._index.answered(known, replayed=True)

    def register(self) -> None:
        """See `Sharing.register`."""
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
        """See `Sharing.close`."""
        self.register()
        self._index.release(self._owner)

    # -- in the event loop -------------------------------------------------------------------------------------------

    def leads(self, work: Work) -> None:
        """See `Sharing.leads`."""
        self._leaders[work.request_hash] = []

    def join(self, twin: Work) -> Entry | bool:
        """See `Sharing.join`."""
        place = self._recent.get(twin.request_hash)
        if place is not None:
            return _pointing(twin.row, twin.request_hash, place, None)
        leader = self._leaders.get(twin.request_hash)
        if leader is None:
            return False
        leader.append(twin.row)
        return True

    def ended(self, work: Work, place: int | None, failure: dict[str, str]) -> list[Entry]:
        """See `Sharing.ended`."""
        request_hash, shared = work.request_hash, place if work.fallback is None else None
        twins = self._leaders.pop(request_hash, [])
        if shared is not None:
            self._recent[request_hash] = shared
        self._news.append((request_hash, shared))
        if place is not None:
            return [_pointing(row, request_hash, place, work.fallback) for row in twins]
        return [Entry(EntryKind.FAILED, row, request_hash=request_hash, detail=failure) for row in twins]


def _pointing(row: int, request_hash: str, place: int, fallback: str | None) -> Entry:
    """The answer of another row of this journal."""
    detail = {POINTER: place} if fallback is None else {POINTER: place, FALLBACK: fallback}
    return Entry(EntryKind.CACHED, row, request_hash=request_hash, detail=detail)
