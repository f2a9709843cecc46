"""A slice's journal as immutable segments: their names, and which of them make up the journal.

Belongs here: naming, and choosing what can be trusted. Not here: reading or writing objects (slice_objects.py).

A segment is a range of the bytes of the slice's journal file:

    <epoch>-<start byte>-<end byte>-<CRC-32 of the bytes>.seg

Every writer has an epoch of its own, higher than all before. Where a later writer began, it knew everything that counts
before that byte; so what an earlier one wrote beyond it, having lost its lease, does not belong to the journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Piece", "Segment", "chain", "chain_end", "holds_until", "newest_epoch"]

_NAME: Final = re.compile(r"(\d{6,})-(\d{12,})-(\d{12,})-([0-9a-f]{8})\.seg")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One immutable range of a journal."""

    epoch: int
    start: int
    end: int  # exclusive
    checksum: int  # CRC-32

    @property
    def name(self) -> str:
        """Of its object, without the folder; sorts by epoch and start."""
        return f"{self.epoch:06d}-{self.start:012d}-{self.end:012d}-{self.checksum:08x}.seg"

    @classmethod
    def parse(cls, name: str, size: int) -> Segment | None:
        """The segment an object's name tells of; None for another name, or an object that is not whole."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        segment = cls(int(found[1]), int(found[2]), int(found[3]), int(found[4], 16))
        return segment if segment.end - segment.start == size > 0 else None


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a segment that belongs to the journal."""

    segment: Segment
    start: int  # byte of the journal
    end: int


def chain(segments: Iterable[Segment]) -> list[Piece]:
    """The journal: pieces that follow each other from byte 0 without a gap."""
    by_epoch: dict[int, list[Segment]] = {}
    for segment in segments:
        by_epoch.setdefault(segment.epoch, []).append(segment)
    begins = {epoch: min(segment.start for segment in own) for epoch, own in by_epoch.items()}
    pieces: list[Piece] = []
    place = 0
    for epoch in sorted(by_epoch):
        limit = min((begin for later, begin in begins.items() if later > epoch), default=None)
        if limit is not None and limit <= begins[epoch]:
            continue  # a later writer wrote all of it anew
        if begins[epoch] > place:
            break  # what lies between is missing: nothing behind it can be trusted
        for piece in _run_of(by_epoch[epoch], place, limit):
            pieces.append(piece)
            place = piece.end
    return pieces


def _run_of(segments: list[Segment], place: int, limit: int | None) -> Iterable[Piece]:
    """What one writer wrote from ``place`` on, up to ``limit``; of segments that overlap the longest."""
    while limit is None or place < limit:
        longest = max(
            (each for each in segments if each.start <= place < each.end), key=lambda each: each.end, default=None
        )
        if longest is None:
            return
        end = longest.end if limit is None else min(longest.end, limit)
        yield Piece(longest, place, end)
        place = end


def chain_end(segments: Iterable[Segment]) -> int:
    """How many bytes of the journal the segments hold."""
    pieces = chain(segments)
    return pieces[-1].end if pieces else 0


def newest_epoch(segments: Iterable[Segment]) -> int:
    """The highest epoch anybody wrote in; 0 when nobody did."""
    return max((segment.epoch for segment in segments), default=0)


def holds_until(segments: Iterable[Segment], size: int, epoch: int) -> int:
    """How much is still true of a copy of ``size`` bytes that was made when ``epoch`` was the newest.

    All of it, unless a later writer began before its end: then it has to be compared.
    """
    begins = [segment.start for segment in segments if segment.epoch > epoch]
    return size if not begins or min(begins) >= size else 0
