"""What a slice's rows are shown as."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import dagster as dg
import pyarrow as pa

from assets.slice_report import SliceNumbers, check_results, metadata, slice_numbers
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.warehouse.base import LLM_SCHEMA, Warehouse

KEY = dg.AssetKey(["tone", "enriched_slices"])


def record(**job: Any) -> RunRecord:
    return RunRecord(
        run_id="tone-1",
        job={"name": "tone", "model": "simulator/small", "output": {"table": "out"}, **job},
        job_dir="/",
        signature="",
        shape="",
        source="in",
        input_version="1",
        key=("id",),
        columns=("id", "text"),
        slice_rows=(4,),
        supersedes=(),
        state=RunState.PLANNED,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


class Rows:
    """A warehouse that holds these rows."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._schema = pa.schema([pa.field("id", pa.int64()), pa.field("tone", pa.string()), *LLM_SCHEMA])
        self._rows = [{"llm_run_id": "tone-1", "llm_slice": 0, "llm_cached": False, **row} for row in rows]

    def rows(self, place: str, *, slice_number: int) -> Iterator[pa.RecordBatch]:
        assert (place, slice_number) == ("run:tone-1", 0)
        yield from pa.Table.from_pylist(self._rows, schema=self._schema).to_batches(max_chunksize=2)


def numbers_of(rows: list[dict[str, Any]], **job: Any) -> SliceNumbers:
    return slice_numbers(cast("Warehouse", Rows(rows)), record(**job), 0)


ROWS: list[dict[str, Any]] = [
    {"id": 1, "tone": "calm", "llm_status": "ok", "llm_attempts": 1, "llm_input_tokens": 10, "llm_output_tokens": 2,
     "llm_cost_usd": Decimal("0.1"), "llm_latency_s": 1.0},
    {"id": 2, "llm_status": "failed", "llm_error_class": "schema_mismatch", "llm_attempts": 3, "llm_input_tokens": 30,
     "llm_output_tokens": 6, "llm_cost_usd": None, "llm_latency_s": 3.0},
    {"id": 3, "tone": "tense", "llm_status": "ok", "llm_run_id": "tone-0", "llm_attempts": 1, "llm_input_tokens": 99,
     "llm_cost_usd": Decimal(9), "llm_latency_s": 9.0},
    {"id": 4, "llm_status": "pending", "llm_error_class": "budget", "llm_attempts": 0},
]  # fmt: skip


def test_rows_of_an_earlier_run_are_cached_and_cost_nothing_now() -> None:
    numbers = numbers_of(ROWS)
    assert (numbers.rows, numbers.ok, numbers.failed, numbers.pending, numbers.cached) == (4, 2, 1, 1, 1)
    assert (numbers.input_tokens, numbers.output_tokens, numbers.cost_usd) == (40, 8, Decimal("0.1"))
    assert numbers.retries == 2


def test_who_answered_is_told_where_a_fallback_could_have() -> None:
    own, other = ({"llm_provider": name, "llm_model": "m"} for name in ("a", "b"))
    rows = [{**ROWS[0], **own}, {**ROWS[1], **other}, {**ROWS[2], **other}]
    for job, told in (({"fallback": ["b/m"]}, {"a/m": 1, "b/m": 1}), ({}, None)):
        shown = metadata(record(**job), numbers_of(rows, **job)).get("rows_by_model")
        assert (shown and cast("dg.JsonMetadataValue", shown).value) == told


def test_a_pending_row_is_no_error() -> None:
    assert numbers_of(ROWS).errors == {"schema_mismatch": 1}


def test_an_unknown_cost_is_absent_never_zero() -> None:
    assert "cost_usd" not in metadata(record(), numbers_of(ROWS[1:2]))


def test_latencies_are_of_this_runs_answers() -> None:
    numbers = numbers_of(ROWS)
    assert (numbers.latency_s(0.5), numbers.latency_s(0.99)) == (1.0, 3.0)
    assert SliceNumbers().latency_s(0.5) is None


def test_checks_follow_the_jobs_tolerance() -> None:
    results = {one.check_name: one for one in check_results(KEY, record(), 0, numbers_of(ROWS))}
    assert {name: one.passed for name, one in results.items()} == {
        "row_count_matches": True,
        "error_rate": False,
        "parse_rate": False,
    }
    assert results["row_count_matches"].severity is dg.AssetCheckSeverity.ERROR
    assert results["error_rate"].severity is dg.AssetCheckSeverity.WARN
    tolerant = check_results(KEY, record(checks={"max_failed_share": 0.5}), 0, numbers_of(ROWS))
    assert all(one.passed for one in tolerant)


def test_a_missing_row_is_an_error() -> None:
    results = {one.check_name: one.passed for one in check_results(KEY, record(), 0, numbers_of(ROWS[:3]))}
    assert not results["row_count_matches"]


def test_samples_show_keys_unless_the_job_says_rows() -> None:
    assert set(numbers_of(ROWS).sample[0]) == {"id", "llm_status", "llm_error_class", "llm_output_tokens"}
    assert "tone" in numbers_of(ROWS, samples="rows").sample[0]
