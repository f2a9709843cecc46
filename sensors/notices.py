"""Sensors that send a notice when a run has ended: one per run, to the channels its job names.

Belongs here: which Dagster run ends a run of batch_llm, and that nobody is told twice. Not here: the words and the
delivery (batch_llm/notify.py). A run ends well when its rows are in the output table, and badly with the first of its
Dagster runs that fails and is not tried again. Cancelled is neither: who cancelled knows.
"""

from collections.abc import Callable, Mapping

import dagster as dg

from assets.promotion import summary_of
from assets.tags import ATTEMPT_TAG, NOTIFIED_TAG, PROMOTED_TAG, RUN_TAG
from batch_llm.errors import BatchLLMError
from batch_llm.job.load import declare
from batch_llm.journal.base import RunRecord
from batch_llm.notify import Notice, deliver, notice_of_summary
from batch_llm.wiring import Store, open_store
from resources.settings import SettingsResource

__all__ = ["ended_run", "notice_sensors"]

EVERY_S = 10
WILL_RETRY_TAG = "dagster/will_retry"


def notice_sensors() -> list[dg.SensorDefinition]:
    """One sensor for runs that finished, one for runs that failed."""

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="notify_finished",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the job's channels that a run is in its output table.",
    )
    def finished(context: dg.RunStatusSensorContext, settings: SettingsResource) -> dg.SkipReason:
        return _tell(context, settings, _finished_notice)

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.FAILURE,
        name="notify_failed",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the job's channels that a run failed.",
    )
    def failed(context: dg.RunStatusSensorContext, settings: SettingsResource) -> dg.SkipReason:
        return _tell(context, settings, _failed_notice)

    return [finished, failed]


def ended_run(tags: Mapping[str, str], status: dg.DagsterRunStatus) -> str | None:
    """The run of batch_llm that a Dagster run with these tags has ended; None when it has not ended one."""
    if status is dg.DagsterRunStatus.SUCCESS:
        return tags.get(PROMOTED_TAG)
    return None if tags.get(WILL_RETRY_TAG) == "true" else tags.get(RUN_TAG)


NoticeOf = Callable[[dg.RunStatusSensorContext, Store, RunRecord], Notice | None]


def _tell(context: dg.RunStatusSensorContext, settings: SettingsResource, notice_of: NoticeOf) -> dg.SkipReason:
    run_id = ended_run(context.dagster_run.tags, context.dagster_run.status)
    if run_id is None:
        return dg.SkipReason("this Dagster run did not end a run")
    try:
        store = open_store(settings.create())
        record = store.runs.get(run_id)
        notice = notice_of(context, store, record)
        channels = declare(record.job, record.job_dir).job.notify
    except BatchLLMError as error:
        return dg.SkipReason(f"no notice of {run_id}: {error}")
    if notice is None or not channels:
        return dg.SkipReason(f"{run_id}: no channel, or nothing to tell")
    if _was_told(context, run_id):
        return dg.SkipReason(f"{run_id}: told before")
    problems = [f"{one.reference}: {one.problem}" for one in deliver(channels, notice) if one.problem is not None]
    return dg.SkipReason("; ".join(problems) or f"told {len(channels)} channels that {notice.title}")


def _finished_notice(context: dg.RunStatusSensorContext, store: Store, record: RunRecord) -> Notice | None:
    output = str(record.job["output"]["table"])
    return notice_of_summary(summary_of(record, store.warehouse, output))


def _failed_notice(context: dg.RunStatusSensorContext, store: Store, record: RunRecord) -> Notice | None:
    run = context.dagster_run
    return Notice(
        f"{record.job['name']} failed",
        f"run {record.run_id}: the Dagster run {run.run_id[:8]} of {run.job_name} failed; what is paid is kept.\n"
        f"Look at it in Dagster, then start {record.job['name']}_run again.",
        good=False,
    )


def _was_told(context: dg.RunStatusSensorContext, run_id: str) -> bool:
    """Whether a notice of this end was sent before; remembers that one is sent now."""
    run = context.dagster_run
    end = f"{run.status.value}-{run.tags.get(ATTEMPT_TAG, run.run_id)}"
    marked = context.instance.get_runs(dg.RunsFilter(tags={RUN_TAG: run_id, NOTIFIED_TAG: end}), limit=1)
    context.instance.add_run_tags(run.run_id, {NOTIFIED_TAG: end})
    return bool(marked)
