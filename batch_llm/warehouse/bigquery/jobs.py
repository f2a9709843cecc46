"""Jobs: statements and loads that run exactly once for each call, whatever gets lost on the way.

Belongs here: job ids, waiting, running again. Not here: which failures pass (failures.py), any SQL.

A job's id is made before it is sent, so an answer that got lost is no riddle: the job of that id is looked up. Work
that changes a table has a chain of ids, ``<chain>-1``, ``<chain>-2``, ..., and a call takes the next number only when
the job before it has ended. So two loads of one slice never overtake each other, not even when the process that sent
the first was killed. (The content's hash cannot be the id: published, replaced and published again, the third load
would find the first one's id taken and do nothing.) A label tells a call its own job from another's.
Source: https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid (read 2026-11-28)
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from google.api_core import exceptions as api
from google.cloud import bigquery

from batch_llm.errors import WarehouseError, WarehouseRefused
from batch_llm.statement_costs import StatementCost
from batch_llm.warehouse.bigquery.connection import ANSWER_S, Connection
from batch_llm.warehouse.bigquery.failures import FAILURES, Failure
from batch_llm.warehouse.bigquery.patience import Wait

__all__ = ["JobFailed", "Jobs", "Query"]

Job = bigquery.QueryJob | bigquery.LoadJob | bigquery.CopyJob
_CALL = "batch_llm_call"  # the label that tells a call its own job
_OPERATION = "batch_llm_operation"
_FIRST_LOOK_S = 0.1
_LONGEST_LOOK_S = 5.0
# Source: https://cloud.google.com/bigquery/docs/managing-jobs#view-job (read 2026-11-29)
_ANOTHERS = (
    "an account may always see its own jobs, this one is another account's: ask for bigquery.jobs.get on the project "
    "that pays (roles/bigquery.resourceAdmin, or a custom role with this right alone); the job run again then goes on"
)
_NO_RETRY: dict[str, Any] = {"retry": None, "job_retry": None}  # what became of a job, its id tells
TIB = 1 << 40  # bytes, as BigQuery bills them
_COST_STEP = Decimal("1e-9")  # as far as a cost is told
_UPLOAD_S = 300.0  # for one request of an upload: 100 MB on a slow line


class JobFailed(WarehouseError):
    """BigQuery refused a statement or load, or gave it up.

    Attributes:
        failure: What it said.
    """

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


class _JobRefused(JobFailed, WarehouseRefused):
    """A failure that no waiting mends."""


def _failed(what: str, failure: Failure) -> JobFailed:
    return (_JobRefused if failure.refused else JobFailed)(f"{what}: {failure}", failure)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement to run."""

    name: str  # the operation, for messages and costs
    sql: str
    parameters: tuple[bigquery.ScalarQueryParameter, ...] = ()
    chain: str | None = None  # of statements that change something; see this module
    run: tuple[str, int | None] | None = None  # the run (and slice) that it is for, which its cost is noted with


class Jobs:
    """Runs jobs in the warehouse's location, under ids of ours."""

    def __init__(self, connection: Connection, temporary: Path) -> None:
        """``temporary``: the folder for files that are gone after a call."""
        self.connection = connection
        self.temporary = temporary
        self._numbers: dict[str, int] = {}  # chain: the number of its newest job that is known here
        self._guard = threading.Lock()

    def run(self, query: Query) -> bigquery.QueryJob:
        """Run a statement to its end. Raises `JobFailed`."""
        told, options = self.connection, self.connection.options

        def begin(job_id: str, call: str) -> Job:
            config = bigquery.QueryJobConfig(
                query_parameters=list(query.parameters),
                labels=_labels(query.name, call),
                use_legacy_sql=False,
            )
            if options.max_bytes_billed is not None:  # the client would send None as a word
                config.maximum_bytes_billed = options.max_bytes_billed
            return told.client.query(
                query.sql, config, job_id=job_id, location=told.location, timeout=ANSWER_S, **_NO_RETRY
            )

        def tell(ended: Any, own: bool) -> None:
            if query.run is not None and (own or query.run[0] in (query.chain or "")):
                self._tell(query, query.run, ended)

        job: bigquery.QueryJob = self._in_turn(query.name, query.chain, begin, tell)
        return job

    def _tell(self, query: Query, run: tuple[str, int | None], job: Any) -> None:
        """Tell what a statement of a run cost; also one of a process that died before it could tell."""
        options = self.connection.options
        if options.on_statement is None or not isinstance(job, bigquery.QueryJob):
            return
        billed = job.total_bytes_billed
        usd = None if options.usd_per_tib is None or billed is None else options.usd_per_tib * billed / TIB
        cost = None if usd is None else usd.quantize(_COST_STEP)
        run_id, number = run
        name = (job.labels or {}).get(_OPERATION, query.name)
        options.on_statement(run_id, StatementCost(name, job.job_id, number, billed, job.slot_millis, cost))

    def dry_run(self, query: Query) -> bigquery.QueryJob:
        """What a statement would read, and whether it is one; free. Raises `JobFailed`."""
        told = self.connection
        config = bigquery.QueryJobConfig(query_parameters=list(query.parameters), dry_run=True, use_legacy_sql=False)
        retry: dict[str, Any] = {"retry": told.retry, "job_retry": None}
        try:
            return told.client.query(query.sql, config, location=told.location, timeout=ANSWER_S, **retry)
        except FAILURES as error:
            failure = Failure.of(error)
            raise _failed(f"BigQuery, {query.name}", failure) from None

    def load(self, name: str, chain: str | None, file: IO[bytes], target: str, config: bigquery.LoadJobConfig) -> None:
        """Load a file into a table (or ``table$slice``) to its end. Raises `JobFailed`.

        The client's own retry of uploads is off: it goes by HTTP status only and takes the conflict after a lost answer
        for a failure.
        """
        told = self.connection
        size = file.seek(0, 2)

        def begin(job_id: str, call: str) -> Job:
            config.labels = _labels(name, call)
            return told.client.load_table_from_file(
                file, target, rewind=True, size=size, num_retries=0, job_id=job_id, location=told.location,
                job_config=config, timeout=_UPLOAD_S,
            )  # fmt: skip

        self._in_turn(name, chain, begin)

    def copy(self, name: str, chain: str, source: str, target: str) -> None:
        """Put a table's rows in the place of another's, to its end; free. Raises `JobFailed`."""
        told = self.connection

        def begin(job_id: str, call: str) -> Job:
            write = bigquery.WriteDisposition.WRITE_TRUNCATE
            config = bigquery.CopyJobConfig(write_disposition=write, labels=_labels(name, call))
            retry: Any = None  # what became of a job, its id tells
            return told.client.copy_table(
                source, target, job_id=job_id, location=told.location, job_config=config, retry=retry, timeout=ANSWER_S
            )

        self._in_turn(name, chain, begin)

    def _in_turn(
        self,
        name: str,
        chain: str | None,
        begin: Callable[[str, str], Job],
        tell: Callable[[Any, bool], None] = lambda job, own: None,
    ) -> Any:
        """Begin a job when all before it in its chain have ended, wait for its end, again while it fails in passing.

        ``tell`` hears of each job of the chain that ended well, and whether it is this call's own.
        """
        call, patience, what = uuid.uuid4().hex, self.connection.patience, f"BigQuery, {name}"
        failing, sending = patience.begin(), patience.begin()
        stem = f"batch_llm-{self.connection.dataset.dataset}-{chain or call}"
        number, look_first = self._numbers.get(stem, 1), chain is not None
        while True:
            job_id = f"{stem}-{number}"
            job = self._existing(job_id, what) if look_first else None
            if job is None:
                job, look_first = self._begun(job_id, call, begin, _Patient(what, sending)), True
                if job is None:
                    continue
            job, sending = self._ended(job, what), patience.begin()
            self._remember(stem, number)
            own = job.labels.get(_CALL) == call
            if job.error_result is None:
                tell(job, own)
            if not own:
                number += 1  # earlier work, which only had to end first
            elif job.error_result is None:
                return job
            else:
                failure = Failure.of_job(job.error_result)
                if not failure.passing:
                    raise _failed(what, failure)
                failing.pause_or_raise(what, failure)
                number, look_first = number + 1, False

    def _begun(self, job_id: str, call: str, begin: Callable[[str, str], Job], patient: _Patient) -> Job | None:
        """The job, sent; None when it must be looked up: somebody has the id, or nobody knows whether it arrived."""
        try:
            return begin(job_id, call)
        except api.Conflict as error:
            patient.pause(Failure.of(error))  # a job that was refused as a duplicate may be invisible for a moment
            return None
        except FAILURES as error:
            failure = Failure.of(error)
            if not failure.passing:
                raise _failed(patient.what, failure) from None
            patient.pause(failure)
            return None

    def _existing(self, job_id: str, what: str) -> Any | None:
        told = self.connection
        with told.told(what):
            try:
                return told.client.get_job(job_id, location=told.location, retry=told.retry, timeout=ANSWER_S)
            except api.NotFound:
                return None
            except api.Forbidden as error:
                failure = Failure.of(error)
                if failure.reason != "accessDenied":
                    raise
                raise replace(failure, advice=_ANOTHERS).error(what) from None

    def _ended(self, job: Any, what: str) -> Any:
        look_s, told = _FIRST_LOOK_S, self.connection
        while job.state != "DONE":
            told.patience.sleep(look_s)
            look_s = min(look_s * 1.5, _LONGEST_LOOK_S)
            found = self._existing(job.job_id, what)
            if found is None:
                raise WarehouseError(f"{what}: job {job.job_id} has vanished from {told.location}; run again")
            job = found
        return job

    def _remember(self, stem: str, number: int) -> None:
        with self._guard:
            self._numbers[stem] = max(number, self._numbers.get(stem, 1))


@dataclass(frozen=True, slots=True)
class _Patient:
    """The pauses of one job, and what it is called in messages."""

    what: str
    wait: Wait

    def pause(self, failure: Failure) -> None:
        self.wait.pause_or_raise(self.what, failure)


def _labels(operation: str, call: str) -> dict[str, str]:
    return {_OPERATION: operation, _CALL: call}
