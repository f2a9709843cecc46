"""How the stored answer to one row becomes the answer to another row that asks the same.

Belongs here: reading it, looking whether it is good, the entry about the other row. Not here: who may have it
(reuse.py).

The answer to a chat is copied whole. The answer to a call for vectors holds those of hundreds of rows: it is decoded
once, then its vectors lie in a file (vectors_aside.py), and each row that uses one gets a copy of that vector alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from batch_llm.engine.answerers import FALLBACK
from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.rows import HASHES, vector_entry
from batch_llm.engine.vectors_aside import VectorsAside
from batch_llm.errors import JournalError
from batch_llm.journal.answer_index import Found, Slice
from batch_llm.journal.base import POINTER, Entry, EntryKind, RunStore

__all__ = ["AnswerCopies", "Copies", "VectorCopies", "Wanted"]

Wanted = tuple[str, Found]
"""A request's hash, and where its answer is said to stand."""


class Copies(Protocol):
    """Entries of the kind CACHED, without a time, for rows that need not be asked."""

    def of(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, Entry]:
        """For a row yet to be named; missing where no good answer to that very request stands. Blocking."""
        ...

    def twin(self, row: int, request_hash: str, place: int, fallback: str | None) -> Entry:
        """For this row, of an answer in the slice's own journal."""
        ...

    def decoded(self, place: int, hashes: Sequence[str], vectors: Sequence[bytes]) -> None:
        """What stands in the slice's own journal is at hand: there will be copies of it."""
        ...


class AnswerCopies:
    """Implements `Copies` where a call asks one row."""

    def __init__(self, runs: RunStore, judge: AnyJudge) -> None:
        """``judge``: the job's own."""
        self._runs = runs
        self._judge = judge

    def of(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, Entry]:
        """See `Copies.of`."""
        answers = self._answers(found for _, found in wanted)
        copies: dict[Wanted, Entry] = {}
        for request_hash, found in wanted:
            entry = answers.get(found)
            if entry is not None and entry.request_hash == request_hash and self._is_good(entry):
                detail = {"run_id": found.owner.run_id}
                copies[request_hash, found] = Entry(
                    EntryKind.CACHED, -1, request_hash=request_hash, body=entry.body, detail=detail
                )
        return copies

    def _is_good(self, entry: Entry) -> bool:
        return entry.kind is EntryKind.ANSWER and self._judge.judge(entry.body).error_class is None

    def _answers(self, wanted: Iterable[Found]) -> dict[Found, Entry]:
        """The entries that the index points to, as far as they are there."""
        by_slice: dict[Slice, list[Found]] = {}
        for each in wanted:
            by_slice.setdefault(each.owner, []).append(each)
        answers: dict[Found, Entry] = {}
        for owner, places in by_slice.items():
            entries = self._runs.entries_at(owner.run_id, owner.number, [each.place for each in places])
            answers.update((each, entry) for each, entry in zip(places, entries, strict=True) if entry is not None)
        return answers

    def twin(self, row: int, request_hash: str, place: int, fallback: str | None) -> Entry:
        """See `Copies.twin`: it points to the other row's answer."""
        detail = {POINTER: place} if fallback is None else {POINTER: place, FALLBACK: fallback}
        return Entry(EntryKind.CACHED, row, request_hash=request_hash, detail=detail)

    def decoded(self, place: int, hashes: Sequence[str], vectors: Sequence[bytes]) -> None:
        """See `Copies.decoded`: a pointer needs none of it."""


class VectorCopies:
    """Implements `Copies` where a call asks many rows for their vectors."""

    def __init__(self, runs: RunStore, judge: AnyJudge, owner: Slice, aside: VectorsAside) -> None:
        """``judge``: the job's own; ``owner``: the slice."""
        self._runs = runs
        self._judge = judge
        self._owner = owner
        self._aside = aside

    def of(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, Entry]:
        """See `Copies.of`."""
        copies: dict[Wanted, Entry] = {}
        read: Mapping[str, bytes] = {}
        read_call: Found | None = None
        for request_hash, call in sorted(set(wanted), key=lambda each: each[1]):
            vector = self._aside.get(call, request_hash)
            if vector is None:
                if read_call != call:
                    read, read_call = self._read(call), call
                vector = read.get(request_hash)
            if vector is not None:
                copies[request_hash, call] = vector_entry(-1, request_hash, vector, call.owner.run_id)
        return copies

    def _read(self, call: Found) -> Mapping[str, bytes]:
        """By request hash: the vectors of a call; none where no good answer stands."""
        entry = self._runs.entries_at(call.owner.run_id, call.owner.number, [call.place])[0]
        if entry is None or entry.kind is not EntryKind.ANSWER or HASHES not in entry.detail:
            return {}
        hashes: list[str] = entry.detail[HASHES]
        verdict = self._judge.judge(entry.body, len(hashes))
        if verdict.error_class is not None:
            return {}
        self._aside.add(call, hashes, verdict.vectors)
        return dict(zip(hashes, verdict.vectors, strict=True))

    def twin(self, row: int, request_hash: str, place: int, fallback: str | None) -> Entry:
        """See `Copies.twin`; raises `JournalError` where the answer is not there any more."""
        wanted = request_hash, Found(self._owner, place)
        copy = self.of([wanted]).get(wanted)
        if copy is None:
            raise JournalError(f"slice {self._owner.number} of run {self._owner.run_id}: no answer at byte {place}")
        return copy._replace(row=row)

    def decoded(self, place: int, hashes: Sequence[str], vectors: Sequence[bytes]) -> None:
        """See `Copies.decoded`."""
        self._aside.add(Found(self._owner, place), hashes, vectors)
