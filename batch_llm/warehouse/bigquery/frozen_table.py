"""The table of a run's frozen input: what it is called inside, and what it says of itself.

Belongs here: the columns ``_slice``, ``_row``, ``c0``, ``c1`` ..; the manifest. Not here: filling it (freezing.py),
reading it (slices.py). The columns have numbers for names, so that an input's column may be called anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.cloud import bigquery

from batch_llm.warehouse.base import FreezeSpec, FrozenInput, SliceInfo
from batch_llm.warehouse.bigquery.marks import mark, read_mark

__all__ = ["MOST_SLICES", "ROW", "SLICE", "Manifest", "column_name", "sizes_of"]

SLICE, ROW = "_slice", "_row"
MOST_SLICES = 1000
"""Of one run. A table takes 1,500 load jobs a day, and each slice is published by one or more.
Source: https://cloud.google.com/bigquery/quotas#load_jobs (read 2026-11-28)
"""


def column_name(place: int) -> str:
    """The table's column that holds the input's ``place``-th column."""
    return f"c{place}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a frozen input is, kept in the description of its table."""

    run_id: str
    source: str
    version: str
    key: tuple[str, ...]
    columns: tuple[str, ...]  # the key's come first
    rows_per_slice: int  # as asked for; more when there would be too many slices
    from_files: bool  # the table holds keys only, the slices are files of their own

    @classmethod
    def of(cls, spec: FreezeSpec, version: str, *, from_files: bool) -> Manifest:
        """Of an input that is to be frozen."""
        columns = tuple(dict.fromkeys((*spec.key, *spec.columns)))
        return cls(spec.run_id, spec.source, version, spec.key, columns, spec.rows_per_slice, from_files)

    @classmethod
    def read(cls, table: bigquery.Table | None) -> Manifest | None:
        """Of a table that was looked up; None when there is none, or not all of it."""
        found = read_mark(table.description) if table is not None else None
        if found is None or "frozen" not in found:
            return None
        stored = found["frozen"]
        return cls(**{**stored, "key": tuple(stored["key"]), "columns": tuple(stored["columns"])})

    def text(self) -> str:
        """The table's description."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return mark(frozen=facts)

    def frozen(self, rows: int) -> FrozenInput:
        """The frozen input of so many rows."""
        slices = tuple(SliceInfo(number, size) for number, size in enumerate(sizes_of(rows, self.rows_per_slice)))
        return FrozenInput(self.run_id, self.source, self.version, self.key, self.columns, slices)


def sizes_of(rows: int, rows_per_slice: int) -> Sequence[int]:
    """The rows of each slice: all but the last are full."""
    full = max(rows_per_slice, -(-rows // MOST_SLICES))
    return [full] * (rows // full) + ([rows % full] if rows % full else [])
