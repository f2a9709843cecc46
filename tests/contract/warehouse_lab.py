"""What the warehouse suite works with: tables in and rows out, and a warehouse of each kind to try them on.

Belongs here: making inputs and output rows. Not here: any promise (test_warehouse.py).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from batch_llm.warehouse.base import LLM_SCHEMA, FreezeSpec, Warehouse
from batch_llm.warehouse.bigquery import BigQueryWarehouse, Options, open_client, open_reader
from batch_llm.warehouse.duckdb import DuckDBWarehouse

OUTPUT_SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("answer", pa.string()), *LLM_SCHEMA])
KEY = ("id",)


class Lab(Protocol):
    """A warehouse in an empty home, and what a user does to it from outside."""

    home: Path
    keeps_tables_as_they_are: bool  # rows of tables in their order, small integers small
    keeps_missing_lists: bool  # apart from empty ones; also missing elements of lists
    many_rows: int  # that go from input to output in some seconds
    our_table: str  # where the published rows of run r1 are
    no_table: str  # a name with a part too many

    @property
    def warehouse(self) -> Warehouse: ...
    def put(self, ref: str, table: pa.Table) -> None: ...
    def execute(self, statement: str) -> None: ...


@dataclass(frozen=True)
class DuckDBLab:
    """A DuckDB warehouse in an empty home."""

    home: Path
    memory_limit: str = "512MB"
    keeps_tables_as_they_are: ClassVar[bool] = True
    keeps_missing_lists: ClassVar[bool] = True
    many_rows: ClassVar[int] = 300_000
    our_table: ClassVar[str] = "_batch_llm.out_r1"
    no_table: ClassVar[str] = "a.b.c"

    @property
    def warehouse(self) -> Warehouse:
        """As another process would open it."""
        return DuckDBWarehouse(self.home / "warehouse.duckdb", self.home / "runs", self.memory_limit)

    def put(self, ref: str, table: pa.Table) -> None:
        """Make (or replace) a table of the warehouse, as a user would."""
        if "." in ref:
            self.execute(f"CREATE SCHEMA IF NOT EXISTS {ref.split('.', maxsplit=1)[0]}")
        with self._connection() as connection:
            connection.register("given", table)
            connection.execute(f"CREATE OR REPLACE TABLE {ref} AS SELECT * FROM given")

    def execute(self, statement: str) -> None:
        """Run a user's own statement."""
        with self._connection() as connection:
            connection.execute(statement)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        self.home.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(str(self.home / "warehouse.duckdb"))


@dataclass(frozen=True)
class BigQueryLab:
    """A BigQuery warehouse in a project of its own, on the server that BIGQUERY_EMULATOR_HOST names."""

    home: Path
    memory_limit: str = "512MB"
    options: Options = field(default_factory=Options)
    keeps_tables_as_they_are: ClassVar[bool] = False
    keeps_missing_lists: ClassVar[bool] = False
    many_rows: ClassVar[int] = 50_000
    our_table: ClassVar[str] = "batch_llm_out_r1"
    no_table: ClassVar[str] = "a.b.c.d"

    def __post_init__(self) -> None:
        with open_client(self.project) as client:
            for dataset in ("tables", "raw", "results"):
                client.create_dataset(f"{self.project}.{dataset}", exists_ok=True)

    @property
    def project(self) -> str:
        """Other labs have other projects, so that all may have one server."""
        return "p" + hashlib.blake2b(str(self.home).encode(), digest_size=6).hexdigest()

    @property
    def warehouse(self) -> Warehouse:
        """As another process would open it."""
        runs = self.home / "runs"
        files = DuckDBWarehouse(self.home / "files.duckdb", runs, self.memory_limit)
        client = partial(open_client, self.project)
        return BigQueryWarehouse(client, f"{self.project}.tables", runs, files, self.options)

    def put(self, ref: str, table: pa.Table) -> None:
        """Make (or replace) a table of the warehouse, as a user would."""
        dataset, _, name = ref.rpartition(".")
        config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_TRUNCATE")
        options = bigquery.ParquetOptions()
        options.enable_list_inference = True
        config.parquet_options = options
        file = io.BytesIO()
        pq.write_table(table, file)
        with open_client(self.project) as client:
            target = f"{self.project}.{dataset or 'tables'}.{name}"
            client.load_table_from_file(file, target, rewind=True, job_config=config).result()

    def execute(self, statement: str) -> None:
        """Run a user's own statement."""
        config = bigquery.QueryJobConfig(default_dataset=f"{self.project}.tables")
        with open_client(self.project) as client:
            client.query(statement, config).result()


@dataclass(frozen=True)
class BigQueryStorageLab(BigQueryLab):
    """The same; whole tables and slices are read by the Storage Read API at BIGQUERY_STORAGE_GRPC_ENDPOINT."""

    options: Options = field(default_factory=lambda: Options(make_reader=open_reader))


LABS: dict[str, type[DuckDBLab] | type[BigQueryLab]] = {
    "duckdb": DuckDBLab,
    "bigquery": BigQueryLab,
    "bigquery_storage": BigQueryStorageLab,
}


def input_table(rows: int, start: int = 0) -> pa.Table:
    """``rows`` rows: id (unique), year, text, and a nested column."""
    numbers = range(start, start + rows)
    return pa.table(
        {
            "id": [f"k{number:05}" for number in numbers],
            "year": pa.array([2000 + number % 20 for number in numbers], pa.int16()),
            "text": [f"Zeile {number} — “ünï” 中\nzweite" for number in numbers],
            "turns": pa.array(
                [[{"speaker": "user", "text": f"t{number}"}] * (number % 3) for number in numbers],
                pa.list_(pa.struct([("speaker", pa.string()), ("text", pa.string())])),
            ),
        }
    )


def written(path: Path, table: pa.Table) -> str:
    """Write a Parquet file; its path as a ref."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return str(path)


def spec(run_id: str, source: str, **changed: Any) -> FreezeSpec:
    """A FreezeSpec over `input_table`'s columns."""
    values: dict[str, Any] = {"key": KEY, "columns": ("id", "text"), "where": None, "rows_per_slice": 4}
    return FreezeSpec(run_id=run_id, source=source, **{**values, **changed})


def output_rows(run_id: str, number: int, rows: Mapping[str, str], answer: str = "a") -> list[dict[str, Any]]:
    """Rows of a slice: key to status."""
    return [
        {
            **dict.fromkeys(OUTPUT_SCHEMA.names),
            "id": key,
            "answer": answer if status == "ok" else None,
            "llm_status": status,
            "llm_error_class": {"failed": "refused", "pending": "cancelled"}.get(status),
            "llm_attempts": 0 if status == "pending" else 2,
            "llm_input_tokens": 10,
            "llm_output_tokens": 3,
            "llm_cost_usd": Decimal("0.000000125") if status == "ok" else None,
            "llm_cached": False,
            "llm_finished_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            "llm_request_hash": f"h-{key}",
            "llm_run_id": run_id,
            "llm_slice": number,
        }
        for key, status in rows.items()
    ]


def batches(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = OUTPUT_SCHEMA) -> Iterator[pa.RecordBatch]:
    """Rows as the engine hands them over: some batches, one after the other."""
    for start in range(0, len(rows), 3):
        yield pa.RecordBatch.from_pylist(list(rows[start : start + 3]), schema=schema)


def publish(warehouse: Warehouse, run_id: str, number: int, rows: Mapping[str, str], answer: str = "a") -> None:
    """Publish a slice: key to status."""
    warehouse.publish(run_id, number, batches(output_rows(run_id, number, rows, answer)), OUTPUT_SCHEMA)


def stored(warehouse: Warehouse, place: str) -> dict[str, tuple[str, str | None]]:
    """What stands in a place: key to status and answer; fails for a key that stands there twice."""
    rows = [row for batch in warehouse.rows(place) for row in batch.to_pylist()]
    found = {row["id"]: (row["llm_status"], row["answer"]) for row in rows}
    assert len(found) == len(rows), "a key stands twice"
    return found
