"""Going on with a run that was begun: whether the job still is that run's, and where there is something left to do.

Belongs here: looking at what a run left behind. Not here: which run it is (starting.py), asking (engine.py), what it
may cost (planning.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batch_llm.engine.parts import JobParts
from batch_llm.engine.starting import signatures
from batch_llm.engine.unpriced import check_money
from batch_llm.errors import ConfigurationError
from batch_llm.journal.base import RunRecord
from batch_llm.warehouse.base import StatusCounts

__all__ = ["any_unbegun", "check_same_job", "open_slices", "to_retry"]


def check_same_job(parts: JobParts, record: RunRecord) -> None:
    """All rows of a run are asked in one way: raises `ConfigurationError` when the job was changed since; blocking."""
    if signatures(parts) != (record.signature, record.shape):
        raise ConfigurationError(
            f"job {parts.declared.job.name} changed since run {record.run_id} was planned (its prompt, model, "
            "params, input or output); `run` the job: it asks what the change touches"
        )
    check_money(parts)


def open_slices(
    parts: JobParts, record: RunRecord, counts: Mapping[int, StatusCounts], has_work: Callable[[StatusCounts], int]
) -> list[int]:
    """Slices that are not published, have rows to ask, or whose journal grew since (a killed run)."""
    return [
        number
        for number in range(len(record.slice_rows))
        if number not in counts or has_work(counts[number]) or not parts.runs.is_published(record.run_id, number)
    ]


def to_retry(stored: StatusCounts) -> int:
    """Rows of a slice that `retry` asks: those that failed, and those that an earlier retry did not come to."""
    return stored.failed + stored.pending


def any_unbegun(parts: JobParts, record: RunRecord, reopen_below: Mapping[int, int]) -> bool:
    """Whether a retry did not come to some slice: its failed rows have failed as before, and none is pending for that.

    ``reopen_below``: slice: the journal's bytes when the retry came, which opening the slice makes more.
    """
    return any(parts.runs.size(record.run_id, number) <= below for number, below in reopen_below.items())
