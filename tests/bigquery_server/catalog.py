"""Datasets and tables: what exists, since when, in which version.

Belongs here: finding, putting, dropping; etags; expiry. Not here: REST's JSON (resources.py), rows (storage.py).
Records never change; a change puts a new one in the old one's place. So a transaction is a copy of two dicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.bigquery_server.clock import Clock
from tests.bigquery_server.errors import ApiError, invalid, not_found
from tests.bigquery_server.partitions import Partitioning
from tests.bigquery_server.schema import Schema
from tests.bigquery_server.storage import Part, Version

__all__ = ["Catalog", "Dataset", "DatasetRef", "Snapshot", "Table", "TableRef"]

DATASET_ID = re.compile(r"\w{1,1024}", re.ASCII)
TABLE_ID = re.compile(r"[\w \-]{1,1024}")


@dataclass(frozen=True, order=True)
class DatasetRef:
    """Names a dataset."""

    project: str
    dataset: str

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}"


@dataclass(frozen=True, order=True)
class TableRef:
    """Names a table, or one partition of it."""

    project: str
    dataset: str
    table: str
    partition: str | None = None

    @property
    def parent(self) -> DatasetRef:
        """Its dataset."""
        return DatasetRef(self.project, self.dataset)

    @property
    def whole(self) -> TableRef:
        """Without the partition."""
        return replace(self, partition=None)

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}.{self.table}" + (f"${self.partition}" if self.partition else "")

    @classmethod
    def of(cls, said: Mapping[str, Any] | None) -> TableRef:
        """A tableReference of a request; its tableId may have a decorator."""
        said = said or {}
        missing = next((each for each in ("projectId", "datasetId", "tableId") if not said.get(each)), None)
        if missing is not None:
            raise ApiError("required", "Required parameter is missing", location=missing)
        table, _, partition = str(said["tableId"]).partition("$")
        return cls(str(said["projectId"]), str(said["datasetId"]), table, partition or None)


@dataclass(frozen=True)
class Dataset:
    """A dataset's state."""

    ref: DatasetRef
    location: str
    created_ms: int
    modified_ms: int
    properties: Mapping[str, Any] = field(default_factory=dict)  # description, labels, defaultTableExpirationMs, ...
    revision: int = 0


@dataclass(frozen=True)
class Table:
    """A table's or view's state, with all its versions."""

    ref: TableRef
    location: str
    created_ms: int
    modified_ms: int
    history: tuple[Version, ...]
    partitioning: Partitioning | None = None
    clustering: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)  # description, labels, expirationTime, ...
    view: str | None = None  # its query
    revision: int = 0
    partitions_modified_ms: Mapping[str, int] = field(default_factory=dict)
    streamed_ms: int | None = None  # the last insertAll

    @property
    def now(self) -> Version:
        """The newest version."""
        return self.history[-1]

    @property
    def schema(self) -> Schema:
        """Of the newest version."""
        return self.now.schema

    @property
    def etag(self) -> str:
        """Another one after each change."""
        return f"etag-{self.created_ms:x}-{self.revision:x}"


@dataclass(frozen=True)
class Snapshot:
    """What existed at a moment."""

    datasets: Mapping[DatasetRef, Dataset]
    tables: Mapping[TableRef, Table]


class Catalog:
    """Everything that exists."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.datasets: dict[DatasetRef, Dataset] = {}
        self.tables: dict[TableRef, Table] = {}

    def dataset(self, ref: DatasetRef) -> Dataset:
        """The dataset, or 404."""
        if ref not in self.datasets:
            raise not_found("Dataset", str(ref))
        return self.datasets[ref]

    def table(self, ref: TableRef) -> Table:
        """The table, or 404: for its dataset, or for itself."""
        found = self.find(ref)
        if found is None:
            self.dataset(ref.parent)
            raise not_found("Table", str(ref.whole))
        return found

    def find(self, ref: TableRef) -> Table | None:
        """The table, unless it is not there or its time is over."""
        found = self.tables.get(ref.whole)
        if found is None:
            return None
        expires_ms = found.properties.get("expirationTime")
        if expires_ms is not None and int(expires_ms) <= self.clock.now_ms():
            del self.tables[ref.whole]
            return None
        return found

    def tables_of(self, ref: DatasetRef) -> Iterator[Table]:
        """By name."""
        for each in sorted(each for each in self.tables if each.parent == ref):
            found = self.find(each)
            if found is not None:
                yield found

    def add_dataset(self, dataset: Dataset) -> None:
        """Put a dataset that may have any legal name."""
        if not DATASET_ID.fullmatch(dataset.ref.dataset):
            raise invalid(
                f'Invalid dataset ID "{dataset.ref.dataset}". Dataset IDs must be alphanumeric (plus underscores) '
                "and must be at most 1024 characters long."
            )
        self.datasets[dataset.ref] = dataset

    def drop_dataset(self, ref: DatasetRef) -> None:
        """Drop it with its tables."""
        self.datasets.pop(ref)
        for table in list(self.tables_of(ref)):
            self.tables.pop(table.ref)

    def add_table(self, table: Table) -> Table:
        """Put a new table."""
        if not TABLE_ID.fullmatch(table.ref.table):
            raise invalid(
                f'Invalid table ID "{table.ref.table}". Table IDs must be alphanumeric (plus underscores and dashes) '
                "and must be at most 1024 characters long."
            )
        expiry_ms = self.dataset(table.ref.parent).properties.get("defaultTableExpirationMs")
        if expiry_ms is not None and "expirationTime" not in table.properties:
            expires = {"expirationTime": str(self.clock.now_ms() + int(expiry_ms))}
            table = replace(table, properties={**table.properties, **expires})
        self.tables[table.ref] = table
        return table

    def put(self, table: Table) -> Table:
        """Put a table's next state: another etag, another time of change."""
        newer = replace(table, revision=table.revision + 1, modified_ms=self.clock.now_ms())
        self.tables[table.ref] = newer
        return newer

    def commit(self, table: Table, parts: tuple[Part, ...], schema: Schema, changed: frozenset[str]) -> Table:
        """Put a table's next version; ``changed`` are the partitions that a job wrote."""
        version = Version(self.clock.now_us(), schema, parts)
        times = {**table.partitions_modified_ms, **dict.fromkeys(changed, self.clock.now_ms())}
        return self.put(replace(table, history=(*table.history, version), partitions_modified_ms=times))

    def rewrite(self, table: Table, version: Version, same: Version) -> None:
        """Put other segments with the same rows in a version's place; nobody can tell."""
        history = tuple(same if each is version else each for each in table.history)
        self.tables[table.ref] = replace(table, history=history)

    def snapshot(self) -> Snapshot:
        """Everything as it is now; records never change."""
        return Snapshot(dict(self.datasets), dict(self.tables))

    def restore(self, before: Snapshot) -> None:
        """Everything as it was then."""
        self.datasets, self.tables = dict(before.datasets), dict(before.tables)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A block that changes all it wants or, when it raises, nothing."""
        before = self.snapshot()
        try:
            yield
        except BaseException:
            self.restore(before)
            raise

    def time_travel_us(self, table: Table) -> int:
        """How far back one can look: 2 to 7 days, as the dataset says.

        Source: https://cloud.google.com/bigquery/docs/time-travel (read 2026-11-28).
        """
        hours = int(self.dataset(table.ref.parent).properties.get("maxTimeTravelHours") or 168)
        return hours * 3_600_000_000

    def as_of(self, table: Table, at_us: int) -> Version:
        """The version that was current at a moment."""
        now_us = self.clock.now_us()
        found = next((each for each in reversed(table.history) if each.at_us <= at_us), None)
        if found is None or not now_us - self.time_travel_us(table) <= at_us <= now_us:
            first = max(table.history[0].at_us, now_us - self.time_travel_us(table)) // 1000
            raise ApiError(
                "invalidQuery",
                f"Invalid time travel timestamp {at_us // 1000} for table {table.ref}@{at_us // 1000}. "
                f"Cannot read before {first}.",
            )
        return found
