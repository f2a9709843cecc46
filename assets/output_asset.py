"""The output table of a declared job, as an asset: bringing a run's published slices into the table.

Belongs here: the asset, its config and its thin body. Not here: which run, what is shown (promotion.py).
It is requested when all slices of a run are published (sensors/dispatch.py), or by hand. The table has no partitions: a
run replaces rows all over it. Only a job with a cadence has the partitions of its dates: materialized by hand, or by a
backfill, such a partition is worked off from its plan on.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.date_partitions import time_partitions
from assets.failures import refusals_as_failures
from assets.partitions import table_key
from assets.promotion import error_rate, error_rate_spec, output_metadata, promotable_run, promote
from assets.slice_assets import enriched_key, owners_of
from assets.tables import kind_of, place
from assets.tags import PROMOTED_TAG, RUN_TAG
from assets.whole_run import WholeRun
from batch_llm.config.settings import Settings
from batch_llm.engine.events import RunSummary
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["OutputConfig", "output_asset", "output_run_config"]

_UNITS_S = {"m": 60, "h": 3600, "d": 86400}


class OutputConfig(dg.Config):
    """Which run is brought into the table."""

    run_id: str | None = Field(default=None, description="The run; else the newest one whose slices are all published.")


def output_asset(declared: DeclaredJob, root: Path, dataset: str | None = None) -> dg.AssetsDefinition:
    """The output table of a declared job. ``dataset``: ``PROJECT.DATASET`` when the warehouse is BigQuery."""
    job = declared.job
    reference = declared.resolve(job.output.table)
    key = table_key(reference, root)
    partitions = time_partitions(declared.partitions)

    @dg.asset(
        key=key,
        deps=[dg.AssetDep(enriched_key(job.name), partition_mapping=partitions and dg.AllPartitionMapping())],
        group_name=job.name,
        description=f"The output table of the job `{job.name}`: one row per input row ({job.output.mode}).",
        owners=owners_of(job.user),
        kinds={kind_of(reference, dataset)},
        metadata=place(reference, dataset),
        tags={"batch_llm/job": job.name},
        freshness_policy=_freshness(job.freshness),
        partitions_def=partitions,
        check_specs=[] if partitions is None else [error_rate_spec(key)],
    )
    def output_table(
        context: dg.AssetExecutionContext, config: OutputConfig, settings: SettingsResource
    ) -> dg.MaterializeResult:
        with refusals_as_failures():
            opened = settings.create()
            day = None if partitions is None else context.partition_key
            if day is not None and config.run_id is None:
                summary = WholeRun(context, opened, declared.with_partition(day), job.name).run()
            else:
                summary = _promoted(context, opened, job.name, config.run_id)
            store = open_store(opened)
            record = store.runs.get(summary.run_id)
            if not (summary.ended_elsewhere or summary.nothing_to_do):  # who ended it tells
                context.instance.add_run_tags(context.run.run_id, {PROMOTED_TAG: record.run_id})
            checked = [] if partitions is None else [error_rate(key, record, summary)]
            return dg.MaterializeResult(metadata=output_metadata(store, record, summary), check_results=checked)

    return output_table


def _promoted(context: dg.AssetExecutionContext, settings: Settings, job: str, run_id: str | None) -> RunSummary:
    record = promotable_run(open_store(settings), job, run_id)
    if context.has_partition_key and record.partition != context.partition_key:
        raise ConfigurationError(f"run {record.run_id} is over the partition {record.partition}, not this one")
    context.instance.add_run_tags(context.run.run_id, {RUN_TAG: record.run_id})
    return promote(settings, record)


def output_run_config(declared: DeclaredJob, root: Path, run_id: str) -> dict[str, Any]:
    """The run config that brings a certain run into the table."""
    op = table_key(declared.resolve(declared.job.output.table), root).to_python_identifier()
    return {"ops": {op: {"config": {"run_id": run_id}}}}


def _freshness(text: str | None) -> dg.FreshnessPolicy | None:
    if text is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=int(text[:-1]) * _UNITS_S[text[-1]]))
