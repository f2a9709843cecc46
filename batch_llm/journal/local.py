r"""A slice's journal in a local file.

Belongs here: the file format, healing, locking. Not here: what an entry means for a row (engine/rows.py).

One entry is written with one unbuffered write:

    <crc32 of the rest, 8 hex digits> <length of head> <length of body> <head: JSON><body: as it came>\\n

A process killed in the middle of a write leaves a torn tail; the next writer starts on a new line after it, and
readers skip it. An entry damaged later is skipped as well and costs nothing but itself and those that point to it.

An entry that points to an answer (`POINTER`) is believed only where a whole answer to its own request stands, and
skipped like a damaged one otherwise. It says where it was written, too: when a machine's entries are put behind those
of others (slice_objects.py), both of them move as far.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from batch_llm.errors import JournalBusy, JournalError, JournalFull
from batch_llm.folders import private_folder
from batch_llm.journal.base import NO_DETAIL, POINTER, Entry, EntryKind
from batch_llm.journal.disk import NO_ROOM, Reserve, disk_error
from batch_llm.journal.entry_bytes import next_line

__all__ = ["LocalJournal", "read_entries", "read_journal", "worker_of"]

_log = logging.getLogger(__name__)
LONGEST_PREFIX_BYTES = 8 + 1 + 10 + 1 + 12 + 1
WRITTEN_AT = "written_at"  # in the detail of an entry that points: its own place then
WORKER = ".worker"  # beside the journal: the process that writes it, for messages
READ_BYTES = 262_144
EARLIER_ONES = "every answer before this one is stored"
_KINDS = {kind.value: kind for kind in EntryKind}


class LocalJournal:
    """The one writer of a slice's journal file; a second one gets `JournalBusy`."""

    def __init__(self, path: Path, reserve: Reserve | None = None) -> None:
        """Open ``path`` for appending (made when absent) and lock it. ``reserve``: of its disk."""
        self.path = path
        self.failure: JournalError | None = None
        self._reserve = reserve
        self._closing = threading.Lock()
        self._damage_told = False
        self._file = -1
        with ExitStack() as failed:
            self._open(failed)
            failed.pop_all()

    def _open(self, failed: ExitStack) -> None:
        path = self.path
        try:
            private_folder(path.parent)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise disk_error(error, "open the journal", path.parent, EARLIER_ONES) from error
        failed.callback(os.close, self._file)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalBusy(_busy(path)) from None
        if self._reserve is not None:
            self._reserve.join()
            failed.callback(self._reserve.leave)
        with suppress(OSError):  # only for messages: a full disk shows when an answer is written
            path.with_suffix(WORKER).write_text(str(os.getpid()))
        self._size = os.fstat(self._file).st_size
        self._synced = self._size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            self._write(b"\n", self._reserve)  # isolate the torn tail of a killed writer

    def append(self, entry: Entry) -> int:
        """See `Journal.append`."""
        place = self._size
        if POINTER in entry.detail:
            entry = entry._replace(detail={**entry.detail, WRITTEN_AT: place})
        if entry.kind is not EntryKind.SENT:
            self._write(_encode(entry), self._reserve)
        elif self.failure is None:
            self._write(_encode(entry), None)  # an intent costs nothing yet: its call is not made
        else:
            raise self.failure
        return place

    def replay(self) -> Iterator[Entry]:
        """See `Journal.replay`; damage is told, once."""
        damaged, self._damage_told = not self._damage_told, True
        return read_journal(self.path, _tell_damage if damaged else None)

    def entries_at(self, places: Sequence[int]) -> list[Entry]:
        """See `Journal.entries_at`."""
        found = _whole_entries(self._file, places)
        missing = next((place for place in places if found[place] is None), None)
        if missing is not None:
            raise JournalError(f"{self.path.name}: no whole entry at byte {missing}")
        return [entry for place in places if (entry := found[place]) is not None]

    def size(self) -> int:
        """See `Journal.size`."""
        return self._size

    def sync(self) -> None:
        """See `Journal.sync`."""
        with self._closing:  # a sync in one thread and a close in another must not meet
            self._sync()

    def close(self) -> None:
        """See `Journal.close`; closing twice is harmless."""
        with self._closing:
            if self._file >= 0:
                try:
                    self._sync()
                finally:
                    os.close(self._file)
                    self._file = -1
                    if self._reserve is not None:
                        self._reserve.leave()

    def _sync(self) -> None:
        size = self._size
        if size != self._synced and self._file >= 0:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise disk_error(error, "write the journal", self.path.parent, EARLIER_ONES) from error
            self._synced = size

    def _write(self, data: bytes, reserve: Reserve | None) -> None:
        """Whole or not at all; on a full disk with the room of the ``reserve``, and `failure` says so."""
        while True:
            try:
                written = os.write(self._file, data)
            except OSError as error:
                full = disk_error(error, "write the journal", self.path.parent, EARLIER_ONES)
                if error.errno not in NO_ROOM:
                    raise full from error
            else:
                if written == len(data):
                    self._size += written
                    return
                os.ftruncate(self._file, self._size)
                full = JournalFull(f"the disk of {self.path.parent} is full; {EARLIER_ONES}")
            if reserve is None or not reserve.give(len(data)):
                raise full
            self.failure = JournalFull(
                f"the disk of {self.path.parent} is full; every answer that came is stored. "
                "Free some space and run the job again: it goes on where it stopped"
            )


def worker_of(path: Path) -> int | None:
    """The process that writes this journal, or did so last; None when that is not known."""
    try:
        return int(path.with_suffix(WORKER).read_text())
    except (FileNotFoundError, ValueError):
        return None


def _busy(path: Path) -> str:
    worker = worker_of(path)
    who = "another process" if worker is None else f"process {worker}"
    return f"slice {path.stem} of run {path.parent.parent.name} is being worked on by {who}"


def read_journal(path: Path, damaged: Callable[[Path, int], None] | None = None) -> Iterator[Entry]:
    """The whole entries of a journal file in order, without locking it; nothing when there is no file.

    ``damaged`` hears at the end how many entries were whole once and are not now; one that was torn is none.
    """
    if not path.exists():
        return
    file = os.open(path, os.O_RDONLY)
    try:
        reader, others, place, end = _Reader(file), _Reader(file), 0, os.fstat(file).st_size
        while place < end:
            found = reader.entry(place)
            if found is None:
                place = next_line(file, place, end)
                continue
            entry, place = found
            if POINTER not in entry.detail:
                yield entry
            elif (pointing := _with_body(entry, others)) is not None:
                yield pointing
        if damaged is not None and reader.damaged:
            damaged(path, reader.damaged)
    finally:
        os.close(file)


def read_entries(path: Path, places: Sequence[int]) -> list[Entry | None]:
    """The entries at these places, without locking the file; None where there is no whole one.

    Raises `JournalError` when the file is there and cannot be read.
    """
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            found = _whole_entries(file, places)
        finally:
            os.close(file)
    except FileNotFoundError:
        return [None] * len(places)
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be read: {error.strerror}") from error
    return [found[place] for place in places]


def _whole_entries(file: int, places: Sequence[int]) -> dict[int, Entry | None]:
    """The entries at these places, in the file's order; those that point with the body that they point to."""
    reader = _Reader(file)
    found = {place: None if (read := reader.entry(place)) is None else read[0] for place in sorted(set(places))}
    pointing = [entry for entry in found.values() if entry is not None and POINTER in entry.detail]
    for entry in sorted(pointing, key=lambda entry: entry.detail[POINTER]):
        found[entry.place] = _with_body(entry, reader)
    return found


def _with_body(entry: Entry, reader: _Reader) -> Entry | None:
    """An entry that points, with the body of the answer; None when no answer to its request is where it points."""
    place = entry.detail[POINTER]
    moved_bytes = entry.place - entry.detail.get(WRITTEN_AT, entry.place)
    for each in dict.fromkeys((place, place + moved_bytes)):
        found = reader.entry(each)
        if found is None:
            continue
        answer = found[0]
        if answer.kind is EntryKind.ANSWER and answer.request_hash == entry.request_hash:
            return entry._replace(body=answer.body)
    return None


class _Reader:
    """Reads entries through one buffer, so that entries near each other cost one read together."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._start = 0
        self._buffer = b""
        self.damaged = 0  # entries seen that have their length and another content

    def entry(self, place: int) -> tuple[Entry, int] | None:
        """The entry that begins at ``place`` and the place after it; None when there is no whole one."""
        at = self._loaded(place, LONGEST_PREFIX_BYTES)
        parts = self._buffer[at : at + LONGEST_PREFIX_BYTES].split(b" ", 3)
        if len(parts) != 4 or len(parts[0]) != 8 or not (parts[1].isdigit() and parts[2].isdigit()):
            return None
        head_bytes, body_bytes = int(parts[1]), int(parts[2])
        head_at = 9 + len(parts[1]) + 1 + len(parts[2]) + 1
        length = head_at + head_bytes + body_bytes + 1
        if length > READ_BYTES and place + length > os.fstat(self._file).st_size:
            return None  # damage may look like a length of gigabytes
        at = self._loaded(place, length)
        rest = self._buffer[at + 9 : at + length - 1]
        if len(self._buffer) < at + length or b"%08x" % zlib.crc32(rest) != parts[0]:
            self.damaged += self._buffer[at + length - 1 : at + length] == b"\n"
            return None
        head_at -= 9
        head: dict[str, Any] = orjson.loads(rest[head_at : head_at + head_bytes])
        return _entry(head, rest[head_at + head_bytes :], place), place + length

    def _loaded(self, place: int, length: int) -> int:
        """Have these bytes in the buffer, as far as the file has them; where they begin there."""
        at = place - self._start
        if at < 0 or at + length > len(self._buffer):
            self._buffer = os.pread(self._file, max(length, READ_BYTES), place)
            self._start, at = place, 0
        return at


def _tell_damage(path: Path, entries: int) -> None:
    _log.warning(
        "%s: damaged entries are skipped (%d); rows whose only answer was in one are asked, and paid, again",
        path,
        entries,
    )


def _encode(entry: Entry) -> bytes:
    head: dict[str, Any] = {
        "kind": entry.kind.value,
        "row": entry.row,
        "attempt": entry.attempt,
        "at": entry.at,
        "hash": entry.request_hash,
        "latency_s": entry.latency_s,
    }
    if entry.detail:
        head["detail"] = entry.detail
    encoded = orjson.dumps(head, default=str)
    rest = b"%d %d %b%b" % (len(encoded), len(entry.body), encoded, entry.body)
    return b"%08x %b\n" % (zlib.crc32(rest), rest)


def _entry(head: dict[str, Any], body: bytes, place: int) -> Entry:
    return Entry(
        kind=_KINDS[head["kind"]],
        row=head["row"],
        attempt=head["attempt"],
        at=datetime.fromisoformat(head["at"]) if head["at"] else None,
        request_hash=head["hash"],
        body=body,
        latency_s=head["latency_s"],
        place=place,
        detail=head.get("detail", NO_DETAIL),
    )
