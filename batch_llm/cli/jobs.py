"""What a user may write for JOB: a path to a job file, or a name.

Belongs here: finding the declared job, the runs of a job, where its answers are. Not here: reading job files
(job/load.py), run records (journal).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch_llm.cli.speech import tell
from batch_llm.errors import JobFileError

if TYPE_CHECKING:
    from batch_llm.config.settings import Settings
    from batch_llm.job.load import DeclaredJob
    from batch_llm.journal.base import RunRecord
    from batch_llm.wiring import Store

__all__ = ["KnownRun", "declared_in", "declared_job", "known_run", "name_of", "open_home", "run_of"]

JOBS_FOLDER = Path("jobs")
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class KnownRun:
    """The newest run of a job, and the store it lies in."""

    store: Store
    record: RunRecord
    declared: DeclaredJob  # as it was declared for this run

    @property
    def job(self) -> str:
        """The job's name."""
        return self.declared.job.name

    @property
    def output(self) -> str:
        """Where the answers go: a warehouse table, or an absolute .parquet path."""
        return self.declared.resolve(self.declared.job.output.table)


def open_home() -> Store:
    """The store of this environment's home; needs no key."""
    from batch_llm.config.settings import Settings
    from batch_llm.wiring import open_store

    return open_store(Settings.from_environment())


def declared_job(settings: Settings, reference: str, partition: str | None = None) -> DeclaredJob:
    """The job to run: a job file, ``jobs/<name>.yaml``, or a job as it last ran in this home.

    ``partition``: the date partition to run. Raises `JobFileError` naming what was tried and the nearest name.
    """
    declared = _found_job(settings, reference)
    return declared if partition is None else declared.with_partition(partition)


def _found_job(settings: Settings, reference: str) -> DeclaredJob:
    from batch_llm.job.load import load_job
    from batch_llm.wiring import open_store

    path, runs = _job_file(reference), open_store(settings).runs
    if path is not None:
        declared = load_job(path)
        _tell_of_namesake(path, declared.job.name, runs.latest(declared.job.name))
        return declared
    record = runs.latest(reference)
    if record is None:
        raise _unknown(reference, {run.job["name"] for run in runs.all()}, settings)
    return declared_in(record).without_partition()


def _tell_of_namesake(path: Path, name: str, record: RunRecord | None) -> None:
    """Two job files with one name are one job, which may not be meant. A file that was moved or copied is no second."""
    from batch_llm.job.load import load_job

    before = Path(record.job_file) if record is not None and record.job_file else path
    try:
        if before.samefile(path) or before.read_bytes() == path.read_bytes() or load_job(before).job.name != name:
            return
    except (OSError, JobFileError):  # it is not there any more, or no such job
        return
    tell(
        f"{name} ran before from another file, {before}, and is {path.absolute()} now: jobs of one name in one home "
        "are one job, with the same runs. If they are two, give one of them another name"
    )


def name_of(reference: str) -> str:
    """The name of a job given by path or name; reads the file only when it is a path."""
    from batch_llm.job.load import load_job

    return load_job(reference).job.name if _looks_like_path(reference) else reference


def known_run(reference: str, partition: str | None = None) -> KnownRun:
    """The newest run of a job in this home, of one of its date partitions if named. Raises `JobFileError`: no run."""
    from batch_llm.config.providers_file import know_keys

    store = open_home()
    know_keys(store.settings.providers_path, os.environ)  # a provider may have echoed one into what is shown
    name = name_of(reference)
    records = store.runs.all(name)
    record = next((one for one in records if partition in (None, one.partition)), None)
    if record is None and records:
        ran = ", ".join(sorted({one.partition for one in records if one.partition}))
        raise JobFileError(f"{name} has not run over the partition {partition}; it has over: {ran or 'none'}")
    if record is None:
        file = _job_file(reference)
        if file is not None:
            raise JobFileError(f"{name} has not run in {store.settings.home}. Start it: batch-llm run {reference}")
        raise _unknown(reference, {run.job["name"] for run in store.runs.all()}, store.settings)
    return run_of(store, record)


def run_of(store: Store, record: RunRecord) -> KnownRun:
    """A run with the job as it was declared for it."""
    return KnownRun(store, record, declared_in(record))


def declared_in(record: RunRecord) -> DeclaredJob:
    """The job as it was declared for this run."""
    from batch_llm.job.load import declare

    return declare(record.job, Path(record.job_dir))


def _looks_like_path(reference: str) -> bool:
    return reference.endswith(SUFFIXES) or "/" in reference


def _job_file(reference: str) -> Path | None:
    """The job file meant, if any; a path is taken as it is, so that its own error names it."""
    if _looks_like_path(reference):
        return Path(reference)
    return next((path for path in _places(reference) if path.is_file()), None)


def _places(name: str) -> list[Path]:
    return [*(JOBS_FOLDER / f"{name}{suffix}" for suffix in SUFFIXES), JOBS_FOLDER / name / "job.yaml"]


def _unknown(reference: str, ran: set[str], settings: Settings) -> JobFileError:
    from batch_llm.config.problems import did_you_mean
    from batch_llm.job.load import find_jobs

    known = ran | {_name_in_folder(path) for path in find_jobs(JOBS_FOLDER)}
    tried = ", ".join(str(path) for path in _places(reference))
    return JobFileError(
        f"no job {reference!r}{did_you_mean(reference, sorted(known))}. Tried {tried}, and the jobs that have run in "
        f"{settings.home}. JOB is a path to a job file, or such a name."
    )


def _name_in_folder(path: Path) -> str:
    """What a user may call this file of the jobs folder."""
    return path.parent.name if path.parent != JOBS_FOLDER else path.stem
