"""What Dagster shows of a published slice: metadata that plots, checks, a small table.

Belongs here: deriving them from the slice's stored rows, with flat memory. Not here: asking, publishing, partitions.
Every number comes from the warehouse, so a slice that the command line ran shows the same as one that Dagster ran.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import dagster as dg
import pyarrow as pa

from batch_llm.errors import ErrorClass
from batch_llm.journal.base import RunRecord
from batch_llm.statement_costs import WarehouseBill, bill_of
from batch_llm.warehouse.base import LLM_COLUMNS, Warehouse
from batch_llm.wiring import Store

__all__ = [
    "CHECKS",
    "SliceNumbers",
    "Value",
    "bill_facts",
    "check_results",
    "check_specs",
    "metadata",
    "sample_table",
    "slice_bill",
    "slice_numbers",
]

SAMPLE_ROWS = 5
SAMPLE_CHARACTERS = 200
CHECKS = ("row_count_matches", "error_rate", "parse_rate")
_PAID = (
    "llm_run_id",
    "llm_cached",
    "llm_attempts",
    "llm_input_tokens",
    "llm_output_tokens",
    "llm_cost_usd",
    "llm_latency_s",
)
UNPARSED = (ErrorClass.SCHEMA_MISMATCH, ErrorClass.TRUNCATED)  # an answer came and cannot be used as data

Value = int | float | str | dg.MetadataValue


@dataclass(slots=True)
class SliceNumbers:
    """Counters of one slice's stored rows."""

    rows: int = 0
    ok: int = 0
    failed: int = 0
    pending: int = 0
    cached: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None  # None when no cost is known
    models: Counter[str] = field(default_factory=Counter)  # provider/model: ok rows, of a job with `fallback`
    errors: Counter[str] = field(default_factory=Counter)  # error class: rows
    latencies_s: array[float] = field(default_factory=lambda: array("d"))  # of the answered rows
    sample: list[dict[str, Any]] = field(default_factory=list)

    @property
    def retries(self) -> int:
        """Attempts beyond the first of each answered row."""
        return max(0, self.attempts - len(self.latencies_s))

    @property
    def failed_share(self) -> float:
        """Failed rows among all rows."""
        return self.failed / self.rows if self.rows else 0.0

    @property
    def parse_share(self) -> float:
        """Rows whose answer could be used among those that got one."""
        unparsed = sum(self.errors[error_class] for error_class in UNPARSED)
        return self.ok / (self.ok + unparsed) if self.ok + unparsed else 1.0

    def latency_s(self, quantile: float) -> float | None:
        """The latency that ``quantile`` (0..1) of the answered rows did not exceed; None when none was answered."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]


def slice_numbers(warehouse: Warehouse, record: RunRecord, number: int) -> SliceNumbers:
    """Count the stored rows of a slice. Raises `WarehouseError` or `OutputError` when nothing is published."""
    numbers = SliceNumbers()
    shown = _sample_columns(record)
    for batch in warehouse.rows(f"run:{record.run_id}", slice_number=number):
        _count(numbers, batch, record.run_id)
        if record.job.get("fallback"):
            _count_models(numbers, batch)
        missing = SAMPLE_ROWS - len(numbers.sample)
        if missing > 0:
            columns = [name for name in batch.schema.names if shown(name)]
            numbers.sample += batch.slice(0, missing).select(columns).to_pylist()
    return numbers


def metadata(
    record: RunRecord,
    numbers: SliceNumbers,
    *,
    rows_per_s: float | None = None,
    bill: WarehouseBill | None = None,
) -> dict[str, Value]:
    """The metadata of a slice. Numbers plot over the partitions; absent ones are unknown, never 0.

    ``rows_per_s``: how fast rows were asked, where somebody measured it. ``bill``: of the warehouse's statements for
    this slice.
    """
    known: dict[str, Value | None] = {
        "dagster/row_count": numbers.rows,
        "rows": numbers.rows,
        "failed": numbers.failed,
        "pending": numbers.pending,
        "cached": numbers.cached,
        "retries": numbers.retries,
        "input_tokens": numbers.input_tokens,
        "output_tokens": numbers.output_tokens,
        "cost_usd": None if numbers.cost_usd is None else float(numbers.cost_usd),
        "rows_per_s": _rounded(rows_per_s),
        "p50_s": _rounded(numbers.latency_s(0.50)),
        "p99_s": _rounded(numbers.latency_s(0.99)),
        "rows_by_model": dg.MetadataValue.json(dict(numbers.models)) if numbers.models else None,
        "errors": dg.MetadataValue.md(_error_table(numbers.errors)) if numbers.errors else None,
        "sample": sample_table(numbers.sample) if numbers.sample else None,
        "output_table": str(record.job["output"]["table"]),
        "run": record.run_id,
        "model": str(record.job["model"]),
    }
    return {**{name: value for name, value in known.items() if value is not None}, **bill_facts(bill)}


def bill_facts(bill: WarehouseBill | None) -> dict[str, Value]:
    """What a warehouse's statements cost, as metadata; nothing where it bills nothing."""
    if bill is None:
        return {}
    cost = None if bill.cost_usd is None else float(bill.cost_usd)
    known: dict[str, Value | None] = {
        "warehouse_statements": bill.statements,
        "warehouse_billed_bytes": bill.billed_bytes,
        "warehouse_slot_ms": bill.slot_ms,
        "warehouse_cost_usd": cost,
    }
    return {name: value for name, value in known.items() if value is not None}


def slice_bill(store: Store, record: RunRecord, number: int) -> WarehouseBill | None:
    """What the warehouse's statements for one slice cost so far."""
    return bill_of(cost for cost in store.runs.statements(record.run_id) if cost.slice_number == number)


def check_specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of a family's enriched slices."""
    descriptions = {
        "row_count_matches": "One stored row per input row of the slice.",
        "error_rate": "The share of failed rows is at most `checks.max_failed_share` (0 unless the job says more).",
        "parse_rate": "Answers that came could be used: neither cut short nor against the schema.",
    }
    return [dg.AssetCheckSpec(name, asset=asset, description=descriptions[name]) for name in CHECKS]


def check_results(
    asset: dg.AssetKey, record: RunRecord, number: int, numbers: SliceNumbers
) -> list[dg.AssetCheckResult]:
    """The outcome of each check for one slice; the slice's partition stands in the metadata."""
    allowed = float((record.job.get("checks") or {}).get("max_failed_share") or 0.0)
    expected = record.slice_rows[number]
    slice_key = f"{record.run_id}-{number:04d}"
    outcomes: list[tuple[str, bool, dg.AssetCheckSeverity, Mapping[str, Value]]] = [
        ("row_count_matches", numbers.rows == expected, dg.AssetCheckSeverity.ERROR,
         {"rows": numbers.rows, "expected_rows": expected}),
        ("error_rate", numbers.failed_share <= allowed, dg.AssetCheckSeverity.WARN,
         {"error_rate": numbers.failed_share, "max_failed_share": allowed, "failed": numbers.failed}),
        ("parse_rate", numbers.parse_share >= 1.0 - allowed, dg.AssetCheckSeverity.WARN,
         {"parse_rate": numbers.parse_share}),
    ]  # fmt: skip
    return [
        dg.AssetCheckResult(
            asset_key=asset, check_name=name, passed=passed, severity=severity, metadata={"slice": slice_key, **facts}
        )
        for name, passed, severity, facts in outcomes
    ]


def sample_table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """A few rows as the UI shows tables; long cells are cut."""
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records=records, schema=_table_schema(records))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _count(numbers: SliceNumbers, batch: pa.RecordBatch, run_id: str) -> None:
    statuses = Counter(batch.column("llm_status").to_pylist())
    numbers.rows += batch.num_rows
    numbers.ok += statuses["ok"]
    numbers.failed += statuses["failed"]
    numbers.pending += statuses["pending"]
    numbers.errors.update(
        error_class
        for status, error_class in zip(*_columns(batch, "llm_status", "llm_error_class"), strict=True)
        if status == "failed"
    )
    for paid_by, cached, attempts, inputs, outputs, cost, latency_s in zip(*_columns(batch, *_PAID), strict=True):
        if cached or paid_by != run_id:
            numbers.cached += 1  # answered before this run: nothing was paid now
            continue
        numbers.attempts += attempts or 0
        numbers.input_tokens += inputs or 0
        numbers.output_tokens += outputs or 0
        if cost is not None:
            numbers.cost_usd = (numbers.cost_usd or Decimal(0)) + cost
        if latency_s is not None:
            numbers.latencies_s.append(latency_s)


def _count_models(numbers: SliceNumbers, batch: pa.RecordBatch) -> None:
    each = zip(*_columns(batch, "llm_status", "llm_provider", "llm_model"), strict=True)
    numbers.models.update(f"{provider}/{model}" for status, provider, model in each if status == "ok")


def _columns(batch: pa.RecordBatch, *names: str) -> list[list[Any]]:
    return [batch.column(name).to_pylist() for name in names]


def _sample_columns(record: RunRecord) -> Any:
    """Which columns a sample may show: keys and the state of the row; its text only if the job says so."""
    if record.job.get("samples") == "rows":
        return lambda name: name not in LLM_COLUMNS or name in ("llm_status", "llm_error_class")
    return lambda name: name in (*record.key, "llm_status", "llm_error_class", "llm_output_tokens")


def _table_schema(records: Sequence[dg.TableRecord]) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in records[0].data])


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= SAMPLE_CHARACTERS else f"{text[:SAMPLE_CHARACTERS]}…"


def _error_table(errors: Mapping[str, int]) -> str:
    ordered: Iterable[tuple[str, int]] = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    return "\n".join(["| error class | rows |", "|---|---|", *(f"| {name} | {rows} |" for name, rows in ordered)])
