"""The tables that sensors watch, listed once for all of them.

Belongs here: one look at a dataset for every job that watches it, for some seconds. Not here: which tables start a run
(watch.py), listing (the warehouse). In BigQuery a listing is a statement, and every sensor looks twice a minute.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from batch_llm.config.settings import Settings
from batch_llm.warehouse.base import TableInfo
from batch_llm.wiring import open_store

__all__ = ["Listings", "listed_pattern"]

GOOD_FOR_S = 20.0  # less than the pause between two ticks of a sensor: alone, it always looks for itself


@dataclass(slots=True)
class _Listing:
    """What was found, and when."""

    turn: threading.Lock = field(default_factory=threading.Lock)  # sensors tick in threads: one looks, the others wait
    found: list[TableInfo] | None = None
    at_s: float = 0.0


class Listings:
    """Of a code location; its sensors run in threads of one process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``monotonic``: seconds, as in `time`."""
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._listings: dict[tuple[Settings, str], _Listing] = {}

    def matching(self, settings: Settings, pattern: str) -> list[TableInfo]:
        """The tables or files that match. Raises what `Warehouse.tables` raises."""
        wide = listed_pattern(settings, pattern)
        if wide is None:
            return list(open_store(settings).warehouse.tables(pattern))
        with self._guard:
            listing = self._listings.setdefault((settings, wide), _Listing())
        with listing.turn:
            if listing.found is None or self._monotonic() - listing.at_s >= GOOD_FOR_S:
                listing.found = None
                listing.found = list(open_store(settings).warehouse.tables(wide))
                listing.at_s = self._monotonic()
            found = listing.found
        name = pattern.rpartition(".")[2]
        return [table for table in found if fnmatch.fnmatchcase(table.ref.rpartition(".")[2], name)]


def listed_pattern(settings: Settings, pattern: str) -> str | None:
    """What is listed for a pattern: the whole dataset; None: the pattern itself, and not together with others.

    Only BigQuery lists without looking into each table; files and DuckDB's tables are looked at one by one.
    """
    if settings.bigquery_dataset is None or "/" in pattern:
        return None
    dataset, dot, _ = pattern.rpartition(".")
    return f"{dataset}{dot}*"
