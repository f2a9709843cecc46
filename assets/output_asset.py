"""The output table of a declared job, as an asset: bringing a run's published slices into the table.

Belongs here: the asset, its config and its thin body. Not here: which run, what is shown (promotion.py).
The table has no partitions: a run replaces rows all over it. It is requested when all slices of a run are published
(sensors/dispatch.py), or by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.failures import refusals_as_failures
from assets.partitions import table_key
from assets.promotion import output_metadata, promotable_run, promote
from assets.slice_assets import enriched_key, owners_of
from assets.tables import kind_of, place
from assets.tags import AGAIN_TAG, PROMOTED_TAG, RUN_TAG
from batch_llm.errors import WarehouseError, WarehouseRefused
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

    @dg.asset(
        key=key,
        deps=[enriched_key(job.name)],
        group_name=job.name,
        description=f"The output table of the job `{job.name}`: one row per input row ({job.output.mode}).",
        owners=owners_of(job.user),
        kinds={kind_of(reference, dataset)},
        metadata=place(reference, dataset),
        tags={"batch_llm/job": job.name},
        freshness_policy=_freshness(job.freshness),
    )
    def output_table(
        context: dg.AssetExecutionContext, config: OutputConfig, settings: SettingsResource
    ) -> dg.MaterializeResult:
        with refusals_as_failures(), _failing_warehouse_noted(context):
            opened = settings.create()
            store = open_store(opened)
            record = promotable_run(store, job.name, config.run_id)
            context.instance.add_run_tags(context.run.run_id, {RUN_TAG: record.run_id})
            summary = promote(opened, record)
            if not summary.ended_elsewhere:  # who ended it tells
                context.instance.add_run_tags(context.run.run_id, {PROMOTED_TAG: record.run_id})
            return dg.MaterializeResult(metadata=output_metadata(store, record, summary))

    return output_table


@contextmanager
def _failing_warehouse_noted(context: dg.AssetExecutionContext) -> Iterator[None]:
    """The sensor `dispatch` requests the table again after such a failure, and after no other."""
    try:
        yield
    except WarehouseError as error:
        if isinstance(error, WarehouseRefused):  # somebody has to mend it
            raise
        context.instance.add_run_tags(context.run.run_id, {AGAIN_TAG: "true"})
        raise


def output_run_config(declared: DeclaredJob, root: Path, run_id: str) -> dict[str, Any]:
    """The run config that brings a certain run into the table."""
    op = table_key(declared.resolve(declared.job.output.table), root).to_python_identifier()
    return {"ops": {op: {"config": {"run_id": run_id}}}}


def _freshness(text: str | None) -> dg.FreshnessPolicy | None:
    if text is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=int(text[:-1]) * _UNITS_S[text[-1]]))
