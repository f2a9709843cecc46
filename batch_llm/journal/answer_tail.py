"""The newest entries of the answer index as every process keeps them in memory: 24 bytes each.

Belongs here: looking up places in sorted arrays, how a batch of entries is packed. Not here: the tables they come from
and go to (answer_entries.py).

As a dict of numbers 65,536 entries take 7 MB of each process (measured), as arrays 1.6. They are put in order again
whenever more come, which is about once a second: some milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from batch_llm.journal.answer_file import DamagedEntriesError

__all__ = ["Key", "Place", "SliceId", "Tail", "packed", "unpacked"]

Key = int
SliceId = int
Place = tuple[SliceId, int]  # the slice, the byte in its journal

Numbers = NDArray[np.int64]

ENTRY_BYTES = 16


class Tail:
    """Where the good answers to these requests stand; what was said last of a request counts. Never changed."""

    def __init__(self, keys: Numbers | None = None, slices: Numbers | None = None, places: Numbers | None = None):
        """Arrays of one length, in the order of the keys, which are distinct."""
        none = np.empty(0, dtype=np.int64)
        self._keys = none if keys is None else keys
        self._slices = none if slices is None else slices
        self._places = none if places is None else places

    def __len__(self) -> int:
        return len(self._keys)

    def with_batches(self, batches: Iterable[tuple[SliceId, bytes]]) -> Tail:
        """The same after these batches, oldest first. Raises `DamagedEntriesError`."""
        keys, slices, places = [self._keys], [self._slices], [self._places]
        for slice_id, entries in batches:
            more_keys, more_places = unpacked(entries)
            keys.append(more_keys)
            slices.append(np.full(len(more_keys), slice_id, dtype=np.int64))
            places.append(more_places)
        all_keys = np.concatenate(keys)
        if len(all_keys) == len(self):
            return self
        order = np.argsort(all_keys, kind="stable")
        in_order = all_keys[order]
        newest = order[np.append(in_order[1:] != in_order[:-1], True)]
        return Tail(all_keys[newest], np.concatenate(slices)[newest], np.concatenate(places)[newest])

    def find(self, keys: Sequence[Key]) -> dict[Key, Place]:
        """Those of these requests that are in it."""
        if not len(self) or not keys:
            return {}
        wanted = np.array(keys, dtype=np.int64)
        at = np.searchsorted(self._keys, wanted)
        at[at == len(self)] = 0  # above all that are there: not equal to the first one
        is_there = self._keys[at] == wanted
        at = at[is_there]
        places = zip(self._slices[at].tolist(), self._places[at].tolist(), strict=True)
        return dict(zip(wanted[is_there].tolist(), places, strict=True))

    def keys(self) -> list[Key]:
        """All requests, in order."""
        found: list[Key] = self._keys.tolist()
        return found

    def count_without(self, place: int) -> int:
        """The entries that stand at any other place than this one."""
        return int(np.count_nonzero(self._places != place))

    def part(self, start: int, count: int) -> Iterator[tuple[Key, SliceId, int]]:
        """Some of the entries (key, slice, place) in the order of their keys."""
        some = slice(start, start + count)
        return zip(self._keys[some].tolist(), self._slices[some].tolist(), self._places[some].tolist(), strict=True)


def packed(keys: Sequence[Key], places: Sequence[int]) -> bytes:
    """A batch of entries of one slice."""
    return struct.pack(f"<{2 * len(keys)}q", *keys, *places)


def unpacked(entries: bytes) -> tuple[Numbers, Numbers]:
    """(keys, places) of a batch. Raises `DamagedEntriesError`."""
    if len(entries) % ENTRY_BYTES:
        raise DamagedEntriesError(f"a batch of {len(entries)} bytes")
    numbers = np.frombuffer(entries, dtype="<i8")
    return numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
