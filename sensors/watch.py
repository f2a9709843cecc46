"""Sensors that start a job when its input appears or changes.

Belongs here: which tables start a run, each once. Not here: what a run does (assets/start_job.py), listing tables (the
warehouse). These sensors spend, so they ship stopped.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.declared import DeclaredJobs
from assets.partitions import start_job_name
from assets.start_job import start_op_name
from batch_llm.errors import BatchLLMError
from batch_llm.job.load import DeclaredJob
from batch_llm.warehouse.base import TableInfo, Warehouse
from batch_llm.wiring import open_store
from resources.settings import SettingsResource
from sensors.listings import Listings

__all__ = ["Seen", "changed_version", "due_tables", "has_versions", "is_settled", "watch_sensors"]

EVERY_S = 30
STARTS_MAX = 20  # per tick
SETTLED_AFTER = timedelta(seconds=5)  # a file younger than this may still be written


@dataclass(frozen=True, slots=True)
class Seen:
    """The cursor: which version of which table has started a run."""

    versions: Mapping[str, str]

    @classmethod
    def read(cls, cursor: str | None) -> "Seen":
        """From the sensor's cursor."""
        return cls(json.loads(cursor) if cursor else {})

    def write(self) -> str:
        """As the sensor's cursor."""
        return json.dumps(dict(sorted(self.versions.items())))

    def with_tables(self, tables: Iterable[TableInfo]) -> "Seen":
        """The cursor after these tables started runs."""
        return Seen({**self.versions, **{table.ref: table.version for table in tables}})


def due_tables(seen: Seen, tables: Iterable[TableInfo], *, on_changed: bool, now: datetime) -> list[TableInfo]:
    """The tables that are to start a run now: new ones, with ``on_changed`` changed ones too; at most `STARTS_MAX`."""
    due = [
        table
        for table in tables
        if is_settled(table, now)
        and (table.ref not in seen.versions or (on_changed and seen.versions[table.ref] != table.version))
    ]
    return sorted(due, key=lambda table: table.ref)[:STARTS_MAX]


def is_settled(table: TableInfo, now: datetime) -> bool:
    """Whether nobody seems to be writing it any more."""
    return table.modified_at is None or now - table.modified_at >= SETTLED_AFTER


def changed_version(seen: Seen, table: TableInfo, last_run_version: str | None) -> bool:
    """Whether an input differs from what started, or was read by, the last run."""
    return table.version != seen.versions.get(table.ref, last_run_version)


def has_versions(warehouse: Warehouse, table: TableInfo) -> bool:
    """Whether the version says anything: two looks at an input that nobody changes give the same one."""
    return warehouse.source(table.ref).version == table.version


def watch_sensors(declared_jobs: DeclaredJobs) -> list[dg.SensorDefinition]:
    """One stopped sensor per job: ``<job>_watch`` for a job with `watch`, else ``<job>_changed``.

    None for a job with a cadence: that its table changed does not say which of its date partitions did.
    """
    listings = Listings()
    return [
        _watch_sensor(declared, listings) if declared.job.watch is not None else _changed_sensor(declared)
        for declared in declared_jobs.jobs
        if declared.partitions is None
    ]


def _watch_sensor(declared: DeclaredJob, listings: Listings) -> dg.SensorDefinition:
    job = declared.job
    assert job.watch is not None  # noqa: S101  the caller's choice of sensor
    pattern, on_changed = declared.resolve(job.watch.tables), job.watch.on == "changed"

    @dg.sensor(
        name=f"{job.name}_watch",
        job_name=start_job_name(job.name),
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Starts the job `{job.name}` once for each {'new or changed' if on_changed else 'new'} table that "
        f"matches `{job.watch.tables}`. Those that exist when it is switched on are new.",
    )
    def watch(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
        seen = Seen.read(context.cursor)
        try:
            found = listings.matching(settings.create(), pattern)
        except BatchLLMError as error:
            return dg.SkipReason(f"could not look for tables: {error}")
        due = due_tables(seen, found, on_changed=on_changed, now=datetime.now(UTC))
        if not due:
            return dg.SkipReason(f"nothing new among {len(found)} tables that match {job.watch.tables}")
        requests = [
            _start(declared, f"{table.ref}@{table.version}" if on_changed else table.ref, table.ref) for table in due
        ]
        return dg.SensorResult(run_requests=requests, cursor=seen.with_tables(due).write())

    return watch


def _changed_sensor(declared: DeclaredJob) -> dg.SensorDefinition:
    job = declared.job
    source = declared.resolve(str(job.input.table))

    @dg.sensor(
        name=f"{job.name}_changed",
        job_name=start_job_name(job.name),
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Starts the job `{job.name}` when `{job.input.table}` differs from what the last run read.",
    )
    def changed(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
        seen = Seen.read(context.cursor)
        try:
            store = open_store(settings.create())
            table = store.warehouse.source(source)
            last = store.runs.latest(job.name)
        except BatchLLMError as error:
            return dg.SkipReason(f"could not look at {job.input.table}: {error}")
        if not changed_version(seen, table, last.input_version if last is not None else None):
            return dg.SkipReason(f"{job.input.table} has not changed")
        if not is_settled(table, datetime.now(UTC)):
            return dg.SkipReason(f"{job.input.table} changed just now; waiting whether it changes on")
        if not has_versions(store.warehouse, table):
            return dg.SkipReason(
                f"{job.input.table}: its version is another at each look, so nobody can tell whether it changed: an "
                "external table, or one that is being written; for an external table use `schedule`"
            )
        return dg.SensorResult(
            run_requests=[_start(declared, f"{table.ref}@{table.version}", None)],
            cursor=seen.with_tables([table]).write(),
        )

    return changed


def _start(declared: DeclaredJob, run_key: str, table: str | None) -> dg.RunRequest:
    config = {} if table is None else {"table": table}
    return dg.RunRequest(
        run_key=run_key,
        run_config={"ops": {start_op_name(declared.job.name): {"config": config}}},
    )
