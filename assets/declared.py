"""The jobs that files declare, as the code location sees them.

Belongs here: finding the job files, loading them, and setting aside what cannot be loaded together with the rest: a
broken file never hides the good ones. Not here: what a job file may say (batch_llm/job), assets.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import dagster as dg

from assets.partitions import SUBMITTED, table_key
from batch_llm import demo
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob, find_jobs, load_job

__all__ = ["BrokenJobFile", "DeclaredJobs", "broken_file_specs", "default_job_files", "load_declared"]

BROKEN_GROUP = "broken_job_files"

_log = logging.getLogger("batch_llm.jobs")


@dataclass(frozen=True, slots=True)
class BrokenJobFile:
    """A job file that was set aside."""

    path: Path
    error: str  # what is wrong, where, and what to do


@dataclass(frozen=True, slots=True)
class DeclaredJobs:
    """What the job files of the code location declare."""

    jobs: tuple[DeclaredJob, ...]
    broken: tuple[BrokenJobFile, ...]
    root: Path  # relative paths of jobs submitted at run time, and the names of files, start here

    @property
    def names(self) -> frozenset[str]:
        """The names of the jobs."""
        return frozenset(declared.job.name for declared in self.jobs)

    def family(self, job: str) -> str:
        """The family whose partitions hold the runs of ``job``: its own, or `SUBMITTED`."""
        return job if job in self.names else SUBMITTED


def default_job_files(root: Path) -> list[Path]:
    """The job files of ``jobs/``, and the demo's."""
    return [*find_jobs(root / "jobs"), Path(str(resources.files(demo) / "job.yaml"))]


def load_declared(files: Iterable[Path], root: Path) -> DeclaredJobs:
    """Load every file; one that is wrong, or clashes with an earlier one, is set aside with its error."""
    jobs: list[DeclaredJob] = []
    broken: list[BrokenJobFile] = []
    for path in files:
        try:
            declared = load_job(path)
            _refuse_clash(declared, jobs, root)
        except (ConfigurationError, OSError) as error:
            broken.append(BrokenJobFile(path, str(error)))
            _log.warning("job file set aside: %s", error)
        else:
            jobs.append(declared)
    return DeclaredJobs(tuple(jobs), tuple(broken), root)


def broken_file_specs(declared: DeclaredJobs) -> list[dg.AssetSpec]:
    """One catalog entry per file that was set aside: the UI shows its error as the description."""
    return [
        dg.AssetSpec(
            [BROKEN_GROUP, "_".join(_short_path(broken.path, declared.root).with_suffix("").parts)],
            group_name=BROKEN_GROUP,
            description=f"`{_short_path(broken.path, declared.root)}` was set aside:\n\n```\n{broken.error}\n```\n\n"
            "Correct the file, then reload the code location (Deployment, Reload).",
            metadata={
                "job_file": dg.MetadataValue.path(str(broken.path)),
                "error": dg.MetadataValue.text(broken.error),
            },
            kinds={"yaml"},
        )
        for broken in declared.broken
    ]


def _refuse_clash(declared: DeclaredJob, earlier: list[DeclaredJob], root: Path) -> None:
    job = declared.job
    if job.name == SUBMITTED:
        raise ConfigurationError(f"{declared.path}: name: {SUBMITTED!r} is kept for jobs submitted at run time")
    output = table_key(declared.resolve(job.output.table), root)
    if output.path[0] == job.name and output.path[1:] in (["input_slices"], ["enriched_slices"]):
        raise ConfigurationError(
            f"{declared.path}: output.table: {job.output.table!r} is the name of the job's own slices"
        )
    if job.input.partition is not None:
        raise ConfigurationError(
            f"{declared.path}: input.partition: {job.input.partition} is chosen where the job is started; leave it out"
        )
    if job.schedule is not None and job.schedule.cron is not None:
        _refuse_cron(declared, job.schedule.cron)
    for other in earlier:
        if other.job.name == job.name:
            raise ConfigurationError(f"{declared.path}: name: {job.name!r} is already declared in {other.path}")
        if table_key(other.resolve(other.job.output.table), root) == output:
            raise ConfigurationError(
                f"{declared.path}: output.table: {job.output.table!r} is already written by the job {other.job.name!r} "
                f"({other.path}); give each job its own table"
            )


def _refuse_cron(declared: DeclaredJob, cron: str) -> None:
    try:
        dg.ScheduleDefinition(name="probe", cron_schedule=cron, job_name="probe")
    except dg.DagsterInvalidDefinitionError:
        raise ConfigurationError(f"{declared.path}: schedule.cron: Dagster does not understand {cron!r}") from None


def _short_path(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.parent.name, path.name)
