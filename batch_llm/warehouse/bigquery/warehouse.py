"""BigQueryWarehouse: the Warehouse protocol on one dataset of BigQuery.

Belongs here: the protocol's calls, each handed to the module that does it. Not here: how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
from google.cloud import bigquery

from batch_llm.errors import InputError
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
    Warehouse,
)
from batch_llm.warehouse.bigquery import (
    date_ranges,
    filters,
    freezing,
    outputs,
    promotion,
    publishing,
    slices,
    sources,
    tables,
    uploading,
)
from batch_llm.warehouse.bigquery.connection import Connection, Options
from batch_llm.warehouse.bigquery.drafts import drop_drafts
from batch_llm.warehouse.bigquery.expecting import expected
from batch_llm.warehouse.bigquery.jobs import Jobs
from batch_llm.warehouse.bigquery.names import Dataset
from batch_llm.warehouse.bigquery.prior import drop_prior, place_of, prior
from batch_llm.warehouse.output_rules import TELLING, of_slice
from batch_llm.warehouse.refs import RUN_PLACE, is_file

__all__ = ["BigQueryWarehouse"]


class BigQueryWarehouse:
    """A warehouse in one dataset; slices that are worked on lie in ``<runs_dir>/<run_id>/frozen`` as Parquet files.

    Tables of other datasets and projects can be inputs and outputs by their full names. Files are read and written by
    ``files``. Any number of threads, processes and machines may have one.
    """

    def __init__(
        self,
        make_client: Callable[[], bigquery.Client],
        dataset: str,
        runs_dir: Path,
        files: Warehouse,
        options: Options | None = None,
    ) -> None:
        """``make_client`` is called by the first call that needs it.

        ``dataset``: ``PROJECT.DATASET``, which exists. ``files``: a warehouse of this machine with the same
        ``runs_dir``, for inputs and outputs that are files.
        """
        self._connection = Connection(Dataset.parse(dataset), make_client, options or Options())
        self._runs_dir = runs_dir.absolute()
        self._jobs = Jobs(self._connection, self._runs_dir.parent / "tmp")
        self._counters = publishing.Counters(self._jobs)
        self._files = files

    def tables(self, pattern: str) -> Iterator[TableInfo]:
        """See `Warehouse.tables`; no schema."""
        if is_file(pattern):
            return self._files.tables(pattern)
        return tables.matching(self._jobs, pattern)

    def source(self, ref: str) -> TableInfo:
        """See `Warehouse.source`; rows is None for a view."""
        return self._files.source(ref) if is_file(ref) else sources.describe(self._jobs, ref)

    def count(self, source: str, where: str | None) -> int:
        """See `Warehouse.count`."""
        if is_file(source):
            return self._files.count(source, where)
        return sources.count(self._jobs, source, where)

    def may_change(self, source: str, where: str) -> bool:
        """See `Warehouse.may_change`."""
        return self._files.may_change(source, where) if is_file(source) else filters.may_change(where)

    def within(self, source: str, dates: DateRange, where: str | None) -> str:
        """See `Warehouse.within`."""
        if is_file(source):
            return self._files.within(source, dates, where)
        return date_ranges.within(self._jobs, source, dates, where)

    def head(self, source: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
        """See `Warehouse.head`; no columns named means all."""
        if is_file(source):
            return self._files.head(source, columns, where, rows)
        return sources.head(self._jobs, source, columns, where, rows)

    def sample(self, source: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
        """See `Warehouse.sample`; of a table it costs nothing."""
        if is_file(source):
            return self._files.sample(source, columns, where, rows)
        return sources.sample(self._jobs, source, columns, where, rows)

    def file_rows(self, path: str) -> AbstractContextManager[pa.RecordBatchReader]:
        """See `Warehouse.file_rows`."""
        return self._files.file_rows(path)

    def load(self, table: str, rows: pa.RecordBatchReader, *, replace: bool = False) -> Loaded:
        """See `Warehouse.load`; one load job, which is free."""
        return uploading.load(self._jobs, table, rows, replace=replace)

    def freeze(self, spec: FreezeSpec) -> FrozenInput:
        """See `Warehouse.freeze`; slices have more rows than asked for when there would be more than 1,000 of them."""
        return freezing.freeze(self._jobs, self._runs_dir, self._files, spec)

    def freeze_for_plan(self, spec: FreezeSpec) -> FrozenInput:
        """See `Warehouse.freeze_for_plan`."""
        return freezing.freeze_for_plan(self._jobs, self._runs_dir, self._files, spec)

    def forget_drafts(self, source: str) -> None:
        """See `Warehouse.forget_drafts`."""
        if not is_file(source):
            drop_drafts(self._connection, self._connection.dataset.named(source, InputError))

    def freeze_bill(self, spec: FreezeSpec) -> FreezeBill | None:
        """See `Warehouse.freeze_bill`; by a dry run, which is free. Files are not read by BigQuery."""
        return None if is_file(spec.source) else freezing.freeze_bill(self._jobs, spec)

    def expected(self, frozen: FrozenInput, table: str, runs: Sequence[str]) -> tuple[ExpectedStatement, ...]:
        """See `Warehouse.expected`; by dry runs, which are free."""
        return expected(self._jobs, frozen, table, runs)

    def read(self, frozen: FrozenInput, number: int, *, batch_rows: int = 256) -> Iterator[pa.RecordBatch]:
        """See `Warehouse.read`; the first reading on a machine brings the slice there."""
        slices.fetched(self._connection, self._runs_dir, frozen, number)
        return self._files.read(frozen, number, batch_rows=batch_rows)

    def distinct(self, frozen: FrozenInput, columns: Sequence[str]) -> int:
        """See `Warehouse.distinct`; the slices are brought here as by `read`."""
        for info in frozen.slices:
            slices.fetched(self._connection, self._runs_dir, frozen, info.number)
        return self._files.distinct(frozen, columns)

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str], *, source: str | None = None) -> None:
        """See `Warehouse.ensure`."""
        if is_file(table):
            self._files.ensure(table, schema, key, source=source if source is not None and is_file(source) else None)
            publishing.standing_view(self._connection, table)
        else:
            outputs.ensure(self._connection, table, schema, key, source)

    def prior(self, frozen: FrozenInput, number: int, place: str) -> Iterator[pa.RecordBatch]:
        """See `Warehouse.prior`; what the place held when the first slice asked."""
        if is_file(place):
            slices.fetched(self._connection, self._runs_dir, frozen, number)
            return self._files.prior(frozen, number, place)
        return prior(self._jobs, frozen, number, place_of(self._connection, place))

    def publish(self, run_id: str, number: int, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Published:
        """See `Warehouse.publish`."""
        return publishing.publish(self._jobs, (run_id, number), batches, schema)

    def published(self, run_id: str, number: int | None = None) -> dict[int, StatusCounts]:
        """See `Warehouse.published`."""
        return self._counters.of(run_id, number)

    def published_version(self, run_id: str) -> PublishedVersion | None:
        """See `Warehouse.published_version`."""
        return publishing.published_version(self._connection, run_id)

    def promote(self, run_id: str, table: str, key: Sequence[str], mode: Mode) -> Published:
        """See `Warehouse.promote`."""
        if is_file(table):
            return self._promote_to_file(run_id, table, key, mode)
        return promotion.promote(self._jobs, run_id, table, key, mode)

    def _promote_to_file(self, run_id: str, path: str, key: Sequence[str], mode: Mode) -> Published:
        """By way of ``files``: it gets the published rows for as long as it takes."""
        publishing.required_out(self._connection, run_id)
        with self._among_files(run_id, None):
            return self._files.promote(run_id, path, key, mode)

    @contextmanager
    def _among_files(self, run_id: str, columns: tuple[str, ...] | None) -> Iterator[None]:
        """A run's published rows (or some of their columns) in ``files`` as well; they are listed for nothing."""
        self._files.unpublish(run_id)  # what a killed process left
        try:
            for number in sorted(self.published(run_id)) or [0]:
                stored = publishing.stored_slice(self._connection, run_id, number, columns)
                self._files.publish(run_id, number, stored.batches(self._connection), stored.arrow_schema)
            yield
        finally:
            self._files.unpublish(run_id)

    def output_version(self, table: str) -> str:
        """See `Warehouse.output_version`."""
        return self._files.output_version(table) if is_file(table) else outputs.version(self._connection, table)

    def holds(self, run_id: str, table: str, key: Sequence[str], mode: Mode) -> bool:
        """See `Warehouse.holds`; of a file without a statement."""
        if not is_file(table):
            return promotion.holds(self._jobs, run_id, table, key, mode)
        out = self._connection.table(self._connection.dataset.out(run_id))
        if out is None or not Path(table).is_file():
            return False
        with self._among_files(run_id, (*key, *TELLING, "llm_slice")):
            return self._files.holds(run_id, table, key, mode)

    def live_view(self, run_id: str, table: str) -> str:
        """See `Warehouse.live_view`."""
        return publishing.live_view(self._jobs, run_id, table)

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
        if is_file(place) and not place.startswith(RUN_PLACE):
            where = of_slice(where, slice_number)
            return self._files.rows(place, columns=columns, where=where, limit=limit)
        wanted = outputs.Rows(place, tuple(columns) if columns is not None else None, where, limit, slice_number)
        return outputs.read_rows(self._jobs, wanted)

    def unpublish(self, run_id: str) -> None:
        """See `Warehouse.unpublish`."""
        publishing.drop_published(self._connection, run_id)

    def forget(self, run_id: str) -> None:
        """See `Warehouse.forget`."""
        publishing.drop_published(self._connection, run_id)
        drop_prior(self._connection, run_id)
        for name in (self._connection.dataset.files(run_id), self._connection.dataset.work(run_id)):
            self._connection.drop(name)
        self._files.forget(run_id)
