"""Calls on jobs: insert, get, list, cancel, delete, query, getQueryResults.

Belongs here: these calls. Not here: uploads (uploads.py), the work (running.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs (read 2026-11-28).
"""

from __future__ import annotations

from typing import Any

from tests.bigquery_server import running
from tests.bigquery_server.calls import Call, Reply
from tests.bigquery_server.errors import ApiError, invalid
from tests.bigquery_server.jobs import Job
from tests.bigquery_server.paging import paged, read_token, token_of
from tests.bigquery_server.permissions import need_job
from tests.bigquery_server.rows_api import Page, rows_of
from tests.bigquery_server.running import JobOrder
from tests.bigquery_server.schema import schema_to_json
from tests.bigquery_server.state import State

__all__ = ["cancel", "delete", "get", "insert", "list_all", "query", "query_results"]

# jobs.query's body has these beside the configuration of the query
# Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query (read 2026-11-28)
OF_JOB = ("dryRun", "labels", "jobTimeoutMs")
OF_REQUEST = (
    "kind", "maxResults", "timeoutMs", "location", "formatOptions", "requestId", "jobCreationMode", "preserveNulls",
)  # fmt: skip


def insert(state: State, call: Call) -> Reply:
    """jobs.insert without data."""
    if "load" in (call.json.get("configuration") or {}) and not call.json["configuration"]["load"].get("sourceUris"):
        raise invalid("Load configuration must specify at least one source URI", "configuration.load.sourceUris")
    job = running.insert(state, JobOrder(call.path["project"], call.json, error=call.job_error))
    return Reply(job.to_json(), job_id=job.ref.job_id)


def _job(state: State, call: Call) -> Job:
    return state.jobs.find(call.path["project"], call.path["job"], call.query.get("location"))


def get(state: State, call: Call) -> Reply:
    """jobs.get: 200 also when the job failed. Of another account's job it needs a permission.

    Source: https://cloud.google.com/bigquery/docs/managing-jobs#view-job (read 2026-11-29).
    """
    job = _job(state, call)
    need_job(state, job)
    return Reply(job.to_json(), job_id=job.ref.job_id)


def list_all(state: State, call: Call) -> Reply:
    """jobs.list: the newest first."""
    found = state.jobs.of(call.path["project"])
    states = call.query.get("stateFilter")
    if states:
        found = [each for each in found if each.state.lower() in states.lower().split(",")]
    page, token = paged(call, found)
    told: dict[str, Any] = {"kind": "bigquery#jobList", "jobs": [_item(each) for each in page]}
    return Reply(told | ({"nextPageToken": token} if token else {}))


def _item(job: Job) -> dict[str, Any]:
    told = job.to_json()
    return {**told, "state": told["status"]["state"]}


def cancel(state: State, call: Call) -> Reply:
    """jobs.cancel: answers at once; what is DONE stays as it is."""
    job = _job(state, call)
    running.cancel(state, job)
    return Reply({"kind": "bigquery#jobCancelResponse", "job": job.to_json()}, job_id=job.ref.job_id)


def delete(state: State, call: Call) -> Reply:
    """jobs.delete: its metadata goes."""
    state.jobs.forget(_job(state, call))
    return Reply(status=204)


# ---- queries


def query(state: State, call: Call) -> Reply:
    """jobs.query: a request with the same requestId is the same query."""
    body = dict(call.json)
    request_id = body.get("requestId")
    known = state.requests.get((call.path["project"], str(request_id))) if request_id else None
    job = known or _queried(state, call, body)
    if request_id and not body.get("dryRun"):
        state.requests[call.path["project"], str(request_id)] = job
    if body.get("dryRun"):
        return Reply(_told(job) | {"jobComplete": True, "schema": job.statistics.get("schema")})
    int64 = bool((body.get("formatOptions") or {}).get("useInt64Timestamp"))
    most = body.get("maxResults")
    return _results(state, job, Page(0, None if most is None else int(most), int64))


def _queried(state: State, call: Call, body: dict[str, Any]) -> Job:
    configuration = {key: body[key] for key in OF_JOB if key in body}
    configuration["query"] = {key: value for key, value in body.items() if key not in (*OF_JOB, *OF_REQUEST)}
    said = {"configuration": configuration, "jobReference": {"location": body.get("location")}}
    return running.insert(state, JobOrder(call.path["project"], said, error=call.job_error))


def query_results(state: State, call: Call) -> Reply:
    """jobs.getQueryResults: a failed job is an HTTP error here."""
    job = _job(state, call)
    if job.kind != "query":
        raise invalid(f"Job {job.ref} is not a query")
    token = call.query.get("pageToken")
    start = int(read_token(token)["start"]) if token else call.number("startIndex") or 0
    int64 = call.query.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    return _results(state, job, Page(start, call.number("maxResults"), int64))


def _results(state: State, job: Job, page: Page) -> Reply:
    if job.error is not None:
        raise ApiError(job.error.reason, job.error.message, location=job.error.location)
    told = _told(job)
    if job.state != "DONE":
        return Reply(told | {"jobComplete": False}, job_id=job.ref.job_id)
    told["jobComplete"] = True
    for key in ("numDmlAffectedRows", "dmlStats"):
        if key in job.statistics:
            told[key] = job.statistics[key]
    if job.result is None or job.result.version is None:
        return Reply(told | {"totalRows": "0"}, job_id=job.ref.job_id)
    version = job.result.version
    rows, after = rows_of(state, version.parts, job.result.schema, page)
    told |= {"schema": schema_to_json(job.result.schema), "totalRows": str(version.rows), "rows": rows}
    if after is not None:
        told["pageToken"] = token_of(start=after)
    return Reply(told, job_id=job.ref.job_id)


def _told(job: Job) -> dict[str, Any]:
    return {
        "kind": "bigquery#getQueryResultsResponse",
        "etag": f"{job.ref.job_id}-{job.state}",
        "jobReference": job.ref.to_json(),
        "cacheHit": False,
        "totalBytesProcessed": job.totals.get("totalBytesProcessed", "0"),
    }
