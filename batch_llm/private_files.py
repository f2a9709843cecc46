"""Folders that only their owner can look into, for what users' rows and answers say.

Belongs here: making them. Not here: what lies in them, and outputs, which are made to be read by others.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["private_folder"]


def private_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for the owner alone; one that is there keeps its mode."""
    missing = [folder]
    while not missing[-1].parent.exists() and missing[-1] != missing[-1].parent:
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
