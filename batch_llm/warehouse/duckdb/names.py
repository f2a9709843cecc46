"""How things are called: tables, run tables, files, and how a name gets into SQL safely.

Belongs here: names and their quoting. Not here: looking whether something exists (catalog.py, files.py).
"""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batch_llm.errors import ConfigurationError, WarehouseError

__all__ = [
    "FILE_SUFFIXES",
    "INTERNAL_SCHEMA",
    "LIVE_SUFFIX",
    "TableName",
    "is_file",
    "listed",
    "literal",
    "live_name",
    "nearest",
    "parquet_scan",
    "quoted",
    "run_table",
]

INTERNAL_SCHEMA = "_batch_llm"  # the published slices of every run; not for users
LIVE_SUFFIX = "__live"
FILE_SUFFIXES = (".parquet", ".csv", ".jsonl", ".arrow", ".feather")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LISTED = 12  # names shown in an error message


def quoted(identifier: str) -> str:
    """An identifier for SQL, whatever characters it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string for the few places where DuckDB takes no parameter (COMMENT, paths in a view)."""
    return "'" + text.replace("'", "''") + "'"


def parquet_scan(*paths: Path | str) -> str:
    """Parquet files as something that may stand after FROM; DuckDB would read a name with brackets as a pattern."""
    return f"read_parquet([{', '.join(literal(glob.escape(str(path))) for path in paths)}])"


@dataclass(frozen=True, slots=True)
class TableName:
    """A table or view in the DuckDB file."""

    schema: str
    table: str

    @classmethod
    def parse(cls, ref: str, refuse: type[ConfigurationError]) -> TableName:
        """``t`` or ``schema.t``; anything else raises ``refuse``."""
        parts = ref.split(".")
        if len(parts) > 2 or not all(part.strip() for part in parts):
            files = ", ".join(FILE_SUFFIXES)
            raise refuse(f"{ref!r} is neither a table (name or schema.name) nor a file that can be read ({files})")
        return cls(parts[0], parts[1]) if len(parts) == 2 else cls("main", ref)

    @property
    def sql(self) -> str:
        """As it stands in a statement."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def ref(self) -> str:
        """As a user writes it."""
        return self.table if self.schema == "main" else f"{self.schema}.{self.table}"


def run_table(run_id: str) -> TableName:
    """Where the published slices of a run are."""
    if not _RUN_ID.fullmatch(run_id):
        raise WarehouseError(f"{run_id!r} is not a run id: letters, digits, _ and - only")
    return TableName(INTERNAL_SCHEMA, f"out_{run_id}")


def live_name(table: str) -> TableName:
    """The view that shows what is done of an output; for a .parquet path named after the file."""
    if is_file(table):
        return TableName("main", Path(table).stem + LIVE_SUFFIX)
    name = TableName.parse(table, ConfigurationError)
    return TableName(name.schema, name.table + LIVE_SUFFIX)


def is_file(ref: str) -> bool:
    """Whether ``input.table`` or ``output.table`` means a file (or glob) and not a table of the warehouse."""
    return "/" in ref or ref.lower().endswith(FILE_SUFFIXES)


def nearest(name: str, options: Iterable[str]) -> str:
    """A sentence part with the nearest existing name, or nothing."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; the nearest name is {by_lower[found[0]]!r}" if found else ""


def listed(names: Iterable[str]) -> str:
    """The first names of a list, for a message."""
    ordered = list(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return (", ".join(ordered[:_LISTED]) or "none") + more
