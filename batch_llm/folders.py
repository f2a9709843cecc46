"""Folders of this machine: only for their owner, on the disk itself, and removed wholly or with an error.

Belongs here: making, syncing and removing them. Not here: what lies in them.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["private_folder", "remove_tree", "sync_to_disk"]

REMOVE_TRIES = 100


def private_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for the owner alone; one that is there keeps its mode."""
    missing = [folder]
    while not missing[-1].parent.exists() and missing[-1] != missing[-1].parent:
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def sync_to_disk(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk itself, where they survive a crash of the machine."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there; others may do the same. Raises `OSError` if any stays."""
    for _ in range(REMOVE_TRIES):
        if not os.path.lexists(folder):
            return
        with suppress(FileNotFoundError):  # of something in it that another process removed: the rest is still there
            shutil.rmtree(folder)
    raise OSError(f"others make files in {folder} as fast as they are removed")
