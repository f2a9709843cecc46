"""What the warehouse suite works with: tables in and rows out, and a warehouse of each kind to try them on.

Belongs here: making inputs and output rows. Not here: any promise (test_warehouse.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.warehouse.base import LLM_SCHEMA, FreezeSpec, Warehouse
from batch_llm.warehouse.duckdb import DuckDBWarehouse

OUTPUT_SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("answer", pa.string()), *LLM_SCHEMA])
KEY = ("id",)


@dataclass(frozen=True)
class DuckDBLab:
    """A DuckDB warehouse in an empty home."""

    home: Path
    memory_limit: str = "512MB"

    @property
    def warehouse(self) -> Warehouse:
        """As another process would open it."""
        return DuckDBWarehouse(self.home / "warehouse.duckdb", self.home / "runs", self.memory_limit)

    def put(self, ref: str, table: pa.Table) -> None:
        """Make (or replace) a table of the warehouse, as a user would."""
        if "." in ref:
            self.execute(f"CREATE SCHEMA IF NOT EXISTS {ref.split('.', maxsplit=1)[0]}")
        self.execute(f"CREATE OR REPLACE TABLE {ref} AS SELECT * FROM given", given=table)

    def execute(self, statement: str, **given: pa.Table) -> list[tuple[Any, ...]]:
        """Run a user's own statement."""
        self.home.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(self.home / "warehouse.duckdb")) as connection:
            for name, table in given.items():
                connection.register(name, table)
            return connection.execute(statement).fetchall()


LABS = {"duckdb": DuckDBLab}


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
