"""How things are called in BigQuery: tables, our own tables, and how a name gets into SQL safely.

Belongs here: names and their quoting. Not here: looking whether something exists (connection.py).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from batch_llm.errors import ConfigurationError
from batch_llm.warehouse.refs import FILE_SUFFIXES, LIVE_SUFFIX, check_run_id, is_file

__all__ = ["PREFIX", "Dataset", "TableName", "literal", "quoted"]

PREFIX = "batch_llm_"  # of our own tables in the dataset: frozen inputs, published slices, earlier answers
# Letters, marks, numbers, connectors, dashes, spaces. Others would lead elsewhere: # and ? end the path of an address
# Source: https://cloud.google.com/bigquery/docs/tables#table_naming (read 2026-11-29)
_TABLE_CATEGORIES = {"L", "M", "N", "Pc", "Pd", "Zs"}
_PATTERN = "*?[]!"
_DATASET = re.compile(r"[A-Za-z0-9_]+")
_PROJECT = re.compile(r"[a-z0-9.:-]+")


def quoted(identifier: str) -> str:
    """An identifier for SQL, whatever characters it holds."""
    escaped = identifier.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def literal(text: str) -> str:
    """A string for the few places where BigQuery takes no parameter (OPTIONS)."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def _may_be_called(part: str, besides: str) -> bool:
    categories = ((character, unicodedata.category(character)) for character in part)
    return all(
        kind in _TABLE_CATEGORIES or kind[0] in _TABLE_CATEGORIES or character in besides
        for character, kind in categories
    )


@dataclass(frozen=True, slots=True)
class TableName:
    """A table or view in BigQuery."""

    project: str
    dataset: str
    table: str

    @property
    def sql(self) -> str:
        """As it stands in a statement."""
        return f"{quoted(self.project)}.{quoted(self.dataset)}.{quoted(self.table)}"

    @property
    def path(self) -> str:
        """As the client takes it."""
        return f"{self.project}.{self.dataset}.{self.table}"

    def from_sql(self, columns: Iterable[str]) -> str:
        """As it stands in FROM. With a column of its own name it gets another: there the name means the whole row.

        Source: https://github.com/google/zetasql/tree/master/zetasql/analyzer/testdata, "Range variables take
        precedence over columns with the same name" (read 2026-11-29).
        """
        taken = {column.lower() for column in columns}
        if self.table.lower() not in taken:
            return self.sql
        alias = f"{PREFIX}row"
        while alias in taken:
            alias += "_"
        return f"{self.sql} AS {alias}"

    def slice_path(self, number: int) -> str:
        """One slice, as the client takes it: the partition's decorator."""
        return f"{self.path}${number}"

    @property
    def is_internal(self) -> bool:
        """One of our own tables, which are neither inputs nor outputs."""
        return self.table.lower().startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The dataset that the warehouse is; other datasets are named by their own names."""

    project: str
    dataset: str

    @classmethod
    def parse(cls, text: str) -> Dataset:
        """``PROJECT.DATASET``. Raises `ConfigurationError`."""
        project, _, dataset = text.rpartition(".")
        if not _PROJECT.fullmatch(project) or not _DATASET.fullmatch(dataset):
            raise ConfigurationError(f"the warehouse must be bigquery:PROJECT.DATASET, got bigquery:{text}")
        return cls(project, dataset)

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}"

    def named(self, ref: str, refuse: type[ConfigurationError], *, besides: str = "") -> TableName:
        """``t``, ``dataset.t`` or ``project.dataset.t``; anything else raises ``refuse``.

        ``besides``: characters that may stand in it although no table is called so.
        """
        parts = ref.split(".")
        if len(parts) > 3 or not all(part.strip() and _may_be_called(part, besides) for part in parts):
            files = ", ".join(FILE_SUFFIXES)
            raise refuse(
                f"{ref!r} is neither a table (name, dataset.name or project.dataset.name, of letters, digits, spaces, "
                f"- and _) nor a file that can be read ({files})"
            )
        return TableName(*(self.project, self.dataset)[: 3 - len(parts)], *parts)

    def matching(self, pattern: str, refuse: type[ConfigurationError]) -> TableName:
        """As `named`, with ``*``, ``?`` and ``[..]`` in dataset and table."""
        return self.named(pattern, refuse, besides=_PATTERN)

    def ref(self, name: TableName) -> str:
        """The name as a user writes it."""
        if name.project != self.project:
            return name.path
        return name.table if name.dataset == self.dataset else f"{name.dataset}.{name.table}"

    def live(self, table: str) -> TableName:
        """The view that shows what is done of an output; for a .parquet path named after the file."""
        if is_file(table):
            stem = re.sub(r"[^\w -]", "_", Path(table).stem)
            return TableName(self.project, self.dataset, stem + LIVE_SUFFIX)
        name = self.named(table, ConfigurationError)
        return replace(name, table=name.table + LIVE_SUFFIX)

    def work(self, run_id: str) -> TableName:
        """A run's frozen input: of a table its rows, of files their keys."""
        return self._own("work", run_id)

    def files(self, run_id: str) -> TableName:
        """A run's frozen slices, when its input was files: the slices' own files, in parts."""
        return self._own("files", run_id)

    def out(self, run_id: str) -> TableName:
        """A run's published slices."""
        return self._own("out", run_id)

    def prior_prefix(self, run_id: str) -> str:
        """How the tables of `prior` begin; what follows is one word without underscores."""
        return f"{PREFIX}prior_{check_run_id(run_id)}__"

    def prior(self, run_id: str, place: TableName) -> TableName:
        """The rows of one place with the keys of a run's input."""
        digest = hashlib.blake2b(place.path.encode(), digest_size=6).hexdigest()
        return TableName(self.project, self.dataset, self.prior_prefix(run_id) + digest)

    def _own(self, what: str, run_id: str) -> TableName:
        return TableName(self.project, self.dataset, f"{PREFIX}{what}_{check_run_id(run_id)}")
