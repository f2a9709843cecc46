"""What the engine knows of a warehouse: the protocol, its records, the names of the output's own columns.

Belongs here: the protocol and frozen records. Not here: any SQL, any client. The Warehouse is synchronous (its
clients are); the engine calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Protocol

import pyarrow as pa

__all__ = [
    "LLM_COLUMNS",
    "LLM_SCHEMA",
    "DateRange",
    "ExpectedStatement",
    "FreezeBill",
    "FreezeSpec",
    "FrozenInput",
    "Loaded",
    "Published",
    "PublishedVersion",
    "SliceInfo",
    "StatusCounts",
    "TableInfo",
    "Warehouse",
]

PRICE_TYPE = pa.decimal128(18, 9)  # US dollars

# column: type, unit, meaning (docs/reference/output-table.md)
LLM_SCHEMA = pa.schema(
    [
        pa.field("llm_status", pa.string()),  # ok | failed | pending
        pa.field("llm_error_class", pa.string()),
        pa.field("llm_error", pa.string()),
        pa.field("llm_provider", pa.string()),
        pa.field("llm_model", pa.string()),
        pa.field("llm_lane", pa.string()),
        pa.field("llm_attempts", pa.int32()),
        pa.field("llm_input_tokens", pa.int64()),
        pa.field("llm_output_tokens", pa.int64()),
        pa.field("llm_cached_input_tokens", pa.int64()),
        pa.field("llm_cost_usd", PRICE_TYPE),  # NULL when the price is unknown, never 0
        pa.field("llm_price_version", pa.string()),
        pa.field("llm_cached", pa.bool_()),
        pa.field("llm_latency_s", pa.float64()),
        pa.field("llm_finished_at", pa.timestamp("us", tz="UTC")),
        pa.field("llm_request_hash", pa.string()),
        pa.field("llm_run_id", pa.string()),
        pa.field("llm_slice", pa.int32()),
    ]
)
LLM_COLUMNS = tuple(LLM_SCHEMA.names)

Mode = Literal["upsert", "replace", "append_missing"]


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table or a set of files that matches a pattern."""

    ref: str  # what `input.table` would say
    version: str  # changes whenever the content may have changed
    rows: int | None
    size_bytes: int | None
    modified_at: datetime | None
    schema: pa.Schema | None
    streaming: bool = False  # rows are being added that can only be estimated yet: the version does not settle


@dataclass(frozen=True, slots=True)
class DateRange:
    """The rows of an input whose ``column`` lies in [start, end): midnights, UTC where the column is a moment."""

    column: str
    start: date
    end: date


@dataclass(frozen=True, slots=True)
class FreezeSpec:
    """What to freeze."""

    run_id: str
    source: str  # table name, or absolute path or glob
    key: tuple[str, ...]
    columns: tuple[str, ...]  # key, kept and prompted columns, without repeats
    where: str | None
    rows_per_slice: int


@dataclass(frozen=True, slots=True)
class FreezeBill:
    """What freezing an input bills."""

    bytes: int
    kept_minutes: float | None  # so long a plan's draft is kept for the run; None: the run reads, and is billed, again


@dataclass(frozen=True, slots=True)
class ExpectedStatement:
    """What a run's statements of one kind will bill, as far as it can be told before."""

    name: str  # the operation
    times: int  # in a run that goes through at once
    billed_bytes: int | None  # of each; None: it cannot be known before
    least_bytes: int  # each bills so many at least


@dataclass(frozen=True, slots=True)
class SliceInfo:
    """One slice of a frozen input."""

    number: int  # 0-based
    rows: int


@dataclass(frozen=True, slots=True)
class FrozenInput:
    """An input that cannot change under a resume: the same slice always holds the same rows in the same order."""

    run_id: str
    source: str
    version: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    slices: tuple[SliceInfo, ...]

    @property
    def rows(self) -> int:
        """Rows of all slices."""
        return sum(info.rows for info in self.slices)


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish or promote left behind."""

    rows: int  # rows of the slice, or of the output table
    place: str  # where they are, to show


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A run's published rows, not looked into."""

    rows: int  # of all slices, whatever their status
    token: str  # changes whenever the rows may have changed


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows that came into a table from outside."""

    rows: int
    size_bytes: int  # of the Parquet file that took them there
    place: str  # the table, as a user writes it


@dataclass(frozen=True, slots=True)
class StatusCounts:
    """Counters of a run, derived from its published rows."""

    rows: int = 0
    ok: int = 0
    failed: int = 0
    pending: int = 0
    cached: int = 0  # answered without a call of this run
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None  # sum of the known costs of this run's calls; None when none is known
    cost_unknown_rows: int = 0  # rows answered in this run whose cost is NULL


class Warehouse(Protocol):
    """Freezes inputs, keeps published slices, promotes them into output tables. All calls may be repeated."""

    def tables(self, pattern: str) -> Iterator[TableInfo]:
        """Tables (``dataset.table`` with ``*``) or files (a path or glob) that match; nothing for no match."""
        ...

    def source(self, ref: str) -> TableInfo:
        """One input with its schema and version; all files of a glob are one input. Raises `InputError`."""
        ...

    def count(self, source: str, where: str | None) -> int:
        """Rows of an input under a filter. Raises `InputError`, also for a filter that is not valid SQL."""
        ...

    def may_change(self, source: str, where: str) -> bool:
        """Whether a filter may choose other rows while the input's version stays: by the clock, by chance, by who asks.

        True where nobody can tell. Raises `InputError`.
        """
        ...

    def within(self, source: str, dates: DateRange, where: str | None) -> str:
        """The filter for those rows of ``where`` that lie in a range of dates; null dates lie in none.

        Raises `InputError` for a column that is absent or holds no dates, and for a ``where`` that is no condition.
        """
        ...

    def head(self, source: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
        """The first rows of an input, for previews and estimates; fewer when they are long: a few megabytes in all."""
        ...

    def sample(self, source: str, columns: Sequence[str], where: str | None, rows: int) -> pa.Table:
        """Rows to guess sizes by: those of `head`; where a filter would be billed, the first rows without it."""
        ...

    def file_rows(self, path: str) -> AbstractContextManager[pa.RecordBatchReader]:
        """All rows of a file (or glob), in the columns and types that a job over it would get. Raises `InputError`."""
        ...

    def load(self, table: str, rows: pa.RecordBatchReader, *, replace: bool = False) -> Loaded:
        """Make a table of these rows, all or nothing; nobody sees a part of them.

        One that is there already stays, and `OutputError` is raised; with ``replace`` the rows and columns take the
        place of its own. Never that of a view, or of an output, whose rows were paid for.
        """
        ...

    def freeze(self, spec: FreezeSpec) -> FrozenInput:
        """Check the key (unique, never null: else `InputError` with examples), then write the slices."""
        ...

    def freeze_for_plan(self, spec: FreezeSpec) -> FrozenInput:
        """`freeze`, for somebody who only looks and forgets it again, with the same checks.

        Where reading the input is billed, a draft is kept for a while: a `freeze` (or another plan) of the same rows
        in the same slices takes it over instead of reading again.
        """
        ...

    def forget_drafts(self, source: str) -> None:
        """Drop the drafts that plans over this input have left."""
        ...

    def freeze_bill(self, spec: FreezeSpec) -> FreezeBill | None:
        """What freezing it would be billed for, without doing it; None: nothing is billed."""
        ...

    def expected(self, frozen: FrozenInput, table: str, runs: Sequence[str]) -> tuple[ExpectedStatement, ...]:
        """What a run over this frozen input would bill from here on, found out at no cost; empty: nothing.

        ``table``: the output; ``runs``: others with earlier answers.
        """
        ...

    def read(self, frozen: FrozenInput, number: int, *, batch_rows: int = 256) -> Iterator[pa.RecordBatch]:
        """A slice's rows, always in the same order; a batch holds a few megabytes at most, or one longer row."""
        ...

    def distinct(self, frozen: FrozenInput, columns: Sequence[str]) -> int:
        """How many different values these columns (one at least) have together, in all slices; bills nothing more."""
        ...

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str], *, source: str | None = None) -> None:
        """Check that ``table`` can take these rows, before any call: absent, or ours with the same key and types.

        Adds nullable columns that are missing when it exists, never drops or retypes. Raises `OutputError`, also for
        an output that is the input ``source`` or one of its files, and where something stands in its live view's place.
        """
        ...

    def prior(self, frozen: FrozenInput, number: int, place: str) -> Iterator[pa.RecordBatch]:
        """Earlier rows with the keys of this slice, from one place, as of `rows`; nothing where there is none.

        Only finished rows (ok, failed). Key columns, answer columns, LLM_COLUMNS; a key may come more than once.
        """
        ...

    def publish(self, run_id: str, number: int, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Published:
        """Put these rows in the place of the slice's earlier ones, all or nothing; repeating changes nothing."""
        ...

    def published(self, run_id: str, number: int | None = None) -> dict[int, StatusCounts]:
        """The counters of each published slice of a run (or of one of them), from its stored rows."""
        ...

    def published_version(self, run_id: str) -> PublishedVersion | None:
        """What can be seen of a run's published rows at no cost; None: counting them costs nothing either."""
        ...

    def promote(self, run_id: str, table: str, key: Sequence[str], mode: Mode) -> Published:
        """Bring a run's published rows into the output table, all or nothing; repeating changes nothing.

        upsert: by key. replace: the table holds exactly the published keys, so all slices must be. append_missing: only
        keys that are absent or pending there, or failed there and ok in this run (else a retry's answer would be lost).
        In every mode a pending row never takes the place of an ok or failed one.
        """
        ...

    def output_version(self, table: str) -> str:
        """Changes whenever rows of an output may have gone or given way to others; empty without it. Costs nothing."""
        ...

    def holds(self, run_id: str, table: str, key: Sequence[str], mode: Mode) -> bool:
        """Whether promoting the run's published rows again would change nothing; by one statement.

        Told by keys, and by each row's status, run and request. False without an output, or without published rows.
        """
        ...

    def live_view(self, run_id: str, table: str) -> str:
        """Make (or remake) the view ``<table>__live`` over the run's published rows; returns its name.

        Raises `OutputError` where something stands that is no such view.
        """
        ...

    def rows(
        self,
        place: str,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
        slice_number: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Rows of an output table, or of a run's published rows when ``place`` is ``run:<run_id>``.

        ``slice_number``: those of one slice; of a run's published rows that costs nothing. At least one batch,
        so that the columns are known where there are no rows. Raises `OutputError` when there is no such table.
        """
        ...

    def unpublish(self, run_id: str) -> None:
        """Drop the run's published rows and views, so that others with other columns can take their place."""
        ...

    def forget(self, run_id: str) -> None:
        """Drop the run's frozen slices, published rows and views; the output table stays."""
        ...
