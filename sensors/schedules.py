"""The schedules of declared jobs.

Belongs here: one schedule per job with ``schedule``. Not here: what it starts (assets/start_job.py).
A schedule spends, so it ships stopped.
"""

from __future__ import annotations

import dagster as dg

from assets.declared import DeclaredJobs
from assets.partitions import start_job_name
from batch_llm.job.date_partitions import DatePartitions
from batch_llm.job.load import DeclaredJob

__all__ = ["cron_of", "schedules_of"]


def schedules_of(declared_jobs: DeclaredJobs) -> list[dg.ScheduleDefinition]:
    """A stopped schedule for each job whose file asks for one."""
    return [
        _by_partition(declared, declared.partitions) if declared.partitions is not None else _by_cron(declared)
        for declared in declared_jobs.jobs
        if declared.job.schedule is not None
    ]


def cron_of(partitions: DatePartitions) -> str:
    """The moments, in UTC, at which a partition is just over."""
    weekday = partitions.start.isoweekday() % 7
    return {"daily": "0 0 * * *", "weekly": f"0 0 * * {weekday}", "monthly": "0 0 1 * *"}[partitions.cadence]


def _by_cron(declared: DeclaredJob) -> dg.ScheduleDefinition:
    assert declared.job.schedule is not None  # noqa: S101  the caller's choice
    return dg.ScheduleDefinition(
        name=f"{declared.job.name}_schedule",
        job_name=start_job_name(declared.job.name),
        cron_schedule=str(declared.job.schedule.cron),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Starts the job `{declared.job.name}`; switch it on here when it may spend.",
    )


def _by_partition(declared: DeclaredJob, partitions: DatePartitions) -> dg.ScheduleDefinition:
    job = declared.job
    cron = job.schedule.cron if job.schedule is not None else None

    @dg.schedule(
        name=f"{job.name}_schedule",
        job_name=start_job_name(job.name),
        cron_schedule=cron or cron_of(partitions),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Starts the job `{job.name}` for its latest date partition that is over; switch it on here when "
        "it may spend.",
    )
    def latest(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        partition = partitions.latest_over(context.scheduled_execution_time)
        if partition is None:
            return dg.SkipReason(f"no partition is over yet; the first begins on {partitions.start}")
        return dg.RunRequest(partition_key=partition.key)

    return latest
