"""The Dagster job ``submit_job``: its run config is a job file; launched, it does the whole job.

Belongs here: turning run config into a job, running it as the command line does, showing its slices and its table in
the catalog. Not here: the job model (batch_llm/job), the translation of its types (launchpad.py).
A job whose name a file declares gets its partitions in that job's family, every other one in the generic family.
"""

from typing import Any

import dagster as dg

from assets import slice_report
from assets.declared import DeclaredJobs
from assets.failures import refusals_as_failures
from assets.interrupts import Interrupts, run_interruptible
from assets.launchpad import config_fields
from assets.partitions import partition_key, table_key
from assets.progress import ProgressLog
from assets.promotion import output_metadata
from assets.slice_assets import enriched_key, frozen_events
from assets.start_job import add_partitions
from assets.tags import PROMOTED_TAG, RUN_TAG, run_tags
from batch_llm.engine.events import RunSummary, SlicePublished
from batch_llm.job.load import DeclaredJob, declare
from batch_llm.job.model import Job
from batch_llm.journal.base import RunRecord
from batch_llm.wiring import Store, engine, open_store
from resources.settings import SettingsResource

__all__ = ["SUBMIT_JOB", "SUBMIT_OP", "run_config_of", "submit_job"]

SUBMIT_JOB = "submit_job"
SUBMIT_OP = "run_submitted_job"


def submit_job(declared_jobs: DeclaredJobs) -> dg.JobDefinition:
    """The job ``submit_job``; relative paths in its run config start at the code location's root."""

    @dg.op(
        name=SUBMIT_OP,
        config_schema=config_fields(Job),
        description="Check the job, then run it: plan, ask, publish, bring into the table.",
    )
    def run_submitted_job(context: dg.OpExecutionContext, settings: SettingsResource) -> None:
        with refusals_as_failures():
            declared = declare(dict(context.op_config), declared_jobs.root)
            _Submission(context, settings, declared, declared_jobs).run()

    @dg.job(
        name=SUBMIT_JOB,
        description="Run a job without a file: paste a job file into the Launchpad (or fill it in) and launch. Paths "
        f"are relative to {declared_jobs.root}. This asks the model and spends, up to `budget_usd`.",
        config=dg.ConfigMapping(config_schema=config_fields(Job), config_fn=run_config_of),
        executor_def=dg.in_process_executor,
    )
    def submit() -> None:
        run_submitted_job()

    return submit


def run_config_of(job: dict[str, Any]) -> dict[str, Any]:
    """The whole run config for a job given as a mapping."""
    return {"ops": {SUBMIT_OP: {"config": job}}}


class _Submission:
    """One submitted job at work in one Dagster run."""

    def __init__(
        self,
        context: dg.OpExecutionContext,
        settings: SettingsResource,
        declared: DeclaredJob,
        declared_jobs: DeclaredJobs,
    ) -> None:
        self._context = context
        self._settings = settings.create()
        self._declared = declared
        self._family = declared_jobs.family(declared.job.name)
        self._output = table_key(declared.resolve(declared.job.output.table), declared_jobs.root)
        self._record: RunRecord | None = None

    def run(self) -> None:
        context, job = self._context, self._declared.job
        context.instance.add_run_tags(context.run_id, run_tags(job))
        summary = run_interruptible(self._ask)
        if summary.nothing_to_do:
            context.log.info(f"run {summary.run_id} is finished and nothing changed since: nothing to do")
            return
        if summary.stopped is not None or summary.blocked is not None:
            reason = summary.blocked or f"stopped early: {summary.stopped}; {summary.pending} rows are not answered yet"
            raise dg.Failure(
                description=f"{reason}. What is paid is kept; launch it again to go on.", allow_retries=False
            )
        self._show_output(summary)

    async def _ask(self, interrupts: Interrupts) -> RunSummary:
        progress = ProgressLog(self._context.log, on_published=self._show_slice)
        async with engine(self._settings, self._declared, listener=progress) as opened:
            started = await opened.start()
            if not started.nothing_to_do:
                self._begin(started.record)
            with interrupts.stopping_with(opened.stop):
                return await opened.run()

    def _begin(self, record: RunRecord) -> None:
        """The run exists from now on: its partitions too."""
        self._record = record
        add_partitions(self._context.instance, self._family, record)
        for event in frozen_events(self._context.instance, self._family, record):
            self._context.log_event(event)
        self._context.instance.add_run_tags(self._context.run_id, {RUN_TAG: record.run_id})

    def _show_slice(self, event: SlicePublished) -> None:
        if self._record is None or event.pending:
            return
        record, number, store = self._record, event.slice_number, open_store(self._settings)
        numbers = slice_report.slice_numbers(store.warehouse, record, number)
        key, partition = enriched_key(self._family), partition_key(record.run_id, number)
        metadata = slice_report.metadata(record, numbers)
        self._context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))

    def _show_output(self, summary: RunSummary) -> None:
        store: Store = open_store(self._settings)
        record = store.runs.get(summary.run_id)
        if not summary.ended_elsewhere:  # who ended it tells
            self._context.instance.add_run_tags(self._context.run_id, {PROMOTED_TAG: record.run_id})
        metadata = output_metadata(store, record, summary)
        self._context.log_event(dg.AssetMaterialization(self._output, metadata=metadata))
