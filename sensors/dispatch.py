"""The sensor `dispatch`: works off the runs that somebody asked for.

Belongs here: which slices of which runs are requested next, and when the output table is. Not here: planning
(assets/start_job.py), asking (assets/slice_assets.py). It spends nothing that nobody asked for, so it ships running.

A run is worked on while every slice of the present request goes well: one that failed or was cancelled halts it until
somebody starts it again, so that a refused key fails once and not five hundred times, and cancel means cancel.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from assets.declared import DeclaredJobs
from assets.output_asset import output_run_config
from assets.partitions import output_job_name, partition_key, slices_job_name, start_job_name
from assets.tags import ATTEMPT_TAG, RUN_TAG, START_TAG, run_tags
from batch_llm.errors import BatchLLMError, WarehouseError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.warehouse.base import StatusCounts
from batch_llm.wiring import Store, open_store
from resources.settings import SettingsResource

__all__ = ["Decision", "RequestedRun", "SliceRun", "decide", "dispatch_sensor", "interleaved", "requested_records"]

EVERY_S = 5
QUEUED_MAX = (
    4  # slices waiting in Dagster's queue: enough to keep it busy, few enough that a newcomer's turn comes soon
)
RUNS_MAX = 20  # looked at per tick, so that a tick stays far below its 60 s

T = TypeVar("T")

_PARTITION_TAG = "dagster/partition"
_GOOD_OR_OPEN = frozenset(set(dg.DagsterRunStatus) - {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
_OPEN = frozenset(_GOOD_OR_OPEN - {dg.DagsterRunStatus.SUCCESS})


@dataclass(frozen=True, slots=True)
class SliceRun:
    """A Dagster run that works, or worked, on a slice."""

    number: int
    attempt: str
    status: dg.DagsterRunStatus


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A run that somebody asked for, as it stands."""

    record: RunRecord
    attempt: str  # the present request
    counts: Mapping[int, StatusCounts]  # of the published slices
    slice_runs: Sequence[SliceRun]  # newest first


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do for a run now."""

    slices: tuple[int, ...] = ()
    promote: str | None = None  # a name for exactly these published rows
    halted: str | None = None  # why nothing more is requested


@dataclass(slots=True)
class _Tick:
    requests: list[dg.RunRequest] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def decide(run: RequestedRun) -> Decision:
    """What to request next for one run."""
    numbers = range(len(run.record.slice_rows))
    left = [number for number in numbers if number not in run.counts or run.counts[number].pending]
    if not left:
        ok, failed = (sum(getattr(counts, name) for counts in run.counts.values()) for name in ("ok", "failed"))
        return Decision(promote=f"{run.attempt}-{ok}-{failed}")
    latest: dict[int, SliceRun] = {}
    for slice_run in run.slice_runs:
        if slice_run.attempt == run.attempt:
            latest.setdefault(slice_run.number, slice_run)
    working = {slice_run.number for slice_run in run.slice_runs if slice_run.status in _OPEN}
    for number in left:
        if number in latest and latest[number].status not in _GOOD_OR_OPEN and number not in working:
            status = latest[number].status.value.lower()
            return Decision(halted=f"the run of slice {partition_key(run.record.run_id, number)} ended as {status}")
    return Decision(slices=tuple(number for number in left if number not in working and number not in latest))


def requested_records(declared: DeclaredJob, records: Iterable[RunRecord]) -> list[RunRecord]:
    """The job's runs that are to be worked on, oldest first.

    A job has one run at a time, the newest on its table; a job with `watch` one per table, one with a cadence one per
    date partition.
    """
    newest_first = list(records)
    if declared.job.watch is None:
        source = declared.resolve(str(declared.job.input.table))
        newest: dict[str | None, RunRecord] = {}
        for record in newest_first:
            if record.source == source and (record.partition is None) == (declared.partitions is None):
                newest.setdefault(record.partition, record)
        newest_first = list(newest.values())
    return [record for record in reversed(newest_first) if record.requested and record.state is RunState.PLANNED]


def interleaved(groups: Sequence[Sequence[T]]) -> Iterator[T]:
    """One of each group in turn: nobody's long run, or many date partitions, keep another's short one waiting."""
    for turn in zip_longest(*groups):
        yield from (one for one in turn if one is not None)


def dispatch_sensor(declared_jobs: DeclaredJobs, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The one sensor for all declared jobs; ``jobs``: what it may request, their slices and output jobs."""

    @dg.sensor(
        name="dispatch",
        jobs=list(jobs) or None,
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Works off the runs that somebody asked for: requests their slices, then their output table.",
    )
    def dispatch(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
        try:
            tick = _tick(context.instance, open_store(settings.create()), declared_jobs)
        except BatchLLMError as error:
            return dg.SkipReason(f"could not look at the runs: {error}")
        if not tick.requests:
            return dg.SkipReason("; ".join(tick.said) or "no run is asked for")
        return dg.SensorResult(run_requests=tick.requests)

    return dispatch


def _tick(instance: dg.DagsterInstance, store: Store, declared_jobs: DeclaredJobs) -> _Tick:
    tick = _Tick()
    slices: list[list[dg.RunRequest]] = []
    wanted = [[(declared, record) for record in _records(store, declared)] for declared in declared_jobs.jobs]
    for declared, record in sorted(islice(interleaved(wanted), RUNS_MAX), key=lambda one: one[1].created_at):
        try:
            run = _look(instance, store, declared, record)
        except WarehouseError as error:
            tick.said.append(f"{record.run_id}: the warehouse is busy ({error})")
            continue
        decision = decide(run)
        if decision.halted is not None:
            tick.said.append(
                f"{record.run_id} is halted: {decision.halted}; start {start_job_name(declared.job.name)} again"
            )
        if decision.promote is not None:
            tick.requests.append(_output_request(declared, declared_jobs.root, run, decision.promote))
        slices.append([_slice_request(declared, run, number) for number in decision.slices])
    tick.requests += list(interleaved(slices))[: max(0, QUEUED_MAX - _queued(instance))]
    return tick


def _records(store: Store, declared: DeclaredJob) -> list[RunRecord]:
    return requested_records(declared, store.runs.all(declared.job.name))


def _look(instance: dg.DagsterInstance, store: Store, declared: DeclaredJob, record: RunRecord) -> RequestedRun:
    runs = instance.get_runs(dg.RunsFilter(job_name=slices_job_name(declared.job.name), tags={RUN_TAG: record.run_id}))
    starts = instance.get_runs(dg.RunsFilter(tags={START_TAG: record.run_id}), limit=1)
    slice_runs = [
        SliceRun(int(run.tags[_PARTITION_TAG].rsplit("-", 1)[1]), run.tags.get(ATTEMPT_TAG, ""), run.status)
        for run in runs
        if _PARTITION_TAG in run.tags
    ]
    attempt = starts[0].run_id[:8] if starts else "first"
    return RequestedRun(record, attempt, store.warehouse.published(record.run_id), slice_runs)


def _queued(instance: dg.DagsterInstance) -> int:
    waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    return sum(1 for run in instance.get_runs(dg.RunsFilter(statuses=waiting), limit=100) if ATTEMPT_TAG in run.tags)


def _slice_request(declared: DeclaredJob, run: RequestedRun, number: int) -> dg.RunRequest:
    key = partition_key(run.record.run_id, number)
    return dg.RunRequest(
        run_key=f"{key}-{run.attempt}",
        job_name=slices_job_name(declared.job.name),
        partition_key=key,
        tags={**run_tags(declared.job), RUN_TAG: run.record.run_id, ATTEMPT_TAG: run.attempt},
    )


def _output_request(declared: DeclaredJob, root: Path, run: RequestedRun, rows: str) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{run.record.run_id}-promote-{rows}",
        job_name=output_job_name(declared.job.name),
        partition_key=run.record.partition,
        run_config=output_run_config(declared, root, run.record.run_id),
        tags={**run_tags(declared.job, first=True), RUN_TAG: run.record.run_id},
    )
