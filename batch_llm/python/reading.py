"""What Python reads without running anything: the output table, the limits.

Belongs here: reading, blocking. Not here: running (running.py), the rows of one run (result.py).
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from batch_llm import wiring
from batch_llm.config.settings import Settings
from batch_llm.limiter.base import PoolView
from batch_llm.limiter.control import look
from batch_llm.python.edge import run_to_end
from batch_llm.python.jobs import NO_TABLE, AnyJob, declared

__all__ = ["limits", "output"]


def output(job: AnyJob) -> pd.DataFrame:
    """The job's output table as it stands: key, kept and answer columns, and the ``llm_*`` columns.

    Types are Arrow's, so that a missing number stays missing. Raises `OutputError` before the first run.
    """
    found = declared(job, NO_TABLE)
    store = wiring.open_store(Settings.from_environment())
    batches = store.warehouse.rows(found.resolve(found.job.output.table))
    frame: pd.DataFrame = pa.Table.from_batches(batches).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def limits() -> list[PoolView]:
    """Every pool of the providers file as `batch-llm limits` shows it: limits, what is used now, who shares it.

    Starts nothing. Raises `ConfigurationError` for a wrong providers file, `LimiterError` when the Redis of
    ``BATCH_LLM_REDIS_URL`` does not answer.
    """
    return list(run_to_end(look(Settings.from_environment())).pools)
