"""Vectors of stored calls in a file without a name, so that each is decoded once, however many rows use it again.

Belongs here: that file, made when it is first needed, gone with the process. Not here: whose vectors are wanted
(copies.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path

from batch_llm.folders import private_folder

__all__ = ["VectorsAside"]

DISK_SHARE = 4  # of what is free on the disk, so much may be used; then it begins anew
HASH_BYTES = 16


class VectorsAside:
    """A cache on the disk: where it cannot be written (a full disk), it holds less. For any number of threads."""

    def __init__(self, folder: Path) -> None:
        """``folder``: made if need be."""
        self._folder = folder
        self._file = -1
        self._size = self._most = 0
        self._closed = False
        self._calls: dict[Hashable, tuple[int, int, bytes]] = {}  # where it begins, bytes of a vector, request hashes
        self._turn = threading.Lock()

    def add(self, call: Hashable, hashes: Sequence[str], vectors: Sequence[bytes]) -> None:
        """Keep what this call said: a vector for each of its requests, all of one size."""
        packed = b"".join(vectors)
        with self._turn, suppress(OSError):
            if self._closed:
                return
            if self._file < 0:
                self._file = self._made()
                self._most = shutil.disk_usage(self._folder).free // DISK_SHARE
            if self._size + len(packed) > self._most:
                self._size = 0
                self._calls.clear()
            if os.pwrite(self._file, packed, self._size) == len(packed):  # else the disk is full
                self._calls[call] = self._size, len(vectors[0]), b"".join(map(bytes.fromhex, hashes))
                self._size += len(packed)

    def _made(self) -> int:
        private_folder(self._folder)
        file, name = tempfile.mkstemp(dir=self._folder, prefix=".vectors-")
        os.unlink(name)
        return file

    def get(self, call: Hashable, request_hash: str) -> bytes | None:
        """The vector of a request of this call; None when it is not there."""
        wanted = bytes.fromhex(request_hash)
        with self._turn:
            start, length, hashes = self._calls.get(call, (0, 0, b""))
            at = hashes.find(wanted)
            while at > 0 and at % HASH_BYTES:
                at = hashes.find(wanted, at + 1)
            if at < 0:
                return None
            try:
                vector = os.pread(self._file, length, start + at // HASH_BYTES * length)
            except OSError:
                return None
        return vector if len(vector) == length else None

    def close(self) -> None:
        """Give the room back; nothing is kept any more."""
        with self._turn:
            self._closed = True
            self._calls.clear()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
