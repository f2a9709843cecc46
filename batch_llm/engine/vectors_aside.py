"""Vectors of rows in a file without a name, so that a call's answer is read and decoded once, however often it is used.

Belongs here: that file, made when it is first needed, gone with the process. Not here: whose vectors are wanted
(equal_texts.py).
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from batch_llm.private_files import private_folder

__all__ = ["VectorsAside"]


class VectorsAside:
    """A cache on the disk: where it cannot be written (a full disk), it holds less. For any number of threads."""

    def __init__(self, folder: Path | None) -> None:
        """``folder``: made if need be; None: where the system keeps what is temporary."""
        self._folder = folder
        self._file = -1
        self._size = 0
        self._places: dict[int, tuple[int, int]] = {}  # row: where its vector begins, bytes
        self._turn = threading.Lock()

    def add(self, vectors: Mapping[int, bytes]) -> None:
        """Keep the vectors of these rows."""
        with self._turn, suppress(OSError):
            if self._file < 0:
                self._file = self._made()
            packed = b"".join(vectors.values())
            if os.pwrite(self._file, packed, self._size) != len(packed):
                return  # the disk is full
            for row, vector in vectors.items():
                self._places[row] = self._size, len(vector)
                self._size += len(vector)

    def _made(self) -> int:
        if self._folder is not None:
            private_folder(self._folder)
        file, name = tempfile.mkstemp(dir=self._folder, prefix=".vectors-")
        os.unlink(name)
        return file

    def get(self, row: int) -> bytes | None:
        """The vector of a row; None when it is not there."""
        with self._turn:
            place = self._places.get(row)
            if place is None:
                return None
            start, length = place
            try:
                vector = os.pread(self._file, length, start)
            except OSError:
                return None
            return vector if len(vector) == length else None

    def close(self) -> None:
        """Give the room back."""
        with self._turn:
            self._places.clear()
            self._size = 0
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
