"""A job and its table as Python hands them over, made into a declared job whose input is a file or a warehouse table.

Belongs here: telling what was given. Not here: how a frame becomes a file (frames.py, warehouse/uploads.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch_llm import wiring
from batch_llm.config.settings import Settings
from batch_llm.errors import InputError
from batch_llm.job.load import DeclaredJob, declare, load_job
from batch_llm.job.model import Job
from batch_llm.job.rules import is_file
from batch_llm.python.frame_types import local_zone
from batch_llm.python.frames import Frame, frame_of
from batch_llm.warehouse.uploads import sweep_uploads, upload

__all__ = ["NO_TABLE", "AnyJob", "AnyTable", "declared", "declared_over"]

_log = logging.getLogger(__name__)

AnyJob = str | Path | DeclaredJob | Job | Mapping[str, Any]
AnyTable = Any
"""A frame (pandas, Arrow, polars: whatever has ``__arrow_c_stream__``), or the name of a file or warehouse table."""

NO_TABLE = "no_table_yet.parquet"  # stands for an input that is not read, or not written yet


def declared_over(settings: Settings, job: AnyJob, table: AnyTable) -> DeclaredJob:
    """The job over this table (None: its own); a frame is written into the home first; blocking.

    Raises `ConfigurationError`: the job or the table is wrong, nothing was spent.
    """
    if table is None:
        return declared(job)
    if isinstance(table, str | Path):
        reference = os.fspath(table)
        if isinstance(table, Path) or is_file(reference):  # as in any script: relative to the working directory
            reference = os.path.normpath(settings.cwd / os.path.expanduser(reference))
        return declared(job, reference)
    found = declared(job, NO_TABLE)
    return found.with_table(_uploaded(settings, found, frame_of(table)))


def declared(job: AnyJob, table: str | None = None) -> DeclaredJob:
    """The job, checked; its relative paths are relative to its file, or to the working directory when it has none."""
    if isinstance(job, DeclaredJob):
        return job if table is None else job.with_table(table)
    if isinstance(job, str | Path):
        return load_job(job, table)
    return declare(job, Path.cwd(), table)


def _uploaded(settings: Settings, job: DeclaredJob, frame: Frame) -> str:
    """The file with the columns the job uses; all of them where a filter may name any."""
    needed = {*job.job.input.key, *job.job.output.keep, *job.prompt.columns, *job.job.images}
    if job.job.schedule is not None and job.job.schedule.column is not None:
        needed.add(job.job.schedule.column)
    offered = frame.columns(needed)
    if not offered:
        raise InputError("the table has no columns")
    job.check_columns(offered)
    chosen = offered if job.job.input.where else [name for name in offered if name in needed]
    rows = frame.reader(chosen, needed)
    _warn_of_zones(rows.schema, job.prompt.columns)
    path = upload(rows, settings.uploads_dir)
    sources = {record.source for record in wiring.open_store(settings).runs.all()}
    sweep_uploads(settings.uploads_dir, {*sources, str(path)})
    return str(path)


def _warn_of_zones(schema: pa.Schema, shown: Collection[str]) -> None:
    """The model reads another day than the frame shows, where that is near midnight."""
    zones = {field.name: zone for field in schema if field.name in shown and (zone := local_zone(field.type))}
    if zones:
        _log.warning(
            "the prompt shows these times in UTC, not in their own time zone: %s; for local times take the zone away "
            "(pandas: .dt.tz_localize(None), polars: .dt.replace_time_zone(None)) or make them text",
            ", ".join(f"{name} ({zone})" for name, zone in zones.items()),
        )
