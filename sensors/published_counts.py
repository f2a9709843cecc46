"""What the sensor `dispatch` knows of the published slices of runs: asked of the warehouse when it matters.

Belongs here: keeping the last counters of each run, and when they are asked for again. Not here: what follows from them
(dispatch.py). A tick comes every few seconds, and a warehouse may bill each question; whether anything was published
since, it tells for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from batch_llm.warehouse.base import StatusCounts
from batch_llm.wiring import Store

__all__ = ["PublishedCounts"]

Counts = Mapping[int, StatusCounts]


@dataclass(frozen=True, slots=True)
class _Known:
    version: str  # of the published rows, before they were counted
    counts: Counts


class PublishedCounts:
    """The counters of runs' published slices, kept from tick to tick in one process; never wrong, maybe old."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._known: dict[str, _Known] = {}

    def of(self, store: Store, run_id: str, worth_asking: Callable[[Counts], bool]) -> Counts:
        """The counters of a run; old ones while ``worth_asking`` says of them that newer ones would change nothing.

        Raises `WarehouseError`.
        """
        seen = store.warehouse.published_version(run_id)
        version = None if seen is None else seen.token
        known = self._known.get(run_id)
        if known is not None and version is not None and (known.version == version or not worth_asking(known.counts)):
            return known.counts
        counts = store.warehouse.published(run_id)
        if version is not None:
            self._known[run_id] = _Known(version, counts)
        return counts

    def keep_only(self, run_ids: Collection[str]) -> None:
        """Forget all other runs."""
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in run_ids}
