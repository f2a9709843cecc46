"""The names of things in Dagster: partitions of a run's slices, asset keys of tables, names of Dagster jobs.

Belongs here: the two-way mapping between batch_llm's names and Dagster's. Not here: definitions of assets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from batch_llm.journal.base import RunRecord

__all__ = [
    "SUBMITTED",
    "family_of",
    "output_job_name",
    "parse_partition_key",
    "partition_key",
    "partition_keys",
    "slices_job_name",
    "slices_partitions",
    "start_job_name",
    "table_key",
]

SUBMITTED = "submitted"  # the family of jobs that no file declares

_PARTITION_KEY = re.compile(r"^(?P<run_id>.+)-(?P<number>\d{4,})$")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]+")


def slices_partitions(family: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of a family (a declared job, or `SUBMITTED`): one per slice of each of its runs."""
    return dg.DynamicPartitionsDefinition(name=f"{family}_slices")


def start_job_name(job: str) -> str:
    """The Dagster job that plans a run of ``job`` and asks for its slices."""
    return f"{job}_run"


def slices_job_name(family: str) -> str:
    """The Dagster job that executes one slice."""
    return f"{family}_slices"


def output_job_name(job: str) -> str:
    """The Dagster job that brings a run into the output table."""
    return f"{job}_output"


def family_of(job: str, declared_names: Iterable[str]) -> str:
    """The family whose partitions hold the runs of ``job``."""
    return job if job in set(declared_names) else SUBMITTED


def partition_key(run_id: str, number: int) -> str:
    """The partition of slice ``number`` (0-based) of a run: ``<run_id>-0000``."""
    return f"{run_id}-{number:04d}"


def partition_keys(record: RunRecord) -> list[str]:
    """The partitions of all slices of a run, in order."""
    return [partition_key(record.run_id, number) for number in range(len(record.slice_rows))]


def parse_partition_key(key: str) -> tuple[str, int]:
    """The run and the slice of a partition. Raises `ValueError` for a key of another form."""
    match = _PARTITION_KEY.match(key)
    if match is None:
        raise ValueError(
            f"{key!r} is not the partition of a slice: expected <run>-<0000>, as in tone-20260101-0600-1a2b-0000"
        )
    return match["run_id"], int(match["number"])


def table_key(reference: str, root: Path) -> dg.AssetKey:
    """The asset key of a table's name or a file's absolute path: the same for everybody who names the same table.

    ``raw.reports`` is ``raw/reports``. A file is its path from ``root`` (where it lies elsewhere: its last two parts),
    so that an output file of one job and the input file of another are one node of the lineage.
    """
    path = Path(reference)
    if not path.is_absolute():
        parts = tuple(reference.split("."))
    elif path.is_relative_to(root):
        parts = path.relative_to(root).parts
    else:
        parts = path.parts[-2:]
    return dg.AssetKey([name for name in map(_name, parts) if name])


def _name(part: str) -> str:
    return _NOT_A_NAME.sub("_", part.replace("*", "all")).strip("_")
