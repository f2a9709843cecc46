"""The way to BigQuery: the client, where jobs run, and the calls about tables that are no jobs.

Belongs here: opening the client late, looking up, making, changing and dropping tables. Not here: jobs (jobs.py), rows
(listing.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.api_core import exceptions as api
from google.cloud import bigquery

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery.failures import FAILURES, Failure
from batch_llm.warehouse.bigquery.names import Dataset, TableName
from batch_llm.warehouse.bigquery.patience import Patience

__all__ = ["ACCESS_DENIED", "ANSWER_S", "CallFailed", "Connection", "Options", "Statement"]

ANSWER_S = 60.0  # for one request; a connection that died without a word must not hang
ACCESS_DENIED = "accessDenied"  # BigQuery's word for a right that is missing, as against quotas, which are 403 too
WORK_DAYS = 30.0


class CallFailed(WarehouseError):
    """A call that is no job was refused, or nobody answered.

    Attributes:
        failure: What BigQuery said.
    """

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that ran, and what it cost."""

    name: str  # the operation: freeze, published, promote_upsert ..
    job_id: str
    expected_bytes: int | None  # by a dry run just before; None: BigQuery could not say
    processed_bytes: int | None
    billed_bytes: int | None  # 10 MB at least for each table, nothing when it came from BigQuery's cache
    slot_ms: int | None


@dataclass(frozen=True, slots=True)
class Options:
    """How the warehouse uses BigQuery."""

    location: str | None = None  # where jobs run (EU, us-central1 ..); None: where the dataset is
    max_bytes_billed: int | None = None  # a statement that would bill more is refused; None: no limit
    work_days: float = WORK_DAYS  # frozen inputs and earlier answers are dropped so long after they were made
    patience: Patience = field(default_factory=Patience)
    # called by the first reading of rows; gives a client of the Storage Read API, or None: rows come by REST
    make_reader: Callable[[], Any | None] | None = None
    on_statement: Callable[[Statement], None] | None = None  # told after each statement; costs a dry run before each


class Connection:
    """One dataset and everything beside it that may be named. Any number of threads may use it."""

    def __init__(self, dataset: Dataset, make_client: Callable[[], bigquery.Client], options: Options) -> None:
        """``make_client`` is called once, by the first call that needs it."""
        self.dataset = dataset
        self.options = options
        self.patience = options.patience
        self.retry: Any = options.patience  # what every call of the client takes; it calls it like its own `Retry`
        self._make_client = make_client
        self._opening = threading.Lock()
        self._client: bigquery.Client | None = None
        self._reader: Any | None = None
        self._make_reader = options.make_reader
        self._location = options.location

    @property
    def client(self) -> bigquery.Client:
        """The client. Raises `WarehouseError` without credentials."""
        with self._opening:
            if self._client is None:
                try:
                    self._client = self._make_client()
                except FAILURES as error:
                    raise WarehouseError(f"BigQuery dataset {self.dataset}: {Failure.of(error)}") from None
            return self._client

    @property
    def reader(self) -> Any | None:
        """The client of the Storage Read API; None: rows come by REST. Raises `WarehouseError` without credentials."""
        with self._opening:
            if self._make_reader is not None:
                try:
                    self._reader = self._make_reader()
                except FAILURES as error:
                    raise WarehouseError(f"BigQuery dataset {self.dataset}: {Failure.of(error)}") from None
                self._make_reader = None
            return self._reader

    def drop_reader(self) -> None:
        """Rows come by REST from now on."""
        with self._opening:
            self._reader = None

    @property
    def location(self) -> str:
        """Where every job runs: a job's id means something in its location only."""
        if self._location is None:
            with self.told(f"BigQuery dataset {self.dataset}"):
                found = self.client.get_dataset(str(self.dataset), retry=self.retry, timeout=ANSWER_S)
            self._location = found.location or "US"
        return self._location

    def told(self, what: str) -> _Told:
        """A block whose failures become a `CallFailed` that begins with ``what``."""
        return _Told(what)

    def table(self, name: TableName) -> bigquery.Table | None:
        """A table or view as it is now; None when there is none."""
        with self.told(f"BigQuery table {name.path}"):
            try:
                return self.client.get_table(name.path, retry=self.retry, timeout=ANSWER_S)
            except api.NotFound:
                return None

    def visible(self, name: TableName) -> bigquery.Table | None:
        """A table or view as it is now; None also when this account may not look at it."""
        try:
            return self.table(name)
        except CallFailed as error:
            if error.failure.reason != ACCESS_DENIED:
                raise
            return None

    def has_dataset(self, name: TableName) -> bool:
        """Whether the dataset of a table exists."""
        with self.told(f"BigQuery dataset {name.project}.{name.dataset}"):
            try:
                self.client.get_dataset(f"{name.project}.{name.dataset}", retry=self.retry, timeout=ANSWER_S)
            except api.NotFound:
                return False
            return True

    def names(self, project: str, dataset: str) -> Iterator[TableName]:
        """The tables and views of a dataset, without our own; nothing when there is no such dataset."""
        with self.told(f"BigQuery dataset {project}.{dataset}"):
            try:
                found = self.client.list_tables(f"{project}.{dataset}", retry=self.retry, timeout=ANSWER_S)
                names = [TableName(project, dataset, entry.table_id) for entry in found]
            except api.NotFound:
                return
        yield from (name for name in names if not name.is_internal)

    def own_names(self, prefix: str) -> list[TableName]:
        """Our own tables whose name is ``prefix`` and one word of hexadecimal digits."""
        dataset = self.dataset
        with self.told(f"BigQuery dataset {dataset}"):
            found = self.client.list_tables(str(dataset), retry=self.retry, timeout=ANSWER_S)
            names = [entry.table_id for entry in found]
        fitting = [name for name in names if name.startswith(prefix) and name[len(prefix) :].isalnum()]
        return [TableName(dataset.project, dataset.dataset, name) for name in fitting]

    def make(self, table: bigquery.Table) -> None:
        """Make a table; one that is there already stays as it is. Without an expiry of its own it never expires."""
        with self.told(f"BigQuery table {table.full_table_id or table.table_id}"):
            made = self.client.create_table(table, exists_ok=True, retry=self.retry, timeout=ANSWER_S)
        if table.expires is None:
            self.keep(made)

    def keep(self, table: bigquery.Table) -> None:
        """Take away a table's expiry: a dataset may give one to each new table, whatever is in it.

        Source: https://cloud.google.com/dotnet/docs/reference/Google.Cloud.BigQuery.V2/latest, SetExpirationTime of
        TableExtensions (read 2026-11-29)
        """
        standing: bigquery.Table | None = table
        while standing is not None and standing.expires is not None:
            standing.expires = None
            if self.change(standing, ["expires"]):
                return
            standing = self.table(TableName(table.project, table.dataset_id, table.table_id))

    def change(self, table: bigquery.Table, fields: list[str]) -> bool:
        """Store these fields of a table that was looked up; False when somebody changed it meanwhile: look again."""
        with self.told(f"BigQuery table {table.table_id}"):
            try:  # the client sends the etag as If-Match
                self.client.update_table(table, fields, retry=self.retry, timeout=ANSWER_S)
            except api.PreconditionFailed:
                return False
            return True

    def drop(self, name: TableName) -> None:
        """Drop a table or view, if it is there."""
        with self.told(f"BigQuery table {name.path}"):
            self.client.delete_table(name.path, not_found_ok=True, retry=self.retry, timeout=ANSWER_S)


class _Told:
    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, FAILURES):  # without the original: its text holds addresses of uploads, or tokens
            failure = Failure.of(error)
            raise CallFailed(f"{self._what}: {failure}", failure) from None
