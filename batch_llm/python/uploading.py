"""A frame or a file as a table of the warehouse.

Belongs here: telling what was given, handing its rows over. Not here: types of frames (frames.py), making the table
(warehouse).
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from batch_llm import wiring
from batch_llm.config.settings import Settings
from batch_llm.errors import InputError
from batch_llm.python.frames import frame_of
from batch_llm.python.jobs import AnyTable
from batch_llm.warehouse.base import Loaded

__all__ = ["upload"]


def upload(rows: AnyTable, table: str, *, replace: bool = False) -> Loaded:
    """Make a table of the warehouse from a frame (pandas, Arrow, polars) or a file, all or nothing.

    Every column is taken, also a pandas index that has a name. What would come through changed is refused
    (`InputError`). A table that is there already is refused (`OutputError`) unless ``replace``; an output always is.
    """
    settings = Settings.from_environment()
    warehouse = wiring.open_store(settings).warehouse
    if isinstance(rows, str | Path):
        path = os.path.normpath(settings.cwd / os.path.expanduser(rows))
        with warehouse.file_rows(path) as read:
            return warehouse.load(table, read, replace=replace)
    frame = frame_of(rows)
    levels = [str(name) for name in rows.index.names] if isinstance(rows, pd.DataFrame) else []
    columns = frame.columns(levels)
    if not columns:
        raise InputError("the table has no columns")
    return warehouse.load(table, frame.reader(columns, columns), replace=replace)
