"""The Dagster job ``submit_job``: its run config is a job file; launched, it does the whole job.

Belongs here: turning run config into a job, showing its table in the catalog. Not here: the job model (batch_llm/job),
the translation of its types (launchpad.py), running it (whole_run.py).
A job whose name a file declares gets its partitions in that job's family, every other one in the generic family.
"""

from typing import Any

import dagster as dg

from assets.declared import DeclaredJobs
from assets.failures import refusals_as_failures
from assets.launchpad import config_fields
from assets.partitions import table_key
from assets.promotion import output_metadata
from assets.tags import PROMOTED_TAG, run_tags
from assets.whole_run import WholeRun
from batch_llm.config.settings import Settings
from batch_llm.job.load import DeclaredJob, declare
from batch_llm.job.model import Job
from batch_llm.wiring import open_store
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
            _submit(context, settings.create(), declared, declared_jobs)

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


def _submit(
    context: dg.OpExecutionContext, settings: Settings, declared: DeclaredJob, declared_jobs: DeclaredJobs
) -> None:
    """Run it, and show its table."""
    job = declared.job
    context.instance.add_run_tags(context.run_id, run_tags(job))
    summary = WholeRun(context, settings, declared, declared_jobs.family(job.name)).run()
    if summary.nothing_to_do:
        return
    store = open_store(settings)
    record = store.runs.get(summary.run_id)
    if not summary.ended_elsewhere:  # who ended it tells
        context.instance.add_run_tags(context.run_id, {PROMOTED_TAG: record.run_id})
    output = table_key(declared.resolve(job.output.table), declared_jobs.root)
    metadata = output_metadata(store, record, summary)
    context.log_event(dg.AssetMaterialization(output, partition=record.partition, metadata=metadata))
