"""The two assets of a family: ``<family>/input_slices`` and ``<family>/enriched_slices``, one partition per slice.

Belongs here: their definitions and thin bodies. Not here: asking (the engine), what is shown (slice_report.py).
A partition always means the same rows and the same question: what is asked stands in the run's record, not in the job
file of today. Rerunning a partition asks failed rows once more and never ok ones.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from assets import slice_report
from assets.failures import refusals_as_failures
from assets.interrupts import Interrupts, run_interruptible
from assets.partitions import parse_partition_key, partition_key, slices_partitions, table_key
from assets.progress import Facts, ProgressLog
from assets.promotion import output_metadata, promote
from assets.tags import RUN_TAG
from batch_llm.config.settings import Settings
from batch_llm.engine.events import SlicePublished
from batch_llm.engine.parts import frozen_input
from batch_llm.engine.summary import fingerprint
from batch_llm.job.load import declare
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.memory import one_heap
from batch_llm.warehouse.base import Warehouse
from batch_llm.wiring import Store, engine, open_store
from resources.settings import SettingsResource

__all__ = ["Family", "enriched_key", "frozen_events", "input_key", "owners_of", "slice_assets"]

SAMPLE_ROWS = 5

_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Family:
    """The slices of one declared job, or of all jobs submitted at run time."""

    name: str
    description: str
    sources: tuple[dg.AssetKey, ...] = ()
    owners: tuple[str, ...] = ()
    kinds: frozenset[str] = field(default_factory=frozenset)
    tags: tuple[tuple[str, str], ...] = ()
    submitted_root: Path | None = None  # of the generic family: where the names of files start


def input_key(family: str) -> dg.AssetKey:
    """The asset of the frozen input slices."""
    return dg.AssetKey([family, "input_slices"])


def enriched_key(family: str) -> dg.AssetKey:
    """The asset of the answered slices."""
    return dg.AssetKey([family, "enriched_slices"])


def frozen_events(instance: dg.DagsterInstance, family: str, record: RunRecord) -> Iterator[dg.AssetMaterialization]:
    """Freezing made the input slices: one materialization for each that ``instance`` does not know yet."""
    known = instance.get_materialized_partitions(input_key(family))
    for number, rows in enumerate(record.slice_rows):
        partition = partition_key(record.run_id, number)
        if partition not in known:
            metadata = {"rows": rows, "dagster/row_count": rows, "source": record.source, "run": record.run_id}
            yield dg.AssetMaterialization(input_key(family), partition=partition, metadata=metadata)


def slice_assets(family: Family) -> list[dg.AssetsDefinition]:
    """The two assets of a family."""
    partitions = slices_partitions(family.name)

    @dg.asset(
        key=input_key(family.name),
        partitions_def=partitions,
        deps=family.sources,
        group_name=family.name,
        description=f"The frozen input of {family.description}: a slice's rows never change under a run.",
        owners=family.owners,
        kinds={"parquet"},
        tags=dict(family.tags),
    )
    def input_slices(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
        with refusals_as_failures():
            store = open_store(settings.create())
            record, number = _slice_of(context, store)
            return dg.MaterializeResult(metadata=_frozen_metadata(store.warehouse, record, number))

    @dg.asset(
        key=enriched_key(family.name),
        partitions_def=partitions,
        deps=[input_slices],
        group_name=family.name,
        description=f"The answers of {family.description}: every input row ok, failed with its reason, or pending.",
        owners=family.owners,
        kinds=set(family.kinds),
        tags=dict(family.tags),
        check_specs=slice_report.check_specs(enriched_key(family.name)),
    )
    def enriched_slices(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
        with refusals_as_failures():
            return _enrich(context, settings.create(), family)

    return [input_slices, enriched_slices]


def _enrich(context: dg.AssetExecutionContext, settings: Settings, family: Family) -> dg.MaterializeResult:
    one_heap()
    store = open_store(settings)
    record, number = _slice_of(context, store)
    context.instance.add_run_tags(context.run.run_id, {RUN_TAG: record.run_id})
    progress = ProgressLog(context.log, observe=lambda facts: _observe(context, facts))
    published = run_interruptible(lambda interrupts: _ask(settings, record, number, progress, interrupts))
    numbers = slice_report.slice_numbers(store.warehouse, record, number)
    if published.pending:
        raise dg.Failure(
            description=f"{published.pending} of {published.rows} rows are not answered yet"
            f"{f' ({progress.stopped})' if progress.stopped else ''}; what is paid is kept. "
            "Rerun this partition to ask them.",
            metadata=slice_report.metadata(record, numbers),
            allow_retries=False,
        )
    asked = progress.last is not None and progress.last.requests > 0
    if asked or record.state is not RunState.FINISHED:
        _bring_in(context, store, record, family)
    return dg.MaterializeResult(
        metadata=slice_report.metadata(record, numbers, rows_per_s=progress.rows_per_s),
        check_results=slice_report.check_results(context.asset_key, record, number, numbers),
    )


async def _ask(
    settings: Settings, record: RunRecord, number: int, progress: ProgressLog, interrupts: Interrupts
) -> SlicePublished:
    declared = declare(record.job, Path(record.job_dir))
    async with engine(settings, declared, listener=progress) as opened:
        with interrupts.stopping_with(opened.stop):
            return await opened.run_slice(record, number)


def _bring_in(context: dg.AssetExecutionContext, store: Store, record: RunRecord, family: Family) -> None:
    """When this was the run's last open slice, see that its answers get into the output table.

    Never for an older run: it would bring older answers back.
    """
    if record.state is RunState.SUPERSEDED:
        return
    runs = (one for one in store.runs.all(record.job["name"]) if one.partition == record.partition)
    latest = next(runs, None)
    if latest is None or _is_older(record, latest):
        return
    with store.runs.ending(record.run_id):  # another slice, or a `run` beside it, may end the run at the same time
        counts = store.warehouse.published(record.run_id)
        complete = len(counts) == len(record.slice_rows) and not any(one.pending for one in counts.values())
        stored = store.runs.get(record.run_id)
        if not complete or (stored.state is RunState.FINISHED and stored.ended_as == fingerprint(counts)):
            return
        if family.submitted_root is None:  # the sensor `dispatch` requests the table, as for a run it worked off
            store.runs.change(record.run_id, state=RunState.PLANNED, requested=True)
            return
    summary = promote(store.settings, record)
    if summary.ended_elsewhere:
        return
    declared = declare(record.job, Path(record.job_dir))
    key = table_key(declared.resolve(declared.job.output.table), family.submitted_root)
    metadata = output_metadata(store, record, summary)
    context.log_event(dg.AssetMaterialization(key, partition=record.partition, metadata=metadata))


def _is_older(record: RunRecord, latest: RunRecord) -> bool:
    return latest.source == record.source and latest.run_id != record.run_id


def _slice_of(context: dg.AssetExecutionContext, store: Store) -> tuple[RunRecord, int]:
    """The run and slice of the partition. Raises `JournalError` for a run that was forgotten."""
    run_id, number = parse_partition_key(context.partition_key)
    return store.runs.get(run_id), number


def _frozen_metadata(warehouse: Warehouse, record: RunRecord, number: int) -> dict[str, slice_report.Value]:
    """Read the frozen slice through. Raises `dg.Failure` when it does not hold what the record says."""
    rows, keys = 0, list[dict[str, object]]()
    for batch in warehouse.read(frozen_input(record), number):
        rows += batch.num_rows
        keys += batch.slice(0, max(0, SAMPLE_ROWS - len(keys))).select(list(record.key)).to_pylist()
    if rows != record.slice_rows[number]:
        raise dg.Failure(
            description=f"the frozen slice holds {rows} rows, its run's record says {record.slice_rows[number]}",
            allow_retries=False,
        )
    shown: dict[str, slice_report.Value] = {"rows": rows, "dagster/row_count": rows, "source": record.source}
    return {**shown, "run": record.run_id, "keys": slice_report.sample_table(keys)}


def _observe(context: dg.AssetExecutionContext, facts: Facts) -> None:
    context.log_event(dg.AssetObservation(context.asset_key, partition=context.partition_key, metadata=dict(facts)))


def owners_of(user: str) -> tuple[str, ...]:
    """A job's `user` as Dagster wants owners: an address, or a team."""
    return (user,) if _ADDRESS.fullmatch(user) else (f"team:{user}",)
