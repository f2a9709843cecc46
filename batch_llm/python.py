"""The door for Python: a job from a script, its output as a pandas frame, the limits as everybody shares them.

Belongs here: the sync edge. Not here: rules (engine), another door's looks (cli).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from batch_llm import wiring
from batch_llm.config.settings import Settings
from batch_llm.engine.events import Listener, RunSummary
from batch_llm.job.load import DeclaredJob, declare, load_job
from batch_llm.job.model import Job
from batch_llm.limiter.base import PoolView
from batch_llm.limiter.control import look

__all__ = ["AnyJob", "limits", "output", "run"]

AnyJob = str | Path | DeclaredJob | Job | Mapping[str, Any]


def run(job: AnyJob, *, limit: int | None = None, listener: Listener | None = None) -> RunSummary:
    """Run a job as `batch-llm run` does, without asking before it spends; give it a `budget_usd`.

    Args:
        job: A job file's path, a declared job, a `Job`, or a dict with the keys of the job file (its relative paths are
            then relative to the working directory).
        limit: Ask only so many rows; the others stay pending.
        listener: Hears the events of `batch_llm.engine.events`.

    Raises:
        ConfigurationError: The job, its tables or the providers file are wrong; nothing was spent.
    """
    return asyncio.run(_run(_declared(job), limit, listener))


def output(job: AnyJob) -> pd.DataFrame:
    """The job's output table as it stands: key, kept and answer columns, and the ``llm_*`` columns.

    Types are Arrow's, so that a missing number stays missing. Raises `OutputError` before the first run.
    """
    declared = _declared(job)
    store = wiring.open_store(Settings.from_environment())
    batches = list(store.warehouse.rows(declared.resolve(declared.job.output.table)))
    if not batches:
        return pd.DataFrame()
    frame: pd.DataFrame = pa.Table.from_batches(batches).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def limits() -> list[PoolView]:
    """Every pool of the providers file as `batch-llm limits` shows it: limits, what is used now, who shares it.

    Starts nothing. Raises `ConfigurationError` for a wrong providers file, `LimiterError` when the Redis of
    ``BATCH_LLM_REDIS_URL`` does not answer.
    """
    return list(asyncio.run(look(Settings.from_environment())).pools)


async def _run(declared: DeclaredJob, limit: int | None, listener: Listener | None) -> RunSummary:
    async with wiring.engine(Settings.from_environment(), declared, listener=listener) as engine:
        return await engine.run(limit=limit)


def _declared(job: AnyJob) -> DeclaredJob:
    if isinstance(job, DeclaredJob):
        return job
    if isinstance(job, str | Path):
        return load_job(job)
    return declare(job, Path.cwd())
