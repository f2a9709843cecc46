"""The tags that batch_llm puts on Dagster runs, to find them again and to show whose they are.

Belongs here: their names and values. Not here: who reads them (sensors).
"""

from __future__ import annotations

from batch_llm.job.model import Job

__all__ = [
    "AGAIN_TAG",
    "ATTEMPT_TAG",
    "JOB_TAG",
    "NOTIFIED_TAG",
    "PROMOTED_TAG",
    "PROMOTION_TAG",
    "RUN_TAG",
    "START_TAG",
    "USER_TAG",
    "run_tags",
]

JOB_TAG = "batch_llm/job"
USER_TAG = "batch_llm/user"
RUN_TAG = "batch_llm/run"  # the run of batch_llm that a Dagster run works on
ATTEMPT_TAG = "batch_llm/attempt"  # which request of that run it belongs to
START_TAG = "batch_llm/start"  # the run that this Dagster run planned and asked for
PROMOTED_TAG = "batch_llm/promoted"  # the run that this Dagster run brings into the output table
PROMOTION_TAG = "batch_llm/promotion"  # which published rows of a run this Dagster run was requested for
AGAIN_TAG = "batch_llm/again"  # the warehouse failed: the same may succeed later
NOTIFIED_TAG = "batch_llm/notified"  # somebody was told already

PRIORITIES = {"low": -10, "normal": 0, "high": 10}
FIRST = 100  # planning and promotion are short: they go before slices


def run_tags(job: Job, *, first: bool = False) -> dict[str, str]:
    """The tags of a Dagster run that works for ``job``; ``first``: before any slice in the queue."""
    priority = FIRST if first else PRIORITIES[job.priority]
    return {JOB_TAG: job.name, USER_TAG: job.user, "dagster/priority": str(priority)}
