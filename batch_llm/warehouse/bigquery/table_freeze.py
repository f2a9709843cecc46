"""A table, frozen: the statement that makes the slices, and the one that checks them.

Belongs here: what these two statements are given. Not here: which table they make (freezing.py, drafts.py), files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from google.cloud import bigquery

from batch_llm.errors import InputError, WarehouseError
from batch_llm.warehouse.base import FreezeSpec
from batch_llm.warehouse.bigquery.answers import answer
from batch_llm.warehouse.bigquery.frozen_table import MOST_SLICES, Manifest, column_name
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.names import TableName, literal
from batch_llm.warehouse.bigquery.schema import type_word
from batch_llm.warehouse.bigquery.sources import Source, check_where, opened, with_open_history, without_sizes
from batch_llm.warehouse.bigquery.statements import enclosed, statement
from batch_llm.warehouse.input_rules import EXAMPLES, duplicate_key, null_key

__all__ = ["Making", "TableFreeze"]

_MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Making:
    """The table that is to be made."""

    name: TableName
    description: str
    kept_days: float  # then BigQuery drops it
    chain: str  # of job ids, see jobs.py


@dataclass(frozen=True)
class TableFreeze:
    """One table or view as it was when it was looked at, and what is wanted of it."""

    spec: FreezeSpec
    source: Source
    manifest: Manifest

    @classmethod
    def of(cls, jobs: Jobs, spec: FreezeSpec) -> TableFreeze:
        """Look at the input. Raises `InputError` for a missing column or a filter that is none."""
        source = opened(jobs, spec.source)
        manifest = Manifest.of(spec, source.version, from_files=False)
        source.selected(manifest.columns)
        check_where(jobs, source.sql, spec.where, InputError)
        return cls(spec, with_open_history(jobs, source, spec.where), manifest)

    @property
    def is_settled(self) -> bool:
        """Whether the version says all: the rows of the whole table. A filter may look at the clock."""
        return self.spec.where is None

    @property
    def can_be_shared(self) -> bool:
        """Whether whoever asks gets these rows, and another moment's version is another one.

        Views, tables with row access policies and ``SESSION_USER()`` show each account its own rows; rows that were
        streamed in lately are counted roughly. Of a table that is pinned to a moment all see the same.
        """
        return self.source.pinned_at is not None and "session_user" not in (self.spec.where or "").lower()

    @cached_property
    def _wanted(self) -> dict[str, str]:
        """What of the statement decides the rows and their places, but for the moment."""
        selected = self.source.selected(self.manifest.columns)
        named = [column_name(place) for place in range(len(self.manifest.columns))]
        key = self.spec.key
        return {
            "most_slices": str(MOST_SLICES),
            "columns": ", ".join(f"{selected[column]} AS {name}" for column, name in zip(selected, named, strict=True)),
            "key": ", ".join(selected[column] for column in key),
            "source": self.source.sql,
            "where": enclosed(self.spec.where),
            "work_key": ", ".join(f"kept.{name}" for name in named[: len(key)]),
            "work_columns": ", ".join(named),
            "slice_rows": str(self.spec.rows_per_slice),
        }

    @property
    def digest(self) -> str:
        """The same for the same rows in the same slices: version, columns, filter, key, sizes, the statement itself."""
        text = statement("freeze", work="", mark="", kept_minutes="", pinned="", **self._wanted)
        said = [self.manifest.version, self.manifest.key, self.manifest.columns, text]
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]

    def make(self, jobs: Jobs, making: Making) -> None:
        """Run the statement; a table that is there already stays."""
        kept_minutes = str(max(1, round(making.kept_days * _MINUTES_PER_DAY)))
        parts = {"work": making.name.sql, "mark": literal(making.description), "kept_minutes": kept_minutes}
        sql = statement("freeze", **parts, pinned=self.source.pinned, **self._wanted)
        jobs.run(Query("freeze", sql, chain=making.chain, run=(self.spec.run_id, None)))

    def check(self, jobs: Jobs, work: TableName) -> None:
        """Raise `InputError` unless the columns came as they are, the key is unique, never null, the slices whole."""
        table = jobs.connection.table(work)
        if table is None:
            raise WarehouseError(f"BigQuery table {work.path} is gone again; was the run forgotten meanwhile?")
        self._check_columns(table)
        if table.num_rows:
            self._check_rows(jobs, work)

    def _check_columns(self, table: bigquery.Table) -> None:
        """What was frozen has the types of the input's columns: nothing else may be asked."""
        came = {field.name: type_word(field) for field in table.schema}
        wanted = {field.name: type_word(field) for field in without_sizes(self.source.fields)}
        for place, column in enumerate(self.manifest.columns):
            if came[column_name(place)] != wanted[column]:
                raise InputError(
                    f"input {self.source.ref!r}: its column {column!r} is {wanted[column]}, but was read as "
                    f"{came[column_name(place)]}; was the input changed meanwhile? Run the job again"
                )

    def _check_rows(self, jobs: Jobs, work: TableName) -> None:
        spec = self.spec
        named = [column_name(place) for place in range(len(spec.key))]
        parts = {
            "work": work.sql,
            "key": ", ".join(named),
            "null_counts": ", ".join(f"COUNTIF({name} IS NULL) AS nulls_{name}" for name in named),
            "null_sums": ", ".join(f"SUM(nulls_{name}) AS nulls_{name}" for name in named),
            "any_null": " OR ".join(f"{name} IS NULL" for name in named),
            "examples": str(EXAMPLES),
        }

        def ask(name: str) -> list[list[object]]:
            found = answer(jobs, Query(name, statement(name, **parts), run=(spec.run_id, None)))
            return [list(row.values()) for row in found.to_pylist()]

        keys, rows, gaps, *nulls = (int(str(value)) for value in ask("check_frozen")[0])
        if any(nulls):
            raise null_key(spec.source, spec.key, nulls, ask("null_keys"))
        if keys:
            raise duplicate_key(spec.source, spec.key, keys, rows, ask("duplicate_keys"))
        if gaps:
            raise InputError(
                f"input {spec.source!r}, where {spec.where!r}: the filter (or the view) gives other rows each time it "
                "is evaluated; use nothing random in it, for example MOD(ABS(FARM_FINGERPRINT(id)), 100) = 0 for a "
                "sample"
            )
