"""Where entries begin and end in a journal file's bytes, and what two copies of one journal have in common.

Belongs here: bytes of files. Not here: what an entry says (local.py, whose format this is), stores (slice_objects.py).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Final

from batch_llm.journal.disk import write_all

__all__ = ["common", "copy", "next_line", "only_ours"]

LONGEST_PREFIX_BYTES: Final = 8 + 1 + 10 + 1 + 12 + 1  # of an entry, see local.py
PIECE_BYTES: Final = 8 * 1024 * 1024  # what is held in memory at a time


def common(ours: int, place: int, theirs: int) -> int:
    """How many bytes of one file from ``place`` on are those of the other from its start on."""
    same = 0
    while True:
        left, right = os.pread(ours, PIECE_BYTES, place + same), os.pread(theirs, PIECE_BYTES, same)
        length = min(len(left), len(right))
        if left[:length] != right[:length]:
            return same + next(at for at in range(length) if left[at] != right[at])
        same += length
        if length < PIECE_BYTES:
            return same


def only_ours(ours: int, place: int, theirs: int, begin: int) -> Iterator[tuple[int, int]]:
    """Where the entries behind ``place`` begin and end that ``theirs``, the journal from ``begin`` on, has not.

    What stands in the same place in both is in both: where damage is all the difference, everything behind it is.
    """
    at, size = 0, os.fstat(ours).st_size
    while at < size:
        whole_end = _entry_end(ours, at)
        end = next_line(ours, at, size) if whole_end is None else whole_end
        # a torn line on which the two part is no entry; one behind may lack nothing but its end of line
        is_behind = at > place if whole_end is None else end > place
        if is_behind and not (at >= begin and _is_in(theirs, at - begin, ours, at, end)):
            yield at, end
        at = end


def copy(source: int, start: int, end: int, into: int) -> None:
    """Write a range of one file into another, where that one stands."""
    while start < end:
        data = os.pread(source, min(PIECE_BYTES, end - start), start)
        if not data:
            return
        write_all(into, data)
        start += len(data)


def _is_in(theirs: int, there: int, ours: int, start: int, end: int) -> bool:
    """Whether this range of ours stands there, on a line of its own; its end of line is nothing that is read."""
    entry = os.pread(ours, end - 1 - start, start)
    if there == 0:
        return os.pread(theirs, len(entry), 0) == entry
    return os.pread(theirs, 1 + len(entry), there - 1) == b"\n" + entry


def _entry_end(file: int, place: int) -> int | None:
    """Where the whole entry at ``place`` ends; None when there is none."""
    prefix = os.pread(file, LONGEST_PREFIX_BYTES, place)
    parts = prefix.split(b" ", 3)
    if len(parts) != 4 or len(parts[0]) != 8 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None
    length = len(parts[1]) + 1 + len(parts[2]) + 1 + int(parts[1]) + int(parts[2])
    if length > PIECE_BYTES and place + 9 + length > os.fstat(file).st_size:
        return None  # damage that looks like a length of gigabytes
    rest = os.pread(file, length + 1, place + 9)
    if len(rest) != length + 1 or b"%08x" % zlib.crc32(rest[:-1]) != parts[0]:
        return None
    return place + 9 + length + 1


def next_line(file: int, place: int, size: int) -> int:
    """The first place after a line end behind ``place``; ``size`` where there is none."""
    while place < size:
        data = os.pread(file, 65_536, place)
        at = data.find(b"\n")
        if at >= 0:
            return place + at + 1
        place += len(data)
    return size
