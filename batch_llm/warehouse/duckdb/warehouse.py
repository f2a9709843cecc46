"""DuckDBWarehouse: the Warehouse protocol on one DuckDB file and a folder of runs.

Belongs here: the protocol's calls, each handed to the module that does it. Not here: how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa

from batch_llm.warehouse.base import (
    DateRange,
    ExpectedStatement,
    FreezeBill,
    FreezeSpec,
    FrozenInput,
    Loaded,
    Mode,
    Published,
    PublishedVersion,
    StatusCounts,
    TableInfo,
)
from batch_llm.warehouse.duckdb import date_ranges, filters, freezing, loading, outputs, promotion, publishing, sources
from batch_llm.warehouse.duckdb.database import LOCK_WAIT_S, Database, full_disk_told
from batch_llm.warehouse.frozen_files import slice_path
from batch_llm.warehouse.output_rules import of_slice

__all__ = ["DuckDBWarehouse"]


class DuckDBWarehouse:
    """A warehouse in one DuckDB file; frozen slices are Parquet files in ``<runs_dir>/<run_id>/frozen``.

    Holds nothing open between two calls, so any number of threads and processes may have one. A call that needs the
    file while another process keeps it waits up to ``lock_wait_s`` seconds, then raises `WarehouseError` naming
    that process.
    """

    def __init__(
        self, database: Path, runs_dir: Path, memory_limit: str = "512MB", *, lock_wait_s: float = LOCK_WAIT_S
    ) -> None:
        """``memory_limit`` as DuckDB writes it; what needs more spills to ``<database's folder>/tmp``."""
        self._database = Database(database, memory_limit, lock_wait_s=lock_wait_s)
        self._runs_dir = runs_dir.absolute()

    def tables(self, pattern: str) -> Iterator[TableInfo]:
        """See `Warehouse.tables`; of files only what the file system tells (no rows, no schema)."""
        return sources.matching(self._database, pattern)

    def source(self, ref: str) -> TableInfo:
        """See `Warehouse.source`; rows is None where counting would mean reading a file through."""
        return sources.describe(self._database, ref)

    def count(self, source: str, where: str | None) -> int:
        """See `Warehouse.count`."""
        return sources.count(self._database, source, where)

    def may_change(self, source: str, where: str) -> bool:
        """See `Warehouse.may_change`."""
        return filters.may_change(self._database, source, where)

    def within(self, source: str, dates: DateRange, where: str | None) -> str:
        """See `Warehouse.within`."""
        return date_ranges.within(self._database, source, dates, where)

    def head(self, source: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
        """See `Warehouse.head`; no columns named means all."""
        return sources.head(self._database, source, columns, where, rows)

    def sample(self, source: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
        """See `Warehouse.sample`."""
        return self.head(source, columns, where, rows)

    def file_rows(self, path: str) -> AbstractContextManager[pa.RecordBatchReader]:
        """See `Warehouse.file_rows`."""
        return sources.file_rows(self._database, path)

    def load(self, table: str, rows: pa.RecordBatchReader, *, replace: bool = False) -> Loaded:
        """See `Warehouse.load`."""
        return loading.load(self._database, table, rows, replace=replace)

    def freeze(self, spec: FreezeSpec) -> FrozenInput:
        """See `Warehouse.freeze`."""
        with full_disk_told(self._runs_dir):
            return freezing.freeze(self._database, self._runs_dir, spec)

    def freeze_for_plan(self, spec: FreezeSpec) -> FrozenInput:
        """See `Warehouse.freeze_for_plan`; nothing is kept, as freezing bills nothing."""
        return self.freeze(spec)

    def forget_drafts(self, source: str) -> None:
        """See `Warehouse.forget_drafts`; there are none."""

    def freeze_bill(self, spec: FreezeSpec) -> FreezeBill | None:
        """See `Warehouse.freeze_bill`."""
        return None

    def expected(self, frozen: FrozenInput, table: str, runs: Sequence[str]) -> tuple[ExpectedStatement, ...]:
        """See `Warehouse.expected`."""
        return ()

    def read(self, frozen: FrozenInput, number: int, *, batch_rows: int = 256) -> Iterator[pa.RecordBatch]:
        """See `Warehouse.read`."""
        return freezing.read(self._runs_dir, frozen, number, batch_rows)

    def distinct(self, frozen: FrozenInput, columns: Sequence[str]) -> int:
        """See `Warehouse.distinct`."""
        return freezing.distinct(self._database, self._runs_dir, frozen, columns)

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str], *, source: str | None = None) -> None:
        """See `Warehouse.ensure`."""
        outputs.ensure(self._database, table, schema, key, source)

    def prior(self, frozen: FrozenInput, number: int, place: str) -> Iterator[pa.RecordBatch]:
        """See `Warehouse.prior`."""
        return outputs.prior(self._database, slice_path(self._runs_dir, frozen.run_id, number), frozen.key, place)

    def publish(self, run_id: str, number: int, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Published:
        """See `Warehouse.publish`."""
        return publishing.publish(self._database, run_id, number, batches, schema)

    def published(self, run_id: str, number: int | None = None) -> dict[int, StatusCounts]:
        """See `Warehouse.published`."""
        return publishing.published(self._database, run_id, number)

    def published_version(self, run_id: str) -> PublishedVersion | None:
        """See `Warehouse.published_version`."""
        return None

    def promote(self, run_id: str, table: str, key: Sequence[str], mode: Mode) -> Published:
        """See `Warehouse.promote`."""
        return promotion.promote(self._database, run_id, table, key, mode)

    def output_version(self, table: str) -> str:
        """See `Warehouse.output_version`; of a table three columns are read through for it."""
        return outputs.output_version(self._database, table)

    def holds(self, run_id: str, table: str, key: Sequence[str], mode: Mode) -> bool:
        """See `Warehouse.holds`."""
        return promotion.holds(self._database, run_id, table, key, mode)

    def live_view(self, run_id: str, table: str) -> str:
        """See `Warehouse.live_view`."""
        return publishing.live_view(self._database, run_id, table)

    def rows(
        self,
        place: str,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
        slice_number: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See `Warehouse.rows`."""
        where = of_slice(where, slice_number)
        wanted = outputs.Rows(place, tuple(columns) if columns is not None else None, where, limit)
        return outputs.read_rows(self._database, wanted)

    def unpublish(self, run_id: str) -> None:
        """See `Warehouse.unpublish`."""
        publishing.forget_published(self._database, run_id)

    def forget(self, run_id: str) -> None:
        """See `Warehouse.forget`."""
        publishing.forget_published(self._database, run_id)
        freezing.forget_slices(self._runs_dir, run_id)
