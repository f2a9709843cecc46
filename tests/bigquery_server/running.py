"""Jobs from their insert to their end: the id taken, the location found, the work done when it is due.

Belongs here: when a job's work is done, what a failed one leaves (nothing). Not here: the work of each kind.
"""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from tests.bigquery_server.catalog import DatasetRef, TableRef
from tests.bigquery_server.copying import run_copy
from tests.bigquery_server.dml_queue import admit, start_waiting
from tests.bigquery_server.errors import ApiError, invalid
from tests.bigquery_server.jobs import KINDS, Job, JobRef
from tests.bigquery_server.loading import run_load
from tests.bigquery_server.querying import location_of_query, run_query
from tests.bigquery_server.resources import check_labels
from tests.bigquery_server.state import State

__all__ = ["JobOrder", "cancel", "insert", "run_due"]

MAX_QUERY_CHARS = 1024 * 1024  # Source of number and words: https://github.com/metabase/metabase/issues/79019


@dataclass(frozen=True)
class JobOrder:
    """What a client wants done."""

    project: str
    said: Mapping[str, Any]  # the Job of the request
    data: bytes = field(default=b"", repr=False)
    error: ApiError | None = None  # injected: how it shall end


def insert(state: State, order: JobOrder) -> Job:
    """Take the job; a dry run is not kept."""
    configuration = dict(order.said.get("configuration") or {})
    kinds = [each for each in KINDS if each in configuration]
    if len(kinds) != 1:
        raise ApiError("required", "Required parameter is missing: configuration must have one kind of job")
    if kinds == ["extract"]:
        raise ApiError("notImplemented", "This fake of BigQuery has no extract jobs")
    reference = order.said.get("jobReference") or {}
    project = str(reference.get("projectId") or order.project)
    if project != order.project:
        raise invalid(f"Invalid project ID in jobReference: {project}, in a call for {order.project}")
    job_id = str(reference.get("jobId") or f"job_{uuid.uuid4().hex}")
    check_labels(configuration.get("labels") or {})
    query = str((configuration.get("query") or {}).get("query") or "")
    if len(query) > MAX_QUERY_CHARS:
        raise invalid(
            f"The query is too large ({len(query) / 1024:.2f}K characters). The maximum standard SQL query length is "
            "1024.00K characters, including comments and white space characters."
        )
    now_ms = state.clock.now_ms()
    job = Job(
        JobRef(project, str(reference.get("location") or ""), job_id), configuration, now_ms,
        now_ms + round(state.settings.job_s * 1000), order.data, planned_error=order.error,
        account=state.settings.account,
    )  # fmt: skip
    if configuration.get("dryRun"):
        return _dry(state, job)
    _refuse_missing_dataset(state, job)
    if not job.ref.location:
        job.ref = JobRef(project, _location(state, job), job_id)
    state.jobs.add(job)
    try:
        admit(state, job)
    except ApiError as error:
        job.end(now_ms, error)
        return job
    run_due(state)
    return job


def _refuse_missing_dataset(state: State, job: Job) -> None:
    """A destination without its dataset is refused at the insert: there is no job then.

    Source: https://github.com/bruin-data/ingestr/pull/643 (read 2026-11-28).
    """
    said = job.configuration[job.kind].get("destinationTable")
    if said:
        state.catalog.dataset(TableRef.of(said).parent)


def _dry(state: State, job: Job) -> Job:
    """A query's cost, without doing or keeping it; an error is the answer's."""
    if job.kind == "query":
        run_query(state, job, dry=True)
    job.ref = JobRef(job.ref.project, job.ref.location or _location(state, job), job.ref.job_id)
    job.started_ms = job.created_ms
    job.end(job.created_ms)
    return job


def _location(state: State, job: Job) -> str:
    """The location of the datasets a job speaks of.

    Source: https://cloud.google.com/bigquery/docs/locations#specify_locations (read 2026-11-28).
    """
    found = None
    if job.kind == "query":
        try:
            found = location_of_query(state, job)
        except ApiError:
            found = None  # the job itself will say so
    else:
        ref = job.configuration[job.kind].get("destinationTable") or {}
        dataset = state.catalog.datasets.get(DatasetRef(str(ref.get("projectId")), str(ref.get("datasetId"))))
        found = dataset.location if dataset is not None else None
    return found or state.settings.default_location


def run_due(state: State) -> None:
    """Do the work of all jobs whose time has come, in that order."""
    while True:
        now_ms = state.clock.now_ms()
        started = (each for each in state.jobs.unfinished() if each.started_ms is not None)
        due = next((each for each in started if each.due_ms <= now_ms), None)
        if due is None:
            return
        _run(state, due)
        start_waiting(state, due)


def cancel(state: State, job: Job) -> None:
    """End a job that is not DONE, with its work not done."""
    if job.ended_ms is None:
        job.end(state.clock.now_ms(), ApiError("stopped", "Job execution was cancelled: User requested cancellation"))
        start_waiting(state, job)


def _run(state: State, job: Job) -> None:
    error = None
    try:
        if job.planned_error is not None:
            raise job.planned_error
        _check_location(state, job)
        WORK[job.kind](state, job)
    except ApiError as said:
        error = said
    except (duckdb.Error, pa.ArrowException) as said:
        error = invalid(f"Error while reading data, error message: {str(said).splitlines()[0]}")
    except Exception:  # noqa: BLE001 - a fault of this fake ends this job, and no other
        error = ApiError("notImplemented", f"A fault of this fake of BigQuery:\n{traceback.format_exc()}")
    job.data = b""
    job.end(state.clock.now_ms(), error)


def _check_location(state: State, job: Job) -> None:
    said = job.configuration[job.kind].get("destinationTable")
    if not said or job.kind == "query":
        return
    ref = DatasetRef(str(said.get("projectId")), str(said.get("datasetId")))
    dataset = state.catalog.dataset(ref)
    if dataset.location.lower() != job.ref.location.lower():
        raise ApiError("notFound", f"Not found: Dataset {ref} was not found in location {job.ref.location}")


def _atomic(work: Callable[[State, Job], None]) -> Callable[[State, Job], None]:
    def run(state: State, job: Job) -> None:
        with state.catalog.atomic():
            work(state, job)

    return run


WORK: dict[str, Callable[[State, Job], None]] = {
    "copy": _atomic(run_copy),
    "load": _atomic(run_load),
    "query": run_query,
}
