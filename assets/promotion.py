"""Bringing a run's published slices into its output table, for the assets that do it.

Belongs here: which run is brought in, and what is shown of the table. Not here: the SQL, the rule of the checks (the
engine).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import dagster as dg

from assets.slice_report import Value, bill_facts
from assets.tables import facts
from batch_llm.config.settings import Settings
from batch_llm.engine import promotion as engine_promotion
from batch_llm.engine.events import RunSummary
from batch_llm.engine.meter import Meter
from batch_llm.engine.summary import total
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import declare
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.statement_costs import bill_of
from batch_llm.warehouse.base import Warehouse
from batch_llm.wiring import Store, planner

__all__ = ["error_rate", "error_rate_spec", "output_metadata", "promotable_run", "promote", "summary_of"]


def promotable_run(store: Store, job: str, run_id: str | None) -> RunRecord:
    """The run to bring into the table. Raises `ConfigurationError` when there is none."""
    records = [store.runs.get(run_id)] if run_id else store.runs.all(job)
    for record in records:
        if record.state is RunState.SUPERSEDED and run_id is None:
            continue
        if len(store.warehouse.published(record.run_id)) == len(record.slice_rows):
            return record
    raise ConfigurationError(
        f"no run of the job {job!r} has all its slices published yet; materialize its enriched slices first, or start "
        f"the Dagster job {job}_run, which does it all"
    )


def promote(settings: Settings, record: RunRecord) -> RunSummary:
    """Bring the run into its table. Raises `dg.Failure` when the job's own check forbids it."""
    parts = planner(settings, declare(record.job, Path(record.job_dir))).parts
    summary = asyncio.run(engine_promotion.promote(parts, record, Meter(parts.clock)))
    if summary.blocked is not None:
        raise dg.Failure(description=summary.blocked, metadata=_counters(summary), allow_retries=False)
    return summary


def output_metadata(store: Store, record: RunRecord, summary: RunSummary) -> dict[str, Value]:
    """What the catalog shows of the table after a run went into it."""
    shown = _counters(summary)
    shown["run"] = record.run_id
    shown.update(facts(store, summary.output))
    shown.update(bill_facts(bill_of(store.runs.statements(record.run_id))))
    if summary.rows_by_model:
        shown["rows_by_model"] = dg.MetadataValue.json(summary.rows_by_model)
    if summary.pending:
        shown["partial"] = f"{summary.pending} rows are not answered yet"
    return shown


def error_rate_spec(output: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of a date partition of the table."""
    return dg.AssetCheckSpec(
        "error_rate",
        asset=output,
        description="The share of failed rows is at most `checks.max_failed_share` (0 unless the job says more).",
    )


def error_rate(output: dg.AssetKey, record: RunRecord, summary: RunSummary) -> dg.AssetCheckResult:
    """Its outcome for the run's partition, which stands in the metadata."""
    allowed = float((record.job.get("checks") or {}).get("max_failed_share") or 0.0)
    share = summary.failed / summary.rows if summary.rows else 0.0
    shown: dict[str, Value] = {"error_rate": share, "max_failed_share": allowed, "failed": summary.failed}
    return dg.AssetCheckResult(
        asset_key=output,
        check_name="error_rate",
        passed=share <= allowed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"partition": str(record.partition), **shown},
    )


def summary_of(record: RunRecord, warehouse: Warehouse, output: str) -> RunSummary:
    """How a run stands, from its stored rows, without being able to run it."""
    stored = total(warehouse.published(record.run_id).values())
    rows = sum(record.slice_rows)
    ended_at = record.finished_at or record.created_at
    return RunSummary(
        job=str(record.job["name"]),
        run_id=record.run_id,
        rows=rows,
        ok=stored.ok,
        failed=stored.failed,
        pending=rows - stored.ok - stored.failed,
        cached=stored.cached,
        requests=0,  # of this process
        attempts=stored.attempts,
        input_tokens=stored.input_tokens,
        output_tokens=stored.output_tokens,
        cost_usd=stored.cost_usd,
        wall_s=(ended_at - record.created_at).total_seconds(),
        output=output,
    )


def _counters(summary: RunSummary) -> dict[str, Value]:
    counters: dict[str, Value] = {
        "rows": summary.rows,
        "ok": summary.ok,
        "failed": summary.failed,
        "pending": summary.pending,
        "cached": summary.cached,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
    }
    if summary.cost_usd is not None:
        counters["cost_usd"] = float(summary.cost_usd)
    return counters
