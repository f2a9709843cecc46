"""The schedules of declared jobs.

Belongs here: one schedule per job with ``schedule.cron``. Not here: what it starts (assets/start_job.py).
A schedule spends, so it ships stopped.
"""

from __future__ import annotations

import dagster as dg

from assets.declared import DeclaredJobs
from assets.partitions import start_job_name

__all__ = ["schedules_of"]


def schedules_of(declared_jobs: DeclaredJobs) -> list[dg.ScheduleDefinition]:
    """A stopped schedule for each job whose file asks for one."""
    return [
        dg.ScheduleDefinition(
            name=f"{declared.job.name}_schedule",
            job_name=start_job_name(declared.job.name),
            cron_schedule=declared.job.schedule.cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=f"Starts the job `{declared.job.name}`; switch it on here when it may spend.",
        )
        for declared in declared_jobs.jobs
        if declared.job.schedule is not None and declared.job.schedule.cron is not None
    ]
