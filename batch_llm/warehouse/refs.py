"""How users name inputs and outputs, whatever the warehouse: a file by its suffix, a table otherwise.

Belongs here: what every warehouse reads out of a name, and how a message suggests another. Not here: how a table's name
is split and quoted (each warehouse's names.py).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from batch_llm.errors import WarehouseError

__all__ = ["FILE_SUFFIXES", "LIVE_SUFFIX", "RUN_PLACE", "check_run_id", "is_file", "listed", "nearest"]

FILE_SUFFIXES = (".parquet", ".csv", ".jsonl", ".arrow", ".feather")
LIVE_SUFFIX = "__live"
RUN_PLACE = "run:"  # begins a place that means a run's published rows
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LISTED = 12  # names shown in an error message


def is_file(ref: str) -> bool:
    """Whether ``input.table`` or ``output.table`` means a file (or glob) and not a table of the warehouse."""
    return "/" in ref or ref.lower().endswith(FILE_SUFFIXES)


def check_run_id(run_id: str) -> str:
    """The run id itself. Raises `WarehouseError` for text that would mean another table or folder."""
    if not _RUN_ID.fullmatch(run_id):
        raise WarehouseError(f"{run_id!r} is not a run id: letters, digits, _ and - only")
    return run_id


def nearest(name: str, options: Iterable[str]) -> str:
    """A sentence part with the nearest existing name, or nothing."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; the nearest name is {by_lower[found[0]]!r}" if found else ""


def listed(names: Iterable[str]) -> str:
    """The first names of a list, for a message."""
    ordered = list(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return (", ".join(ordered[:_LISTED]) or "none") + more
