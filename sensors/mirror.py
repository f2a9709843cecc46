"""The sensor `mirror`: shows the command line's runs in the catalog.

Belongs here: when. Not here: what is reported (assets/mirror.py). It spends nothing, so it ships running.
"""

import dagster as dg

from assets.declared import DeclaredJobs
from assets.mirror import mirror
from batch_llm.errors import BatchLLMError
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["mirror_sensor"]

EVERY_S = 30
WITHIN_S = 30.0  # a sensor's tick has 60 s


def mirror_sensor(declared_jobs: DeclaredJobs) -> dg.SensorDefinition:
    """The one sensor for all jobs."""

    @dg.sensor(
        name="mirror",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Shows the runs that were made with the command line as partitions and materializations.",
    )
    def show_runs(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SkipReason:
        try:
            mirrored = mirror(context.instance, open_store(settings.create()), declared_jobs, within_s=WITHIN_S)
        except BatchLLMError as error:
            return dg.SkipReason(f"could not look at the runs: {error}")
        if not mirrored:
            return dg.SkipReason("Dagster knows every run")
        return dg.SkipReason(f"reported {mirrored.slices} slices and {mirrored.outputs} output tables")

    return show_runs
