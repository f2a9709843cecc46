"""This machine's disk: what is said of a full one, and the room that is kept so that what is paid is stored even then.

Belongs here: the disk's errors, the reserve, writing wholly or with an error. Not here: what is written (local.py,
runs.py), folders (batch_llm/folders.py).

While a process has journals open it holds an allocated file without a name on their disk; the system takes it back with
the process, however that ends. When the disk is full, the reserve gives way piece by piece, each to the very answer
that found no room, so that nobody else fills what was kept for the calls in flight.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path

from batch_llm.errors import JournalError, JournalFull

__all__ = ["NO_ROOM", "RESERVE_BYTES", "Reserve", "disk_error", "write_all"]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}  # room made elsewhere on the disk helps
FULL = {*NO_ROOM, errno.EFBIG}
RESERVE_BYTES = 4 << 20  # two thousand answers in flight of 2 kB each
BLOCK_BYTES = 4 << 10  # in which nearly all file systems give room


def disk_error(error: OSError, what: str, folder: Path, kept: str) -> JournalError:
    """``what`` failed (as in "write the journal") in this folder. ``kept``: what the user need not fear for."""
    if error.errno in FULL:
        return JournalFull(
            f"the disk of {folder} is full; {kept}. Free some space and run the job again: it goes on where it stopped"
        )
    return JournalError(f"cannot {what} in {folder}: {error.strerror}")


def write_all(file: int, data: bytes) -> None:
    """Write all of it: a disk that is nearly full takes a part first, and refuses the rest. Raises `OSError`."""
    while data:
        data = data[os.write(file, data) :]


class Reserve:
    """One disk's reserve, shared by all journals that a process has open there; for any thread."""

    def __init__(self, folder: Path, size: int = RESERVE_BYTES) -> None:
        """Takes nothing yet. ``folder``: any on that disk, made when the first journal is opened."""
        self._folder = folder
        self._wanted = size
        self._turn = threading.Lock()
        self._users = 0
        self._file: int | None = None
        self._left = 0

    def join(self) -> None:
        """One more journal is open. The first one has the room set aside, if there is any."""
        with self._turn:
            self._users += 1
            if self._users == 1:
                self._take()

    def leave(self) -> None:
        """It is closed; the last one gives the room back."""
        with self._turn:
            self._users -= 1
            if not self._users:
                self._drop()

    def give(self, wanted: int) -> bool:
        """Make room for so many bytes, hardly more; False when nothing is left to give.

        Where that was not enough, as the file system counts otherwise, the caller asks again.
        """
        with self._turn:
            if self._file is None:
                return False
            self._left -= (2 + wanted // BLOCK_BYTES) * BLOCK_BYTES
            if self._left <= 0:
                self._drop()
            else:
                os.ftruncate(self._file, self._left)
            return True

    def _take(self) -> None:
        try:
            self._file, unneeded = tempfile.mkstemp(dir=self._folder, prefix=".reserve-")
            os.unlink(unneeded)
            os.posix_fallocate(self._file, 0, self._wanted)
            self._left = self._wanted
        except (OSError, AttributeError):  # no room even now, or a system that cannot: without, as it were
            self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            try:
                os.ftruncate(self._file, 0)  # a forked process may have it open as well
            finally:
                os.close(self._file)
                self._file, self._left = None, 0
