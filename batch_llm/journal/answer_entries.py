"""One user's entries in the answer index: where good answers stand, and who asks what right now.

Belongs here: the tables and their statements, each within a transaction of answer_file.py. Not here: files and faults
(answer_file.py), the newest entries in memory (answer_tail.py), what callers see (answer_index.py).

A request is known by a key, the first 64 bits of its hash: rows of 20 bytes, two requests in ten million share one with
a chance of 3 in a million, and whoever uses an answer compares the whole hash. Every user has tables of their own, so
no statement can reach another user's. A slice has a new number each time it is opened, so that a claim says which
process made it.

New answers are appended in batches (one row for hundreds: ``tail``), and brought into the large table many at a time,
in its order: there each would write a page of its own. Every process keeps the tail in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import orjson

from batch_llm.journal.answer_tail import Key, Place, SliceId, Tail, packed, unpacked

__all__ = ["MERGED_AT_ONCE", "NOWHERE", "SCHEMA", "Entries", "ToMerge", "erase_some", "hide"]

TAIL_ROWS = 65_536
MERGED_AT_ONCE = 8_192  # one transaction's worth: others wait for some ten milliseconds
NOWHERE = (1 << 48) - 1  # in the place's stead: the answer that was known does not hold
BATCH_ROWS = 512
ERASED_BATCHES = 16  # in one transaction

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, merged INTEGER NOT NULL DEFAULT 0);
CREATE TABLE slices (id INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER NOT NULL, run_id TEXT NOT NULL,
    number INTEGER NOT NULL);
CREATE INDEX slices_of_run ON slices (run_id);
CREATE TABLE forgotten (slice INTEGER PRIMARY KEY, user INTEGER NOT NULL);
CREATE TABLE life (erasures INTEGER NOT NULL);
INSERT INTO life VALUES (0)
"""

USER_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers_{user} (key INTEGER PRIMARY KEY, slice INTEGER NOT NULL, place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batches_{user} (id INTEGER PRIMARY KEY AUTOINCREMENT, slice INTEGER NOT NULL,
    entries BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS batches_{user}_of_slice ON batches_{user} (slice);
CREATE TABLE IF NOT EXISTS claims_{user} (key INTEGER PRIMARY KEY, slice INTEGER NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class ToMerge:
    """What is to be brought into the large table."""

    entries: Tail
    state: tuple[int, int]
    last_batch: int


class Entries:
    """One user's entries through one connection; every method needs an open transaction."""

    def __init__(self, connection: sqlite3.Connection, user: str) -> None:
        """Makes the user's tables when they are not there yet."""
        self._connection = connection
        connection.execute("INSERT OR IGNORE INTO users (name) VALUES (?)", (user,))
        self._user: int = connection.execute("SELECT id FROM users WHERE name = ?", (user,)).fetchone()[0]
        for step in USER_SCHEMA.format(user=self._user).split(";"):  # `executescript` would end the transaction
            connection.execute(step)
        self._tail = Tail()
        self._tail_state = (-1, -1)  # what it was read after: merged up to this batch, so many erasures
        self._seen = 0  # the last batch in it
        self._answers, self._batches, self._claims = (f"{it}_{self._user}" for it in ("answers", "batches", "claims"))

    # ---- slices

    def opened(self, run_id: str, number: int) -> SliceId:
        """A new number for a slice that was opened just now."""
        said = (self._user, run_id, number)
        cursor = self._connection.execute("INSERT INTO slices (user, run_id, number) VALUES (?, ?, ?)", said)
        if cursor.lastrowid is None:
            raise sqlite3.DatabaseError("a row without a number")
        return cursor.lastrowid

    def slices(self, ids: Iterable[SliceId]) -> dict[SliceId, tuple[str, int]]:
        """(run, number) of these slices; those of forgotten runs are missing."""
        sql = f"SELECT id, run_id, number FROM slices WHERE id IN {_LISTED}"
        return {row[0]: (row[1], row[2]) for row in self._connection.execute(sql, (_list(set(ids)),))}

    # ---- answers

    def find(self, keys: Sequence[Key]) -> dict[Key, Place]:
        """Where the good answers to these requests stand, as far as they are known."""
        self._read_tail()
        found = self._tail.find(keys)
        rest = [key for key in keys if key not in found]
        for key, slice_id, place in self._rows(self._answers, "key, slice, place", rest):
            found[key] = (slice_id, place)
        for key in [key for key, (_, place) in found.items() if place == NOWHERE]:
            del found[key]
        return found

    def add(self, slice_id: SliceId, keys: Sequence[Key], places: Sequence[int]) -> None:
        """These requests have good answers in this slice; nobody asks them any more."""
        self._unclaim(keys)
        for start in range(0, len(keys), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            said = (slice_id, packed(keys[part], places[part]))
            self._connection.execute(f"INSERT INTO {self._batches} (slice, entries) VALUES (?, ?)", said)
        self._read_tail()

    def disown(self, slice_id: SliceId, key: Key) -> None:
        """This request has no good answer, whatever was said; noted by this slice, which goes when its run does."""
        self.add(slice_id, [key], [NOWHERE])

    def counts(self) -> tuple[int, int]:
        """(good answers, claims)."""
        self._read_tail()
        in_table = self._count(self._answers, f"WHERE place <> {NOWHERE}")
        replaced = sum(place != NOWHERE for _, place in self._rows(self._answers, "key, place", self._tail.keys()))
        return in_table - replaced + self._tail.count_without(NOWHERE), self._count(self._claims)

    # ---- claims

    def claims(self, keys: Sequence[Key]) -> dict[Key, SliceId]:
        """Who asks these requests right now."""
        return {row[0]: row[1] for row in self._rows(self._claims, "key, slice", keys)}

    def claim(self, keys: Iterable[Key], slice_id: SliceId) -> None:
        """This slice asks these requests, whoever did before."""
        sql = f"INSERT OR REPLACE INTO {self._claims} SELECT value, ? FROM json_each(?)"
        self._connection.execute(sql, (slice_id, _list(keys)))

    def unclaim_of(self, slice_id: SliceId, keys: Sequence[Key] | None) -> None:
        """This slice asks none of these requests any more; None: nothing at all. The claims of others stay."""
        if keys is None:  # looks through all of them: there are as many as rows in flight
            self._connection.execute(f"DELETE FROM {self._claims} WHERE slice = ?", (slice_id,))
            return
        sql = f"DELETE FROM {self._claims} WHERE key IN {_LISTED} AND slice = ?"
        self._connection.execute(sql, (_list(keys), slice_id))

    def _unclaim(self, keys: Iterable[Key]) -> None:
        sql = f"DELETE FROM {self._claims} WHERE key IN {_LISTED}"
        self._connection.execute(sql, (_list(keys),))

    # ---- the tail

    def is_tail_long(self) -> bool:
        """Whether it is time to bring the tail into the large table; needs no transaction."""
        return len(self._tail) >= TAIL_ROWS

    def tail(self) -> ToMerge:
        """The tail as it is now, for `merge`."""
        self._read_tail()
        return ToMerge(self._tail, self._tail_state, self._seen)

    def merge(self, tail: ToMerge, start: int) -> bool:
        """Bring in some thousand entries from this position on; False: the tail is no longer what it was."""
        if self._state() != tail.state:
            return False
        part = tail.entries.part(start, MERGED_AT_ONCE)
        self._connection.executemany(f"INSERT OR REPLACE INTO {self._answers} VALUES (?, ?, ?)", part)
        return True

    def merged(self, tail: ToMerge) -> None:
        """All of this tail is brought in: it begins anew after it, for every process."""
        if self._state() == tail.state:
            self._connection.execute("UPDATE users SET merged = ? WHERE id = ?", (tail.last_batch, self._user))

    def _read_tail(self) -> None:
        """Take in what other processes appended since the last look, and this one."""
        state = self._state()
        if state != self._tail_state:
            self._tail, self._tail_state, self._seen = Tail(), state, state[0]
        sql = f"SELECT id, slice, entries FROM {self._batches} WHERE id > ? {_LIVE} ORDER BY id"
        batches = self._connection.execute(sql, (self._seen,)).fetchall()
        if batches:
            self._tail = self._tail.with_batches((slice_id, entries) for _, slice_id, entries in batches)
            self._seen = batches[-1][0]

    def _state(self) -> tuple[int, int]:
        sql = "SELECT merged, erasures FROM users, life WHERE users.id = ?"
        merged, erasures = self._connection.execute(sql, (self._user,)).fetchone()
        return merged, erasures

    # ---- statements

    def _rows(self, table: str, columns: str, keys: Collection[Key]) -> list[tuple[int, ...]]:
        if not keys:
            return []
        sql = f"SELECT {columns} FROM {table} WHERE key IN {_LISTED}"
        return self._connection.execute(sql, (_list(keys),)).fetchall()

    def _count(self, table: str, where: str = "") -> int:
        found: int = self._connection.execute(f"SELECT COUNT(*) FROM {table} {where}").fetchone()[0]
        return found


def hide(connection: sqlite3.Connection, run_id: str) -> None:
    """Nothing that leads into this run can be found any more, by nobody; `erase_some` then erases it."""
    slices = connection.execute("SELECT id, user FROM slices WHERE run_id = ?", (run_id,)).fetchall()
    connection.executemany("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", slices)
    connection.execute("DELETE FROM slices WHERE run_id = ?", (run_id,))
    connection.execute("UPDATE life SET erasures = erasures + 1")


def erase_some(connection: sqlite3.Connection) -> bool:
    """Erase some thousand entries of forgotten runs; whether any was left. Goes on where a killed process stopped."""
    found = connection.execute("SELECT slice, user FROM forgotten LIMIT 1").fetchone()
    if found is None:
        return False
    slice_id, user = found
    sql = f"SELECT id, entries FROM batches_{user} WHERE slice = ? ORDER BY id LIMIT {ERASED_BATCHES}"
    batches = connection.execute(sql, (slice_id,)).fetchall()
    keys = sorted({key for _, entries in batches for key in unpacked(entries)[0].tolist()})
    rows = [(key, slice_id) for key in keys]  # a key that leads elsewhere by now stays
    connection.executemany(f"DELETE FROM answers_{user} WHERE key = ? AND slice = ?", rows)
    connection.executemany(f"DELETE FROM batches_{user} WHERE id = ?", [(batch,) for batch, _ in batches])
    if not batches:
        connection.execute(f"DELETE FROM claims_{user} WHERE slice = ?", (slice_id,))
        connection.execute("DELETE FROM forgotten WHERE slice = ?", (slice_id,))
    return True


_LISTED = "(SELECT value FROM json_each(?))"  # one statement for all: each one lets another thread have Python
_LIVE = "AND slice NOT IN (SELECT slice FROM forgotten)"  # else a merge could bring in again what is being erased


def _list(numbers: Iterable[int]) -> str:
    """For `_LISTED`; in order, as the tables are."""
    return orjson.dumps(sorted(numbers)).decode()
