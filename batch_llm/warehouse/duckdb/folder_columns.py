"""Columns of an input that stand in the names of its folders: ``lake/region=*/*.parquet``, as Hive and Spark write it.

Belongs here: which columns a pattern gives, and their values. Not here: finding and reading the files (files.py).
DuckDB does this by itself, for all of a path and against what the files hold. Only the pattern tells a folder that says
something of the rows from one in which somebody's home happens to lie.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import unquote

from batch_llm.warehouse.duckdb.names import literal, quoted

__all__ = ["added_columns", "folder_values"]

_NULL = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write that there is no value
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FILE_NUMBER = "file_index"  # DuckDB's own column, from 0, which one of the files would hide


def folder_values(ref: str, paths: Sequence[Path]) -> dict[str, list[str | None]]:
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


def added_columns(values: dict[str, list[str | None]], own: Collection[str]) -> str:
    """What stands after a scan's ``*``, for each name that no file has a column of. ``own``: the files' columns."""
    taken = {column.lower() for column in own}
    free = {name.lower(): name for name in values if name.lower() not in taken}  # upper and lower case are one
    if _FILE_NUMBER in taken:
        return ""
    return "".join(f", {_of_the_file(values[name])} AS {quoted(name)}" for name in free.values())


def _of_the_file(values: Sequence[str | None]) -> str:
    listed = ", ".join("NULL" if value is None else literal(value) for value in values)
    return f"CAST([{listed}] AS {_kind(values)}[])[CAST({_FILE_NUMBER} AS BIGINT) + 1]"


def _kind(values: Sequence[str | None]) -> str:
    """A type only where every value stays what is written: 007 remains text."""
    written = [value for value in values if value is not None]
    if written and all(_INTEGER.fullmatch(value) for value in written):
        return "BIGINT"
    return "DATE" if written and all(_is_date(value) for value in written) else "VARCHAR"


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False
