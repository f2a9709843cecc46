"""How things are called: tables, run tables, files, and how a name gets into SQL safely.

Belongs here: names and their quoting. Not here: looking whether something exists (catalog.py, files.py).
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from batch_llm.errors import ConfigurationError
from batch_llm.warehouse.refs import FILE_SUFFIXES, LIVE_SUFFIX, check_run_id, is_file

__all__ = [
    "INTERNAL_SCHEMA",
    "TableName",
    "literal",
    "live_name",
    "parquet_scan",
    "quoted",
    "run_table",
]

INTERNAL_SCHEMA = "_batch_llm"  # the published slices of every run; not for users


def quoted(identifier: str) -> str:
    """An identifier for SQL, whatever characters it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string for the few places where DuckDB takes no parameter (COMMENT, paths in a view)."""
    return "'" + text.replace("'", "''") + "'"


def parquet_scan(*paths: Path | str) -> str:
    """Parquet files of ours as something that may stand after FROM.

    Without care DuckDB reads a name with brackets as a pattern, and gives the rows of all files in a folder
    ``region=eu`` the region eu, whatever they hold.
    """
    listed = ", ".join(literal(glob.escape(str(path))) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false)"


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
    return TableName(INTERNAL_SCHEMA, f"out_{check_run_id(run_id)}")


def live_name(table: str) -> TableName:
    """The view that shows what is done of an output; for a .parquet path named after the file."""
    if is_file(table):
        return TableName("main", Path(table).stem + LIVE_SUFFIX)
    name = TableName.parse(table, ConfigurationError)
    return TableName(name.schema, name.table + LIVE_SUFFIX)
