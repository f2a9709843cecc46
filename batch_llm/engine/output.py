"""The output before a run: whose it is, and whether it is as the job's last run left it.

Belongs here: what is asked of the warehouse for that. Not here: columns and types (`Warehouse.ensure`), bringing rows
in (promotion.py).
"""

from __future__ import annotations

from contextlib import suppress

from batch_llm.engine.parts import JobParts
from batch_llm.errors import OutputError
from batch_llm.journal.base import RunRecord

__all__ = ["check_owner", "stands"]


def check_owner(parts: JobParts) -> None:
    """Raise `OutputError` for an output that another job made: no job's answers take the place of another's; blocking.

    Told by one row, whose run is called after its job, so that asking is free in every warehouse.
    """
    job, owner = parts.declared.job, _owner(parts)
    if owner is not None and owner != job.name:
        raise OutputError(
            f"output {parts.output!r} holds the answers of job {owner!r}, which were paid for and do not give way to "
            f"those of {job.name!r}: name another output.table, or drop that table first. If this job was called "
            f"{owner!r} before, give it that name again"
        )


def _owner(parts: JobParts) -> str | None:
    """The job whose rows are there; None without any."""
    with suppress(OutputError):  # no output, or one that does not say
        for batch in parts.warehouse.rows(parts.output, columns=["llm_run_id"], limit=1):
            for run_id in batch.column(0).to_pylist():
                return str(run_id).partition("-")[0] if run_id else None
    return None


def stands(parts: JobParts, finished: RunRecord) -> bool:
    """Whether the output holds what this run promoted: promoting it again would change nothing; blocking."""
    return parts.warehouse.holds(finished.run_id, parts.output, finished.key, parts.declared.job.output.mode)
