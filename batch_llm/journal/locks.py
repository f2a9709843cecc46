"""File locks between the processes of a home.

Belongs here: taking a lock on a file, looking whether one is taken. Not here: what a lock stands for (runs.py,
local.py). The kernel gives a lock back when its holder ends, kill -9 included, so nothing is ever cleaned up.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch_llm.folders import private_folder

__all__ = ["is_locked", "locked", "passing_lock"]


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
    """Hold the lock of a file (made when absent, in a folder that is there); the file's descriptor.

    Raises `BlockingIOError` when somebody has it and ``wait`` is False, `FileNotFoundError` when the folder is not
    there, or was removed while this waited.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        if not os.fstat(file).st_nlink:
            raise FileNotFoundError(path)
        yield file
    finally:
        os.close(file)


@contextmanager
def passing_lock(path: Path) -> Iterator[None]:
    """Hold a lock whose file goes with it; waits for another holder. The folder is made."""
    file = _locked_in_place(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the file's lock, shared or not; False when there is no file."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(file)


def _locked_in_place(path: Path) -> int:
    """Lock the file that stands at ``path``: one that its last holder removed meanwhile is nobody's lock."""
    private_folder(path.parent)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)
