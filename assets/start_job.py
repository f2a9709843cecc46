"""The Dagster job ``<job>_run``: plan a run of a declared job and ask for its slices.

Belongs here: planning, adding the run's partitions in one request, marking the run as asked for. Not here: asking the
model: the sensor `dispatch` requests the slices, then the output table. This job spends nothing itself.
"""

from pathlib import Path

import dagster as dg
from pydantic import Field

from assets.date_partitions import time_partitions
from assets.failures import refusals_as_failures
from assets.partitions import partition_keys, slices_partitions, start_job_name
from assets.slice_assets import frozen_events
from assets.tables import observation, source_key
from assets.tags import RUN_TAG, START_TAG, run_tags
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob, declare
from batch_llm.journal.base import RunRecord
from batch_llm.wiring import open_store, planner
from resources.settings import SettingsResource

__all__ = ["StartConfig", "add_partitions", "for_table", "start_job", "start_op_name"]


class StartConfig(dg.Config):
    """What to run on."""

    table: str | None = Field(
        default=None,
        description="For a job with `watch`: the table or file to run on. Otherwise the job file says it.",
    )


def start_op_name(job: str) -> str:
    """The op of ``<job>_run``, as run config names it."""
    return f"plan_{job}"


def start_job(declared: DeclaredJob, root: Path) -> dg.JobDefinition:
    """The job ``<job>_run``."""
    job = declared.job

    @dg.op(name=start_op_name(job.name), description="Plan the run, freeze its input, ask for its slices.")
    def plan_run(context: dg.OpExecutionContext, config: StartConfig, settings: SettingsResource) -> None:
        with refusals_as_failures():
            store = open_store(settings.create())
            chosen = for_table(declared, config.table)
            if declared.partitions is not None:
                chosen = chosen.with_partition(context.partition_key)
            started = planner(store.settings, chosen).start()
            record = started.record
            for seen in observation(store, source_key(declared, root), record.source):
                context.log_event(seen)
            context.instance.add_run_tags(context.run_id, {RUN_TAG: record.run_id, START_TAG: record.run_id})
            if started.nothing_to_do:
                context.log.info(f"run {record.run_id} is finished and nothing changed since: nothing to do")
                return
            add_partitions(context.instance, job.name, record)
            for event in frozen_events(context.instance, job.name, record):
                context.log_event(event)
            store.runs.change(record.run_id, requested=True)
            context.log.info(
                f"{'going on with' if started.resumed else 'planned'} run {record.run_id}: {sum(record.slice_rows)} "
                f"rows in {len(record.slice_rows)} slices. The sensor `dispatch` starts them, then brings them into "
                f"{job.output.table}."
            )

    @dg.job(
        name=start_job_name(job.name),
        description=f"Start the job `{job.name}`: plans a run (or goes on with the last) and asks for its slices.",
        tags=run_tags(job, first=True),
        partitions_def=time_partitions(declared.partitions),
        executor_def=dg.in_process_executor,
    )
    def start() -> None:
        plan_run()

    return start


def for_table(declared: DeclaredJob, table: str | None) -> DeclaredJob:
    """The job as it runs on one table of its `watch`. Raises `ConfigurationError` when one is missing or too many."""
    job = declared.job
    if table is None and job.watch is None:
        return declared
    if table is None or job.watch is None:
        wanted = (
            "give `table`: the job watches many" if table is None else "leave `table` out: the job file names the input"
        )
        raise ConfigurationError(f"job {job.name!r}: {wanted}")
    data = declared.job_data()
    return declare({**data, "watch": None, "input": {**data["input"], "table": table}}, declared.directory)


def add_partitions(instance: dg.DagsterInstance, family: str, record: RunRecord) -> None:
    """Make the run's slices partitions of the family: all in one request, so that they lie side by side. Repeatable."""
    name = slices_partitions(family).name
    if name is not None:
        instance.add_dynamic_partitions(name, partition_keys(record))
