"""How many statements may change a table at once: two run, twenty wait, the next one fails.

Belongs here: which job may start. Not here: what the statement does (dml.py).
Sources (read 2026-11-28): https://cloud.google.com/bigquery/docs/data-manipulation-language#dml-limitations; the words:
https://github.com/m-lab/etl-gardener/issues/293
"""

from __future__ import annotations

from sqlglot import exp

from tests.bigquery_server.errors import ApiError
from tests.bigquery_server.jobs import Job
from tests.bigquery_server.querying import reading_of
from tests.bigquery_server.state import State
from tests.bigquery_server.statements import parsed, table_ref

__all__ = ["admit", "start_waiting"]

COUNTED = (exp.Update, exp.Delete, exp.Merge)  # INSERT is not limited


def admit(state: State, job: Job) -> None:
    """Start a new job, or let it wait, or refuse it."""
    job.changes = _changes(state, job)
    others = [each for each in state.jobs.unfinished() if each is not job and each.changes == job.changes]
    running = sum(1 for each in others if each.started_ms is not None)
    if job.changes is None or running < state.limits.dml_running_per_table:
        _start(state, job)
    elif len(others) - running >= state.limits.dml_queued_per_table:
        raise ApiError(
            "resourcesExceeded",
            f"Resources exceeded during query execution: Too many DML statements outstanding against table "
            f"{job.changes}, limit is {state.limits.dml_queued_per_table}.",
        )


def start_waiting(state: State, ended: Job) -> None:
    """A job has ended: the next one that waits for the same table starts."""
    if ended.changes is None:
        return
    same = [each for each in state.jobs.unfinished() if each.changes == ended.changes]
    running = sum(1 for each in same if each.started_ms is not None)
    waiting = sorted((each for each in same if each.started_ms is None), key=lambda each: each.created_ms)
    for each in waiting[: max(0, state.limits.dml_running_per_table - running)]:
        _start(state, each)


def _start(state: State, job: Job) -> None:
    job.started_ms = state.clock.now_ms()
    job.due_ms = job.started_ms + round(state.settings.job_s * 1000)


def _changes(state: State, job: Job) -> str | None:
    """The table that a job's only statement changes."""
    if job.kind != "query":
        return None
    try:
        statements = parsed(str(job.configuration["query"].get("query") or ""))
        if len(statements) != 1 or not isinstance(statements[0], COUNTED):
            return None
        return str(table_ref(statements[0].this, reading_of(state, job)))
    except ApiError:
        return None  # the job itself will say so
