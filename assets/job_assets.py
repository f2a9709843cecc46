"""All assets and Dagster jobs of the declared jobs: source → input slices → enriched slices → output table.

Belongs here: putting the pieces of a job together. Not here: the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.declared import DeclaredJobs
from assets.output_asset import output_asset
from assets.partitions import SUBMITTED, output_job_name, slices_job_name
from assets.slice_assets import Family, enriched_key, input_key, owners_of, slice_assets
from assets.start_job import start_job
from assets.submit_job import submit_job
from assets.tables import kind_of, place, source_key, source_of
from assets.tags import run_tags
from batch_llm.job.load import DeclaredJob

__all__ = ["CatalogPart", "catalog_of"]

DagsterJob = Any  # a dg.JobDefinition, or what dg.define_asset_job returns, whose type Dagster does not export


@dataclass(frozen=True, slots=True)
class CatalogPart:
    """Some assets and the Dagster jobs that run them."""

    assets: tuple[dg.AssetsDefinition | dg.AssetSpec, ...]
    jobs: tuple[DagsterJob, ...]
    dispatched: tuple[DagsterJob, ...] = ()  # of the jobs: those that the sensor `dispatch` requests


def catalog_of(declared_jobs: DeclaredJobs, dataset: str | None = None) -> CatalogPart:
    """Everything of the declared jobs, and the family of jobs submitted at run time.

    ``dataset``: ``PROJECT.DATASET`` when the warehouse is BigQuery.
    """
    parts = [_declared_part(declared, declared_jobs.root, dataset) for declared in declared_jobs.jobs]
    parts.append(_submitted_part(declared_jobs))
    made = {
        key for part in parts for asset in part.assets if isinstance(asset, dg.AssetsDefinition) for key in asset.keys
    }
    return CatalogPart(
        assets=(*_sources(declared_jobs, made, dataset), *(asset for part in parts for asset in part.assets)),
        jobs=tuple(job for part in parts for job in part.jobs),
        dispatched=tuple(job for part in parts for job in part.dispatched),
    )


def _sources(declared_jobs: DeclaredJobs, made: set[dg.AssetKey], dataset: str | None) -> list[dg.AssetSpec]:
    """The source tables that no job of this code location writes, each once."""
    specs: dict[dg.AssetKey, dg.AssetSpec] = {}
    for declared in declared_jobs.jobs:
        key, reference = source_key(declared, declared_jobs.root), declared.resolve(source_of(declared))
        if key in made or key in specs:
            continue
        specs[key] = dg.AssetSpec(
            key,
            group_name="sources",
            description=f"An input: `{source_of(declared)}`. Nothing here writes it.",
            metadata=place(reference, dataset),
            kinds={kind_of(reference, dataset)},
        )
    return list(specs.values())


def _declared_part(declared: DeclaredJob, root: Path, dataset: str | None) -> CatalogPart:
    job = declared.job
    family = Family(
        name=job.name,
        description=f"the job `{job.name}` ({job.model})",
        sources=(source_key(declared, root),),
        owners=owners_of(job.user),
        kinds=frozenset({job.provider_name}),
        tags=(("batch_llm/job", job.name),),
    )
    output = output_asset(declared, root, dataset)
    slices_job = _slices_job(job.name, f"One slice of the job `{job.name}`.", run_tags(job))
    output_job = dg.define_asset_job(
        output_job_name(job.name),
        selection=[output],
        description=f"Brings a run of the job `{job.name}` into `{job.output.table}`.",
        tags=run_tags(job, first=True),
        executor_def=dg.in_process_executor,
    )
    return CatalogPart(
        assets=(*slice_assets(family), output),
        jobs=(start_job(declared, root), slices_job, output_job),
        dispatched=(slices_job, output_job),
    )


def _submitted_part(declared_jobs: DeclaredJobs) -> CatalogPart:
    family = Family(
        name=SUBMITTED,
        description="jobs submitted at run time (the Dagster job `submit_job`)",
        submitted_root=declared_jobs.root,
    )
    slices = _slices_job(SUBMITTED, "One slice of a job that was submitted at run time.", {})
    return CatalogPart(assets=tuple(slice_assets(family)), jobs=(slices, submit_job(declared_jobs)))


def _slices_job(family: str, description: str, tags: dict[str, str]) -> DagsterJob:
    keys: Sequence[dg.AssetKey] = [input_key(family), enriched_key(family)]
    return dg.define_asset_job(
        slices_job_name(family),
        selection=keys,
        description=description,
        tags=tags,
        executor_def=dg.in_process_executor,
    )
