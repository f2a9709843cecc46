"""The sensor `dispatch`: works off the runs that somebody asked for.

Belongs here: which slices of which runs are requested next, and when the output table is. Not here: planning
(assets/start_job.py), asking (assets/slice_assets.py). It spends nothing that nobody asked for, so it ships running.

An output table that the warehouse did not take is requested again, a few times: what was paid for must reach it.
A run is worked on while every slice of the present request goes well: one that failed or was cancelled halts it until
somebody starts it again, so that a refused key fails once and not five hundred times, and cancel means cancel.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from assets.declared import DeclaredJobs
from assets.output_asset import output_run_config
from assets.partitions import output_job_name, partition_key, slices_job_name, start_job_name
from assets.tags import AGAIN_TAG, ATTEMPT_TAG, PROMOTION_TAG, RUN_TAG, START_TAG, run_tags
from batch_llm.errors import BatchLLMError, WarehouseError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunRecord, RunState, RunStore
from batch_llm.warehouse.base import StatusCounts
from batch_llm.wiring import Store, open_store
from resources.settings import SettingsResource
from sensors.published_counts import PublishedCounts

__all__ = [
    "Decision",
    "OutputRun",
    "RequestedRun",
    "SliceRun",
    "decide",
    "dispatch_sensor",
    "in_turn",
    "interleaved",
    "requested_records",
    "worth_asking",
]

EVERY_S = 5
QUEUED_MAX = (
    4  # slices waiting in Dagster's queue: enough to keep it busy, few enough that a newcomer's turn comes soon
)
RUNS_MAX = 20  # looked at per tick, so that a tick stays far below its 60 s; the next tick goes on with the others

PROMOTE_AGAIN_AFTER_S = (60.0, 600.0, 3600.0)  # the warehouse failed: so long after the first, second, third failure

T = TypeVar("T")

_PARTITION_TAG = "dagster/partition"
_GOOD_OR_OPEN = frozenset(set(dg.DagsterRunStatus) - {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED})
_OPEN = frozenset(_GOOD_OR_OPEN - {dg.DagsterRunStatus.SUCCESS})


Wanted = tuple[DeclaredJob, RunRecord]
"""A run that is to be worked on, with its job."""


@dataclass(frozen=True, slots=True)
class SliceRun:
    """A Dagster run that works, or worked, on a slice."""

    number: int
    attempt: str
    status: dg.DagsterRunStatus


@dataclass(frozen=True, slots=True)
class OutputRun:
    """A Dagster run that the warehouse failed while it brought a run's rows into the output table."""

    rows: str  # which rows: as in `Decision.promote`
    ended_s_ago: float


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A run that somebody asked for, as it stands."""

    record: RunRecord
    attempt: str  # the present request
    counts: Mapping[int, StatusCounts]  # of the published slices
    slice_runs: Sequence[SliceRun]  # newest first
    failed_outputs: Sequence[OutputRun] = ()  # newest first


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do for a run now."""

    slices: tuple[int, ...] = ()
    promote: str | None = None  # a name for exactly these published rows
    again: int = 0  # so many times bringing these rows in failed
    waits: str | None = None  # why nothing is requested at the moment
    halted: str | None = None  # why nothing more is requested


@dataclass(slots=True)
class _Tick:
    cursor: str | None
    requests: list[dg.RunRequest] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def decide(run: RequestedRun) -> Decision:
    """What to request next for one run."""
    numbers = range(len(run.record.slice_rows))
    left = [number for number in numbers if number not in run.counts or run.counts[number].pending]
    if not left:
        ok, failed = (sum(getattr(counts, name) for counts in run.counts.values()) for name in ("ok", "failed"))
        return _promotion(f"{run.attempt}-{ok}-{failed}", run.failed_outputs)
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


def worth_asking(runs: RunStore, run: RequestedRun) -> bool:
    """Whether newer counters than the run's could lead to something else.

    While slices of it are at work, theirs cannot: what was requested is not requested again, and the output table waits
    for the last one. A slice that is to be requested may have been published by somebody else.
    """
    decision = decide(run)
    if decision.promote is not None or decision.halted is not None:
        return True
    if not decision.slices:
        return all(slice_run.status not in _OPEN for slice_run in run.slice_runs)
    run_id, soon = run.record.run_id, decision.slices[:QUEUED_MAX]
    return any(runs.size(run_id, number) and runs.is_published(run_id, number) for number in soon)


def _promotion(rows: str, failed_outputs: Sequence[OutputRun]) -> Decision:
    failed = [one for one in failed_outputs if one.rows == rows]
    if not failed:
        return Decision(promote=rows)
    if len(failed) > len(PROMOTE_AGAIN_AFTER_S):
        return Decision(halted=f"the warehouse did not take its rows, {len(failed)} times; they are kept")
    left_s = PROMOTE_AGAIN_AFTER_S[len(failed) - 1] - failed[0].ended_s_ago
    if left_s > 0:
        return Decision(waits=f"the warehouse did not take its rows; tried again in {left_s:.0f} s")
    return Decision(promote=rows, again=len(failed))


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


def in_turn(wanted: Iterable[Wanted], ended_at: str | None) -> list[Wanted]:
    """The runs that a tick looks at: oldest first, from where the last tick ended; at most `RUNS_MAX`.

    A run that is halted stays among them until somebody starts it again: it must keep no other from its turn.
    """
    ordered = sorted(wanted, key=_place)
    if len(ordered) <= RUNS_MAX:
        return ordered
    begin = next((number for number, one in enumerate(ordered) if _place(one) > (ended_at or "")), 0)
    return (ordered[begin:] + ordered[:begin])[:RUNS_MAX]


def _place(wanted: Wanted) -> str:
    return f"{wanted[1].created_at.isoformat()} {wanted[1].run_id}"


def interleaved(groups: Sequence[Sequence[T]]) -> Iterator[T]:
    """One of each group in turn: nobody's long run, or many date partitions, keep another's short one waiting."""
    for turn in zip_longest(*groups):
        yield from (one for one in turn if one is not None)


def dispatch_sensor(declared_jobs: DeclaredJobs, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """The one sensor for all declared jobs; ``jobs``: what it may request, their slices and output jobs."""
    published = PublishedCounts()

    @dg.sensor(
        name="dispatch",
        jobs=list(jobs) or None,
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Works off the runs that somebody asked for: requests their slices, then their output table.",
    )
    def dispatch(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
        try:
            looking = _Looking(context.instance, open_store(settings.create()), published)
            tick = _tick(looking, declared_jobs, context.cursor)
        except BatchLLMError as error:
            return dg.SkipReason(f"could not look at the runs: {error}")
        reason = None if tick.requests else dg.SkipReason("; ".join(tick.said) or "no run is asked for")
        return dg.SensorResult(run_requests=tick.requests, cursor=tick.cursor, skip_reason=reason)

    return dispatch


@dataclass(frozen=True, slots=True)
class _Looking:
    """Where a tick looks."""

    instance: dg.DagsterInstance
    store: Store
    published: PublishedCounts


def _tick(looking: _Looking, declared_jobs: DeclaredJobs, ended_at: str | None) -> _Tick:
    instance, store = looking.instance, looking.store
    wanted = [(declared, record) for declared in declared_jobs.jobs for record in _records(store, declared)]
    looking.published.keep_only({record.run_id for _, record in wanted})
    chosen = in_turn(wanted, ended_at)
    tick = _Tick(_place(chosen[-1]) if chosen else ended_at)
    slices: list[list[dg.RunRequest]] = []
    for declared, record in chosen:
        try:
            run = _look(looking, declared, record)
        except WarehouseError as error:
            tick.said.append(f"{record.run_id}: the warehouse is busy ({error})")
            continue
        decision = decide(run)
        if decision.halted is not None:
            tick.said.append(
                f"{record.run_id} is halted: {decision.halted}; start {start_job_name(declared.job.name)} again"
            )
        if decision.waits is not None:
            tick.said.append(f"{record.run_id}: {decision.waits}")
        if decision.promote is not None:
            tick.requests.append(_output_request(declared, declared_jobs.root, run, decision))
        slices.append([_slice_request(declared, run, number) for number in decision.slices])
    tick.requests += list(interleaved(slices))[: max(0, QUEUED_MAX - _queued(instance))]
    return tick


def _records(store: Store, declared: DeclaredJob) -> list[RunRecord]:
    return requested_records(declared, store.runs.all(declared.job.name))


def _look(looking: _Looking, declared: DeclaredJob, record: RunRecord) -> RequestedRun:
    instance, store = looking.instance, looking.store
    runs = instance.get_runs(dg.RunsFilter(job_name=slices_job_name(declared.job.name), tags={RUN_TAG: record.run_id}))
    starts = instance.get_runs(dg.RunsFilter(tags={START_TAG: record.run_id}), limit=1)
    slice_runs = [
        SliceRun(int(run.tags[_PARTITION_TAG].rsplit("-", 1)[1]), run.tags.get(ATTEMPT_TAG, ""), run.status)
        for run in runs
        if _PARTITION_TAG in run.tags
    ]
    attempt = starts[0].run_id[:8] if starts else "first"
    run = RequestedRun(record, attempt, {}, slice_runs, _failed_outputs(instance, declared, record))
    counts = looking.published.of(
        store, record.run_id, lambda known: worth_asking(store.runs, replace(run, counts=known))
    )
    return replace(run, counts=counts)


def _failed_outputs(instance: dg.DagsterInstance, declared: DeclaredJob, record: RunRecord) -> list[OutputRun]:
    wanted = dg.RunsFilter(
        job_name=output_job_name(declared.job.name),
        tags={RUN_TAG: record.run_id, AGAIN_TAG: "true"},
        statuses=[dg.DagsterRunStatus.FAILURE],
    )
    now_s = time.time()
    return [
        OutputRun(each.dagster_run.tags.get(PROMOTION_TAG, ""), now_s - (each.end_time or now_s))
        for each in instance.get_run_records(wanted)
    ]


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


def _output_request(declared: DeclaredJob, root: Path, run: RequestedRun, decision: Decision) -> dg.RunRequest:
    rows = str(decision.promote)
    again = f"-again-{decision.again}" if decision.again else ""
    return dg.RunRequest(
        run_key=f"{run.record.run_id}-promote-{rows}{again}",
        job_name=output_job_name(declared.job.name),
        partition_key=run.record.partition,
        run_config=output_run_config(declared, root, run.record.run_id),
        tags={**run_tags(declared.job, first=True), RUN_TAG: run.record.run_id, PROMOTION_TAG: rows},
    )
