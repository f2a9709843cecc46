"""Which requests of a user have a good answer in some journal, and which are being asked right now.

Belongs here: `AnswerIndex` and what it says. Not here: the answers (they stay in the journals), waiting for somebody
else's answer (engine), the tables (answer_entries.py), the file (answer_file.py).

It is an index, not a second copy: (user, request hash) -> (run, slice, place in that slice's journal), and no text. It
is a cache: whatever happens to it stops no run and loses nothing.

Whoever uses a hit must read the journal's entry at that place and compare its ``request_hash`` with the request: then
no fault here can become a wrong answer. A hit that does not hold is told with `wrong`, and asked as if it were unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple, TypeVar

from batch_llm.errors import JournalError
from batch_llm.journal.answer_entries import MERGED_AT_ONCE, NOWHERE, SCHEMA, Entries, erase_some, hide
from batch_llm.journal.answer_file import AnswerFile

__all__ = ["AnswerIndex", "AnswerStats", "Answered", "Claimed", "Found", "Mine", "Slice", "Theirs"]

Result = TypeVar("Result")

KEY_DIGITS = 16  # of the 32 hex digits of a request hash
KEY_OFFSET = 1 << 63  # SQLite's integers are signed


class Slice(NamedTuple):
    """One slice of one run; the caller has its journal open for writing whenever it acts as its owner."""

    run_id: str
    number: int  # 0-based


class Found(NamedTuple):
    """A good answer stands there; to be compared with the request before it is used."""

    owner: Slice
    place: int  # in the slice's journal, for `Journal.body`


@dataclass(frozen=True, slots=True)
class Mine:
    """Nobody asked this: the caller does now, and says how it ended (`answered` or `release`)."""


class Theirs(NamedTuple):
    """Somebody is asking this already; it may be the caller itself, for an earlier row."""

    owner: Slice
    opening: int  # which opening of that slice: for `take_over`


Claimed = Found | Mine | Theirs
MINE = Mine()


class Answered(NamedTuple):
    """A good answer that stands in a journal."""

    request_hash: str
    owner: Slice
    place: int


@dataclass(frozen=True, slots=True)
class AnswerStats:
    """How much a user's index holds."""

    answers: int
    claims: int
    file_bytes: int  # of all users


class AnswerIndex:
    """The index as one user sees it; synchronous, for any thread. All methods may be called in many processes at once.

    Attributes:
        off_because: Why it is not used any more; None while it is. An index that is off claims everything for the
            caller and remembers nothing, so that the run goes on as if there were none.
    """

    def __init__(self, path: Path, user: str, warn: Callable[[str], None]) -> None:
        """``path``: the file, made when it is first needed. ``warn`` hears, once, that it was set aside or is off."""
        self.off_because: str | None = None
        self._user = user
        self._warn = warn
        self._file = AnswerFile(path, SCHEMA, warn)
        self._entries: tuple[Connection, Entries] | None = None
        self._openings: dict[Slice, int] = {}

    def claim(self, request_hashes: Sequence[str], owner: Slice) -> list[Claimed]:
        """Per request, in order: where its answer is, or that the caller asks it now, or who does.

        What an earlier opening of the same slice asked is the caller's now: its process is dead, else the caller could
        not have the journal. What this opening asks already, in this call or an earlier one, is `Theirs` of itself.
        """

        def claim(entries: Entries) -> list[Claimed]:
            keys = [_key(given) for given in request_hashes]
            me = self._opening(entries, owner)
            return _claimed(entries, keys, me, owner)

        return self._forgiving(claim, [MINE] * len(request_hashes))

    def answered(self, answers: Iterable[Answered], *, replayed: bool = False) -> None:
        """These answers are good and stand in journals: they can be found from now on, and are claimed no more.

        ``replayed``: they may be known already, as when a slice is opened again; costs a look, saves the room.
        """
        by_owner: dict[Slice, dict[int, int]] = {}
        for one in answers:
            if 0 <= one.place < NOWHERE:  # else it cannot be found again
                by_owner.setdefault(one.owner, {})[_key(one.request_hash)] = one.place

        def add(entries: Entries) -> None:
            for owner, places in by_owner.items():
                wanted = _unknown(entries, places) if replayed else places
                if wanted:
                    entries.add(self._opening(entries, owner), list(wanted), list(wanted.values()))

        if by_owner:
            self._forgiving(add, None)
            self._shorten_tail()

    def release(self, owner: Slice, request_hashes: Sequence[str] | None = None) -> None:
        """The slice asks these requests no more, and has no good answer; None: it is closed, and asks nothing."""
        opening = self._openings.get(owner)
        if opening is None:
            return
        keys = None if request_hashes is None else [_key(given) for given in request_hashes]
        self._forgiving(lambda entries: entries.unclaim_of(opening, keys), None)
        if keys is None:
            self._openings.pop(owner, None)

    def take_over(self, request_hash: str, dead: Theirs, owner: Slice) -> bool:
        """Ask what a dead process asked; False when somebody else was quicker, or it is answered: then claim it again.

        ``dead``: as `claim` said. That its process is dead is told by the lock of the slice's journal. When the slice
        was opened again meanwhile, its claims are of another opening, and stay.
        """

        def take(entries: Entries) -> bool:
            key = _key(request_hash)
            me = self._opening(entries, owner)
            if entries.claims([key]).get(key) != dead.opening or entries.find([key]):
                return False
            entries.claim([key], me)
            return True

        return self._forgiving(take, True)

    def wrong(self, request_hash: str, found: Found, owner: Slice) -> bool:
        """A hit did not hold (its journal is gone, another request stands there): ask it; False as in `take_over`.

        The entry is not believed again: the answer that follows takes its place.
        """

        def drop(entries: Entries) -> bool:
            key = _key(request_hash)
            me = self._opening(entries, owner)
            known = entries.find([key]).get(key)
            if key in entries.claims([key]):
                return False
            if known is not None and (entries.slices([known[0]]).get(known[0]), known[1]) != found:
                return False
            entries.disown(me, key)
            entries.claim([key], me)
            return True

        return self._forgiving(drop, True)

    def forget(self, run_id: str) -> None:
        """Drop everything that leads into a run, so that nothing of it stays in the file; others go on meanwhile.

        Nobody may work on the run. Raises `JournalError` when the index cannot be changed: then nothing of the run may
        be erased yet. Killed in between: what is left can be found by nobody, and the next `forget` erases it.
        """
        if self._file.exists():
            self._file.transaction(lambda connection: hide(connection, run_id))
            while self._file.transaction(erase_some):
                pass
        self._file.erase_traces()

    def known(self, request_hashes: Sequence[str]) -> set[str]:
        """Those of these requests that have an answer; nothing is claimed, and no file is made."""
        if not self._file.exists():
            return set()

        def known(entries: Entries) -> set[str]:
            keys = {given: _key(given) for given in request_hashes}
            found = entries.find(list(dict.fromkeys(keys.values())))
            live = entries.slices(slice_id for slice_id, _ in found.values())
            return {given for given, key in keys.items() if key in found and found[key][0] in live}

        return self._forgiving(known, set())

    def stats(self) -> AnswerStats:
        """How much the user's index holds. Raises `JournalError` when it cannot be read."""
        answers, claims = self._file.transaction(lambda connection: self._of_user(connection).counts())
        return AnswerStats(answers, claims, self._file.size_bytes())

    def close(self) -> None:
        """Let go of the file; claims stay until `release`, or until somebody finds the caller dead."""
        self._file.close()

    # ---- within

    def _forgiving(self, action: Callable[[Entries], Result], otherwise: Result) -> Result:
        if self.off_because is None:
            try:
                return self._file.transaction(lambda connection: action(self._of_user(connection)))
            except JournalError as error:
                self._entries = None  # what it made in a transaction that failed is not there
                self._turn_off(str(error))
        return otherwise

    def _turn_off(self, why: str) -> None:
        if self.off_because is None:
            self.off_because = why
            self._warn(f"answers of other runs are not used again in this run: {why}")
        self._file.close()

    def _of_user(self, connection: Connection) -> Entries:
        if self._entries is None or self._entries[0] is not connection:  # another file: nothing holds that was read
            self._openings.clear()
            self._entries = (connection, Entries(connection, self._user))
        return self._entries[1]

    def _opening(self, entries: Entries, owner: Slice) -> int:
        known = self._openings.get(owner)
        if known is None or entries.slices([known]).get(known) != owner:  # its run may have been forgotten
            known = self._openings[owner] = entries.opened(*owner)
        return known

    def _shorten_tail(self) -> None:
        """Bring a long tail into the large table; by one process at a time, in steps that let others in between."""
        held = self._entries
        if held is None or not held[1].is_tail_long():
            return
        with suppress(JournalError), self._file.only_one("merging") as alone:  # the next call tries again
            if alone:
                self._merge(*held)

    def _merge(self, connection: Connection, entries: Entries) -> None:
        def step(action: Callable[[], Result]) -> Result | None:
            return self._file.transaction(lambda now: action() if now is connection else None)

        tail = step(entries.tail)
        if tail is None:
            return
        for start in range(0, len(tail.entries), MERGED_AT_ONCE):
            if not step(partial(entries.merge, tail, start)):
                return
        step(partial(entries.merged, tail))


def _claimed(entries: Entries, keys: Sequence[int], me: int, owner: Slice) -> list[Claimed]:
    """What `AnswerIndex.claim` says of each key, in order; the new ones are claimed for this opening."""
    distinct = list(dict.fromkeys(keys))
    found = entries.find(distinct)
    asked = entries.claims([key for key in distinct if key not in found])
    slices = entries.slices([*(slice_id for slice_id, _ in found.values()), *asked.values()])
    owners = {slice_id: Slice(*said) for slice_id, said in slices.items()}
    said: dict[int, Claimed] = {}
    for key, (slice_id, place) in found.items():
        if slice_id in owners:  # else its run is forgotten
            said[key] = Found(owners[slice_id], place)
    for key, slice_id in asked.items():
        if slice_id in owners and (slice_id == me or owners[slice_id] != owner):
            said[key] = Theirs(owners[slice_id], slice_id)
    mine = [key for key in distinct if key not in said]
    entries.claim(mine, me)
    result: list[Claimed] = []
    for key in keys:
        result.append(said.get(key, MINE))
        if key not in said:
            said[key] = Theirs(owner, me)  # an identical row further down waits for this one
    return result


def _unknown(entries: Entries, places: dict[int, int]) -> dict[int, int]:
    """Those of these answers for which none is known."""
    found = entries.find(list(places))
    live = entries.slices(slice_id for slice_id, _ in found.values())
    return {key: place for key, place in places.items() if key not in found or found[key][0] not in live}


def _key(request_hash: str) -> int:
    return int(request_hash[:KEY_DIGITS], 16) - KEY_OFFSET
