"""Showing in Dagster what the command line did: partitions and materializations of runs made elsewhere.

Belongs here: comparing the run records with a Dagster instance and reporting what it does not know. Not here: when that
happens (sensors/mirror.py). Everything is derived from stored rows, and doing it again changes nothing.

``python -m assets.mirror`` does it once, for the instance of ``DAGSTER_HOME``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import dagster as dg

from assets import slice_report
from assets.declared import DeclaredJobs, default_job_files, load_declared
from assets.partitions import partition_key, slices_partitions, table_key
from assets.promotion import output_metadata, summary_of
from assets.slice_assets import enriched_key, frozen_events
from assets.start_job import add_partitions
from batch_llm.config.settings import Settings
from batch_llm.errors import BatchLLMError
from batch_llm.job.load import declare
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.wiring import Store, open_store

__all__ = ["Mirrored", "main", "mirror"]

RECENT = timedelta(days=30)  # older runs that Dagster does not know are history
OPEN_STATUSES = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
OPEN_RUNS_MAX = 1_000
PARTITION_TAG = "dagster/partition"


@dataclass(slots=True)
class Mirrored:
    """What was reported now."""

    partitions: int = 0
    slices: int = 0
    outputs: int = 0
    complete: bool = True  # False: the time was up, the next call goes on

    def __bool__(self) -> bool:
        """Whether anything was."""
        return bool(self.partitions or self.slices or self.outputs)


def mirror(
    instance: dg.DagsterInstance, store: Store, declared_jobs: DeclaredJobs, *, within_s: float = 30.0
) -> Mirrored:
    """Report to ``instance`` what it does not know of ``store``: runs, slices, outputs; stops after ``within_s``."""
    mirrored = Mirrored()
    deadline_s = monotonic() + within_s
    since = datetime.now(UTC) - RECENT
    materialized: dict[str, set[str]] = {}
    newest: set[tuple[str, str | None]] = set()
    at_work = _at_work(instance)
    for record in store.runs.all():
        if record.state is RunState.SUPERSEDED or record.created_at < since:
            continue
        family = declared_jobs.family(record.job["name"])
        if family not in materialized:
            materialized[family] = _materialized(instance, family)
        known = materialized[family] | at_work
        one = _Mirror(instance, store, record, family, mirrored)
        one.partitions()
        if not one.slices(known, lambda: monotonic() < deadline_s):
            mirrored.complete = False
            break
        of_same_rows = (record.job["name"], record.partition)
        if record.state is RunState.FINISHED and of_same_rows not in newest:
            one.output(declared_jobs.root)
        newest.add(of_same_rows)
    return mirrored


def _materialized(instance: dg.DagsterInstance, family: str) -> set[str]:
    return set(instance.get_materialized_partitions(enriched_key(family)))


def _at_work(instance: dg.DagsterInstance) -> set[str]:
    """Partitions that a Dagster run is at work on: it reports them itself."""
    running = instance.get_runs(dg.RunsFilter(statuses=list(OPEN_STATUSES)), limit=OPEN_RUNS_MAX)
    return {run.tags[PARTITION_TAG] for run in running if PARTITION_TAG in run.tags}


@dataclass(frozen=True, slots=True)
class _Mirror:
    """One run."""

    instance: dg.DagsterInstance
    store: Store
    record: RunRecord
    family: str
    mirrored: Mirrored

    def partitions(self) -> None:
        """Its slices are partitions of the family."""
        name = str(slices_partitions(self.family).name)
        last = partition_key(self.record.run_id, len(self.record.slice_rows) - 1)
        if self.record.slice_rows and not self.instance.has_dynamic_partition(name, last):
            add_partitions(self.instance, self.family, self.record)
            for event in frozen_events(self.instance, self.family, self.record):
                self.instance.report_runless_asset_event(event)
            self.mirrored.partitions += len(self.record.slice_rows)

    def slices(self, known: set[str], in_time: Callable[[], bool]) -> bool:
        """Its published slices are materialized; False when the time was up before the end."""
        numbers = [n for n in range(len(self.record.slice_rows)) if partition_key(self.record.run_id, n) not in known]
        if not numbers:
            return True
        counts = self.store.warehouse.published(self.record.run_id)
        for number in numbers:
            if number not in counts or counts[number].pending:
                continue
            if not in_time():
                return False
            for event in self._slice_events(number):
                self.instance.report_runless_asset_event(event)
            self.mirrored.slices += 1
        return True

    def output(self, root: Path) -> None:
        """Its output table is materialized, by it or by a later run."""
        declared = declare(self.record.job, Path(self.record.job_dir))
        key = table_key(declared.resolve(declared.job.output.table), root)
        partition = self.record.partition
        shown = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
        events = self.instance.fetch_materializations(shown, limit=1).records
        finished_at = self.record.finished_at
        if events and (finished_at is None or events[0].timestamp >= finished_at.timestamp()):
            return
        summary = summary_of(self.record, self.store.warehouse, declared.resolve(declared.job.output.table))
        metadata = output_metadata(self.store, self.record, summary)
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
        self.mirrored.outputs += 1

    def _slice_events(self, number: int) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        partition = partition_key(self.record.run_id, number)
        numbers = slice_report.slice_numbers(self.store.warehouse, self.record, number)
        key = enriched_key(self.family)
        metadata = slice_report.metadata(self.record, numbers)
        yield dg.AssetMaterialization(key, partition=partition, metadata=metadata)
        for check in slice_report.check_results(key, self.record, number, numbers):
            yield dg.AssetCheckEvaluation(
                key, str(check.check_name), check.passed, metadata=check.metadata, severity=check.severity
            )


def main() -> None:
    """Report everything once and say what was reported."""
    root = Path(__file__).resolve().parent.parent
    os.environ.setdefault("DAGSTER_HOME", str(root))
    store = open_store(Settings.from_environment(cwd=root))
    declared = load_declared(default_job_files(root), root)
    try:
        with dg.DagsterInstance.get() as instance:
            mirrored = mirror(instance, store, declared, within_s=600.0)
    except BatchLLMError as error:
        raise SystemExit(f"could not show the runs in Dagster: {error}") from None
    print(f"Dagster now shows {mirrored.slices} more slices and {mirrored.outputs} more output tables.")  # noqa: T201


if __name__ == "__main__":
    main()
