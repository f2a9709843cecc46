"""Columns of an input that stand in the names of its folders: ``lake/region=*/*.parquet``, as Hive and Spark write it.

Belongs here: which columns a pattern gives, and their values. Not here: finding and reading the files (files.py).
DuckDB does this by itself, for all of a path and against what the files hold. Only the pattern tells a folder that says
something of the rows from one in which somebody's home happens to lie.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import unquote

import duckdb

from batch_llm.warehouse.duckdb.column_types import types_of_texts
from batch_llm.warehouse.duckdb.names import literal, quoted

__all__ = ["Folders", "added_columns", "folder_values"]

Folders = dict[str, list[str | None]]
"""Name of a folder: its value for each of the files, in their order."""

_NULL = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write that there is no value
_FILE_NUMBER = "file_index"  # DuckDB's own column, from 0, which one of the files would hide


def folder_values(ref: str, paths: Sequence[Path]) -> Folders:
    """For each name that the folders of all files have, the files' values; folders count from the first wildcard on."""
    parts = Path(ref).parts
    wild = next((place for place, part in enumerate(parts) if glob.has_magic(part)), None)
    if wild is None or Path(ref).is_file():
        return {}
    fixed = Path(*parts[:wild]).absolute()
    named = [_named(path.relative_to(fixed).parts[:-1]) for path in paths]
    return {name: [each[name] for each in named] for name in named[0] if all(name in each for each in named)}


def _named(folders: Sequence[str]) -> dict[str, str | None]:
    pairs = [folder.split("=", 1) for folder in folders if "=" in folder]
    return {unquote(name): None if value == _NULL else unquote(value) for name, value in pairs if name}


def added_columns(connection: duckdb.DuckDBPyConnection, values: Folders, own: Collection[str]) -> str:
    """What stands after a scan's ``*``, for each name that no file has a column of. ``own``: the files' columns."""
    taken = {column.lower() for column in own}
    free = {name.lower(): name for name in values if name.lower() not in taken}  # upper and lower case are one
    if _FILE_NUMBER in taken:
        return ""
    return "".join(f", {_of_the_file(connection, values[name])} AS {quoted(name)}" for name in free.values())


def _of_the_file(connection: duckdb.DuckDBPyConnection, values: Sequence[str | None]) -> str:
    listed = ", ".join("NULL" if value is None else literal(value) for value in values)
    (kind,) = types_of_texts(connection, f"(SELECT unnest([{listed}]::VARCHAR[]) AS folder)", ["folder"]).values()
    return f"CAST([{listed}] AS {kind}[])[CAST({_FILE_NUMBER} AS BIGINT) + 1]"
