"""One slice in the object store: its segments and marks, and the copy of its journal on this machine.

Belongs here: uploading ranges of the local file, bringing the copy up to date, compacting. Not here: who may write
(redis_leases.py), when (shipped.py), which segments count (segments.py), where entries begin (entry_bytes.py).

An object that has its length and another checksum than its name says is taken all the same: each entry has one of its
own, so damage costs the entries that it hit, as in a local file. A machine that has them whole keeps them, and ships
them again where it finds them damaged.

    <run_id>/journal/0000/<epoch>-<start>-<end>-<crc>.seg   segments
    <run_id>/journal/0000/published-<bytes>                 so much of the journal is published
    <run_id>/journal/0000/spent-<bytes>-<usd>               so much of it cost this
    on this machine, beside the journal: 0000.shipped       so much of it is in the store, as of which epoch
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batch_llm.errors import JournalError
from batch_llm.folders import private_folder
from batch_llm.journal.disk import disk_error, write_all
from batch_llm.journal.entry_bytes import common, copy, only_ours
from batch_llm.journal.object_store import PIECE_BYTES, ObjectStore
from batch_llm.journal.segments import Piece, Segment, chain, chain_end, holds_until, newest_epoch

__all__ = ["Shipped", "SliceListing", "SliceObjects"]

SHIPPED: Final = ".shipped"  # beside the journal
IN_STORE: Final = "what it lacks is in the journal's store"
LOG = logging.getLogger("batch_llm.journal")


@dataclass(frozen=True, slots=True)
class SliceListing:
    """What a listing of the store says of a slice."""

    segments: tuple[Segment, ...] = ()
    published_bytes: int = 0
    spent: tuple[int, str] | None = None  # journal bytes, US dollars

    @classmethod
    def of(cls, objects: Mapping[str, int]) -> SliceListing:
        """``objects``: names without the folder, and sizes."""
        found = [segment for name, size in objects.items() if (segment := Segment.parse(name, size))]
        published = [int(name.partition("-")[2]) for name in objects if name.startswith("published-")]
        sums = [name.split("-", 2) for name in objects if name.startswith("spent-")]
        spent = max(((int(size), usd) for _, size, usd in sums), default=None)
        return cls(tuple(sorted(found)), max(published, default=0), spent)


@dataclass(frozen=True, slots=True)
class Shipped:
    """How much of the local journal is in the store."""

    size: int = 0  # bytes
    epoch: int = 0  # the newest when that was so


class SliceObjects:
    """The objects of one slice, and its local journal file at ``path``. One thread at a time."""

    def __init__(self, store: ObjectStore, folder: str, path: Path) -> None:
        """``folder``: ``<run_id>/journal/0000``."""
        self._store = store
        self._folder = folder
        self._note = path.with_suffix(SHIPPED)
        self.path = path

    def listing(self) -> SliceListing:
        """What is in the store now."""
        names = self._store.names(self._folder)
        return SliceListing.of({name.rpartition("/")[2]: size for name, size in names.items()})

    def shipped(self) -> Shipped:
        """What this machine knows to be in the store."""
        try:
            size, epoch = self._note.read_text().split()
        except (FileNotFoundError, ValueError):
            return Shipped()
        return Shipped(int(size), int(epoch))

    def note_shipped(self, shipped: Shipped) -> None:
        """Remember it, for the next process."""
        temporary = self._note.with_name(f"{self._note.name}.{os.getpid()}")
        temporary.write_text(f"{shipped.size} {shipped.epoch}")
        temporary.replace(self._note)

    # -- bringing the copy up to date ------------------------------------------------------------------------------

    def catch_up(self, segments: Iterable[Segment]) -> Shipped:
        """Make the local file what the store holds, followed by what only this machine has; nobody may write it.

        What the local file has beyond the store's end, or other than the store from some byte on, are entries that
        were never shipped, or by a writer that had lost its lease: answers that are paid. They go behind the store's.
        Raises `JournalError` when this machine's disk does not take it, `JournalFull` when it is full.
        """
        try:
            return self._catch_up(list(segments))
        except OSError as error:
            raise disk_error(error, "bring the journal up to date", self.path.parent, IN_STORE) from error

    def _catch_up(self, segments: list[Segment]) -> Shipped:
        private_folder(self.path.parent)
        size = self.path.stat().st_size if self.path.exists() else 0
        shipped = self.shipped()
        same = min(size, holds_until(segments, shipped.size, shipped.epoch))
        end = chain_end(segments)
        if end > same:
            end = self._take_over(chain(segments), same)
        here = self.path.stat().st_size if self.path.exists() else 0
        if here < end:  # else what is missing here would count as shipped
            raise JournalError(f"{self.path} has {here:,} bytes of the {end:,} that the journal's store has; try again")
        now = Shipped(end, newest_epoch(segments))
        self.note_shipped(now)
        return now

    def _take_over(self, pieces: list[Piece], same: int) -> int:
        """Fetch the store's bytes from ``same`` on and put them into their place; where what can be trusted ends."""
        fetched = self.path.with_suffix(".fetched")
        try:
            with fetched.open("w+b") as theirs:
                self._fetch([piece for piece in pieces if piece.end > same], same, theirs.fileno())
                ends = same + os.fstat(theirs.fileno()).st_size
                ours = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    same += common(ours, same, theirs.fileno())
                    if ends > same:
                        self._splice(ours, same, fetched, ends)
                finally:
                    os.close(ours)
        finally:
            fetched.unlink(missing_ok=True)
        return ends

    def _fetch(self, pieces: list[Piece], place: int, into: int) -> None:
        """Write the pieces from ``place`` on into a file; stop before one that has not all of its bytes."""
        for piece in pieces:
            segment, begin = piece.segment, os.fstat(into).st_size
            skipped, wanted = max(place, piece.start) - segment.start, piece.end - max(place, piece.start)
            window = _Window(into, skipped, wanted)
            checksum = self._store.copy_to(self._object(segment.name), window.write, 0, segment.end - segment.start)
            if window.seen != segment.end - segment.start:
                os.ftruncate(into, begin)
                return
            if checksum != segment.checksum:
                LOG.warning(
                    "%s/%s is damaged: its bytes are not those that were written. Its whole entries are used",
                    self._store.url,
                    self._object(segment.name),
                )

    def _splice(self, ours: int, same: int, fetched: Path, ends: int) -> None:
        """The local file becomes: what is the same, the store's rest, the entries that only this machine has.

        ``fetched`` holds the store's bytes up to ``ends``. A kill in between leaves what the next call mends.
        """
        size, begin = os.fstat(ours).st_size, ends - fetched.stat().st_size
        with fetched.open("rb") as theirs:
            if size == same:  # the usual case: another machine went on
                os.lseek(ours, 0, os.SEEK_END)
                copy(theirs.fileno(), same - begin, ends - begin, ours)
                return
            merged = self.path.with_suffix(".merged")
            try:
                with merged.open("wb", buffering=0) as file:
                    copy(ours, 0, begin, file.fileno())
                    copy(theirs.fileno(), 0, ends - begin, file.fileno())
                    if os.pread(theirs.fileno(), 1, ends - begin - 1) != b"\n":
                        write_all(file.fileno(), b"\n")  # the store's last entry is torn
                    for start, end in only_ours(ours, same, theirs.fileno(), begin):
                        copy(ours, start, end, file.fileno())
                    os.fsync(file.fileno())
                merged.replace(self.path)
            finally:
                merged.unlink(missing_ok=True)

    # -- writing ---------------------------------------------------------------------------------------------------

    def upload(self, start: int, end: int, epoch: int) -> int:
        """Store the bytes of the local file from ``start`` on as one segment, at most `PIECE_BYTES`; its end."""
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), min(end - start, PIECE_BYTES), start)
        segment = Segment(epoch, start, start + len(data), zlib.crc32(data))
        self._store.put(self._object(segment.name), data)
        with suppress(OSError):  # a full disk: an earlier note only has more compared
            self.note_shipped(Shipped(segment.end, epoch))
        return segment.end

    def compact(self, size: int, epoch: int) -> None:
        """One segment in the place of all those that make up the local file, ``size`` bytes, all of it in the store."""
        before = [segment for segment in self.listing().segments if segment.epoch <= epoch and segment.end <= size]
        if len(before) < 2:
            return
        checksum = 0
        with self.path.open("rb") as file:
            for piece in range(0, size, PIECE_BYTES):
                checksum = zlib.crc32(os.pread(file.fileno(), min(size - piece, PIECE_BYTES), piece), checksum)
        whole = Segment(epoch, 0, size, checksum)
        self._store.put_file(self._object(whole.name), self.path)
        if whole in self.listing().segments:  # not when entries came meanwhile: then it is not what its name says
            self._store.delete(self._object(segment.name) for segment in before if segment != whole)

    def mark(self, kind: str, text: str) -> None:
        """Set a mark (``published``, ``spent``) in the place of earlier ones."""
        name = f"{kind}-{text}"
        self._store.put(self._object(name), b"")
        earlier = [each for each in self._store.names(self._folder) if each.rpartition("/")[2].startswith(f"{kind}-")]
        self._store.delete(each for each in earlier if each != self._object(name))

    def _object(self, name: str) -> str:
        return f"{self._folder}/{name}"


class _Window:
    """Writes the bytes of a stream that lie between two places into a file."""

    def __init__(self, file: int, skipped: int, wanted: int) -> None:
        self._file = file
        self._begin, self._end = skipped, skipped + wanted
        self.seen = 0

    def write(self, data: bytes) -> None:
        begin, end = max(0, self._begin - self.seen), max(0, self._end - self.seen)
        write_all(self._file, data[begin:end])
        self.seen += len(data)
