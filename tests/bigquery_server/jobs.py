"""Jobs: their ids, their states, what REST shows of them.

Belongs here: one id is one job for ever, a job's state from PENDING to DONE, jobs.get/list/cancel's view of it.
Not here: the work (loading.py, copying.py, querying.py), when it is done (service.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/Job (read 2026-11-28).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bigquery_server.clock import Clock
from tests.bigquery_server.errors import ApiError, already_exists, invalid, not_found
from tests.bigquery_server.schema import Schema
from tests.bigquery_server.storage import Version

__all__ = ["Job", "JobRef", "Jobs", "Result"]

JOB_ID = re.compile(r"[A-Za-z0-9_\-]{1,1024}")
# jobs.get without a location finds these; every other location must be named.
# Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/get (read 2026-11-28)
KNOWN_WITHOUT_LOCATION = ("US", "EU")
KINDS = ("load", "query", "copy", "extract")


@dataclass(frozen=True)
class JobRef:
    """Names a job."""

    project: str
    location: str
    job_id: str

    def __str__(self) -> str:
        return f"{self.project}:{self.location}.{self.job_id}"

    def to_json(self) -> dict[str, str]:
        """As REST shows it."""
        return {"projectId": self.project, "jobId": self.job_id, "location": self.location}


@dataclass(frozen=True)
class Result:
    """What a query left to be read."""

    schema: Schema
    version: Version | None  # None: no rows, as after DDL
    destination: Mapping[str, str] | None = None


@dataclass
class Job:
    """One job; it changes until it is DONE."""

    ref: JobRef
    configuration: dict[str, Any]
    created_ms: int
    due_ms: int  # when its work is done
    data: bytes = b""  # what was uploaded
    started_ms: int | None = None
    ended_ms: int | None = None
    error: ApiError | None = None
    statistics: dict[str, Any] = field(default_factory=dict)  # of its kind
    totals: dict[str, Any] = field(default_factory=dict)  # totalBytesProcessed, totalSlotMs
    result: Result | None = None
    planned_error: ApiError | None = None  # an injected one
    account: str = ""  # whose it is
    changes: str | None = None  # the table that its UPDATE, DELETE or MERGE is of

    @property
    def kind(self) -> str:
        """load, query, copy or extract."""
        return next(each for each in KINDS if each in self.configuration)

    @property
    def state(self) -> str:
        """PENDING, RUNNING or DONE."""
        if self.ended_ms is not None:
            return "DONE"
        return "RUNNING" if self.started_ms is not None else "PENDING"

    def end(self, now_ms: int, error: ApiError | None = None) -> None:
        """It is DONE, with an error or without."""
        self.ended_ms, self.error = now_ms, error

    def to_json(self) -> dict[str, Any]:
        """As jobs.get shows it."""
        status: dict[str, Any] = {"state": self.state}
        if self.error is not None:
            status |= {"errorResult": self.error.proto(), "errors": [self.error.proto()]}
        times = {"creationTime": self.created_ms, "startTime": self.started_ms, "endTime": self.ended_ms}
        statistics: dict[str, Any] = {key: str(value) for key, value in times.items() if value is not None}
        statistics |= self.totals
        if self.statistics:
            statistics[self.kind] = self.statistics
        return {
            "kind": "bigquery#job",
            "etag": f"{self.ref.job_id}-{self.state}",
            "id": f"{self.ref.project}:{self.ref.location}.{self.ref.job_id}",
            "jobReference": self.ref.to_json(),
            "configuration": {"jobType": self.kind.upper(), **self.configuration},
            "status": status,
            "statistics": statistics,
            "user_email": self.account,
        }


class Jobs:
    """All jobs there ever were."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._jobs: dict[tuple[str, str, str], Job] = {}
        self._unfinished: list[Job] = []

    def add(self, job: Job) -> None:
        """Take an id; 409 when it was taken, whatever became of that job."""
        self.free(job.ref)
        self._jobs[_place(job.ref)] = job
        self._unfinished.append(job)

    def free(self, ref: JobRef) -> None:
        """409 when the id is taken, 400 when it is none."""
        if not JOB_ID.fullmatch(ref.job_id):
            raise invalid(f'Invalid job ID "{ref.job_id}". Job IDs must be alphanumeric (plus underscores and dashes).')
        if _place(ref) in self._jobs:
            raise already_exists("Job", str(ref))

    def find(self, project: str, job_id: str, location: str | None) -> Job:
        """The job of that location, or 404."""
        places = [location] if location else KNOWN_WITHOUT_LOCATION
        for place in places:
            found = self._jobs.get((project, place.lower(), job_id))
            if found is not None:
                return found
        raise not_found("Job", f"{project}:{location}.{job_id}" if location else f"{project}:{job_id}")

    def forget(self, job: Job) -> None:
        """Its id is free again."""
        del self._jobs[_place(job.ref)]

    def of(self, project: str) -> list[Job]:
        """The newest first."""
        return [each for each in reversed(self._jobs.values()) if each.ref.project == project]

    def unfinished(self) -> list[Job]:
        """Those that are not DONE, in the order in which they will be."""
        self._unfinished = [each for each in self._unfinished if each.ended_ms is None]
        return sorted(self._unfinished, key=lambda job: job.due_ms)


def _place(ref: JobRef) -> tuple[str, str, str]:
    return (ref.project, ref.location.lower(), ref.job_id)
