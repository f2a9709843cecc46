"""Equal rows of one slice of an embedding job: the first is asked, the others are its twins and have its vector.

Belongs here: which row is asked, who waits for whom, what is noted of a twin. Not here: jobs of one row per call, whose
answers serve other slices, runs and jobs as well (reuse.py).

The answer to a call holds the vectors of hundreds of rows: too much to be read for single rows of another slice. Within
the slice it is read once, then its vectors lie in a file (vectors_aside.py), and a twin's own entry holds its vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from batch_llm.engine.reuse import Twin
from batch_llm.engine.rows import Rows, vector_entry
from batch_llm.engine.vectors_aside import VectorsAside
from batch_llm.engine.work import Work
from batch_llm.journal.base import Entry, EntryKind, Journal

__all__ = ["EqualTexts"]


class EqualTexts:
    """Implements `Sharing` for one open slice."""

    def __init__(self, rows: Rows, journal: Journal, folder: Path | None) -> None:
        """``rows``: of the slice, whose journal is open. ``folder``: for what is set aside, see `VectorsAside`."""
        self._rows = rows
        self._journal = journal
        self._first: dict[bytes, int] = {}  # request hash: the row that asks it, or did and has the answer
        self._leaders: dict[str, list[int]] = {}  # request hash of a row on its way: its twins
        self._last: tuple[int, Mapping[int, bytes]] = (-1, {})  # place of a call that ended: the vectors of its rows
        self._aside = VectorsAside(folder)

    def replayed(self, answers: Iterable[tuple[str, int]]) -> None:
        """(request hash, row) of rows that have good answers already."""
        for request_hash, row in answers:
            self._first.setdefault(bytes.fromhex(request_hash), row)

    # -- in a thread -------------------------------------------------------------------------------------------------

    def look(self, works: Sequence[Work], at: datetime) -> Iterator[Work | Entry | Twin]:
        """See `Sharing.look`."""
        answered: dict[int, list[tuple[Work, int]]] = {}  # by the place of the answer: the twin, its leader
        for work in works:
            first = self._first.setdefault(bytes.fromhex(work.request_hash), work.row)
            place = self._rows.good_place(first)
            if first == work.row:
                yield work
            elif place < 0:
                yield Twin(work)
            else:
                answered.setdefault(place, []).append((work, first))
        for place, twins in sorted(answered.items()):
            vectors: Mapping[int, bytes] = {}
            for work, first in twins:
                vector = vectors.get(first) or self._aside.get(first)
                if vector is None:
                    vectors = self._vectors(place)
                    self._aside.add(vectors)
                    vector = vectors[first]
                yield vector_entry(work.row, work.request_hash, vector)._replace(at=at)

    def _vectors(self, place: int) -> Mapping[int, bytes]:
        return self._rows.vectors(self._journal.entries_at([place])[0])

    # -- in the event loop -------------------------------------------------------------------------------------------

    def leads(self, work: Work) -> None:
        """See `Sharing.leads`."""
        self._leaders[work.request_hash] = []

    def join(self, twin: Work) -> Entry | bool:
        """See `Sharing.join`."""
        leader = self._leaders.get(twin.request_hash)
        if leader is not None:
            leader.append(twin.row)
            return True
        first = self._first.get(bytes.fromhex(twin.request_hash))
        place = -1 if first is None else self._rows.good_place(first)
        if first is None or place < 0:
            return False
        return vector_entry(twin.row, twin.request_hash, self._vector(first, place))

    def ended(self, work: Work, place: int | None, failure: dict[str, str]) -> list[Entry]:
        """See `Sharing.ended`."""
        twins = self._leaders.pop(work.request_hash, [])
        if place is None:
            self._first.pop(bytes.fromhex(work.request_hash), None)  # an equal row that comes later asks anew
            return [Entry(EntryKind.FAILED, row, request_hash=work.request_hash, detail=failure) for row in twins]
        vector = self._vector(work.row, place) if twins else b""
        return [vector_entry(row, work.request_hash, vector) for row in twins]

    def _vector(self, row: int, place: int) -> bytes:
        known = self._aside.get(row)
        if known is not None:
            return known
        if self._last[0] != place:  # the rows of a call end together
            self._last = (place, self._vectors(place))
        return self._last[1][row]

    def register(self) -> None:
        """See `Sharing.register`: nobody else hears of it."""

    def close(self) -> None:
        """See `Sharing.close`."""
        self._aside.close()
