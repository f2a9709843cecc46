"""What the statements of the BigQuery warehouse cost: told once each, bounded, and none where a read is free.

Belongs here: bytes, slots, dollars. Not here: calls that fail (test_warehouse_bigquery_calls.py).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from batch_llm.errors import WarehouseError
from batch_llm.statement_costs import StatementCost
from batch_llm.warehouse.bigquery import Options
from tests.bigquery_server.process import BigQueryServer
from tests.contract.bigquery_warehouse_lab import hasty, read_all
from tests.contract.warehouse_lab import KEY, BigQueryLab, input_table, publish, spec, stored


def test_every_statement_is_told_with_what_it_cost(bigquery: BigQueryServer, tmp_path: Path) -> None:
    """By its own job: no call is made for it."""
    noted: list[tuple[str, StatementCost]] = []
    options = Options(on_statement=lambda run_id, cost: noted.append((run_id, cost)), usd_per_tib=Decimal(1024))
    lab = BigQueryLab(tmp_path / "home", options=options)
    lab.put("raw.texts", input_table(10))
    frozen = lab.warehouse.freeze(spec("r1", "raw.texts"))
    publish(lab.warehouse, "r1", 0, {"k00000": "ok"})
    list(lab.warehouse.read(frozen, 0))
    lab.warehouse.published("r1", 0)
    lab.warehouse.promote("r1", "tone", KEY, "replace")
    stored(lab.warehouse, "tone")
    told = [cost for _, cost in noted]
    assert {run_id for run_id, _ in noted} == {"r1"}
    assert [each.name for each in told] == ["freeze", "check_frozen", "published", "promote_replace"]
    assert [each.slice_number for each in told] == [None, None, 0, None]
    assert all(each.billed_bytes is not None and each.billed_bytes >= 10 << 20 for each in told)
    assert all(each.cost_usd == Decimal(each.billed_bytes or 0) / (1 << 30) for each in told)
    assert all(each.slot_ms is not None for each in told)
    statements = [call for call in bigquery.log() if call["operation"] == "jobs.insert:query"]
    assert [call["job_id"] for call in statements][-4:] == [each.job_id for each in told]


def test_a_statement_whose_process_died_is_told_by_the_next(bigquery: BigQueryServer, tmp_path: Path) -> None:
    """A promotion that is made again finds the job that was never told."""
    first = BigQueryLab(tmp_path / "home", options=Options())
    publish(first.warehouse, "r1", 0, {"a": "ok"})
    first.warehouse.promote("r1", "tone", KEY, "upsert")
    told: list[StatementCost] = []
    options = Options(on_statement=lambda _, cost: told.append(cost))
    BigQueryLab(tmp_path / "home", options=options).warehouse.promote("r1", "tone", KEY, "replace")
    assert [each.name for each in told] == ["promote_upsert", "promote_replace"]
    assert len({each.job_id for each in told}) == 2
    assert all(each.billed_bytes and each.cost_usd is None for each in told)


def test_a_statement_that_would_bill_too_much_is_refused(bigquery: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "home", options=Options(max_bytes_billed=1_000))
    lab.put("raw.texts", input_table(10))
    with pytest.raises(WarehouseError, match="BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED"):
        lab.warehouse.freeze(spec("r1", "raw.texts"))


def test_reading_whole_tables_and_slices_runs_no_statement(bigquery: BigQueryServer, tmp_path: Path) -> None:
    lab = BigQueryLab(tmp_path / "home", options=Options(patience=hasty()))
    lab.put("texts", input_table(10))
    frozen = lab.warehouse.freeze(spec("r1", "texts"))
    publish(lab.warehouse, "r1", 0, {"k00000": "ok"})
    before = len(bigquery.log())
    read_all(lab.warehouse, frozen)
    lab.warehouse.head("texts", ["id", "turns"], None, 3)
    sampled = lab.warehouse.sample("texts", ["id", "turns"], "year >= 2005", 3)
    assert sampled.column_names == ["id", "turns"]
    assert sampled.num_rows == 3
    lab.warehouse.source("texts")
    stored(lab.warehouse, "run:r1")
    list(lab.warehouse.rows("run:r1", columns=["llm_status"], limit=1))
    assert sum(batch.num_rows for batch in lab.warehouse.rows("run:r1", slice_number=0)) == 1
    lab.warehouse.published_version("r1")
    assert [list(lab.warehouse.prior(frozen, 0, place)) for place in ("absent", "run:r9")] == [[], []]
    calls = [call["operation"] for call in bigquery.log()[before:]]
    assert not [call for call in calls if call.startswith("jobs.")]
