"""``batch-llm upload FILE TABLE``: a file as a table of the warehouse.

Belongs here: the command and what it says. Not here: reading files, making tables (warehouse), frames (python).
"""

from __future__ import annotations

import os

from batch_llm.cli.speech import print_json, say

__all__ = ["upload"]

MB = 1_000_000


def upload(file: str, table: str, *, replace: bool, json: bool) -> None:
    """``batch-llm upload``."""
    from batch_llm.config.settings import Settings
    from batch_llm.wiring import open_store

    settings = Settings.from_environment()
    path = os.path.normpath(settings.cwd / os.path.expanduser(file))
    warehouse = open_store(settings).warehouse
    with warehouse.file_rows(path) as rows:
        loaded = warehouse.load(table, rows, replace=replace)
    if json:
        print_json({"table": loaded.place, "rows": loaded.rows, "size_bytes": loaded.size_bytes, "file": path})
    else:
        say(f"{loaded.place}: {loaded.rows:,} rows of {file} ({loaded.size_bytes / MB:,.1f} MB as Parquet)")
