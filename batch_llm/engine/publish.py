"""A slice's rows as the output table shows them.

Belongs here: building the output's record batches from the frozen slice, the journal and earlier answers.
Not here: writing them (warehouse).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa

from batch_llm.engine.parts import LANE, frozen_input, request_hash
from batch_llm.engine.rows import RowState, RowStatus
from batch_llm.engine.slice_work import SliceWork
from batch_llm.errors import ErrorClass
from batch_llm.job.template import RenderError
from batch_llm.warehouse.base import LLM_COLUMNS, PRICE_TYPE

__all__ = ["PENDING_MESSAGES", "output_batches"]

PRICE_STEP_DIGITS: int = PRICE_TYPE.scale
PENDING_MESSAGES = {
    ErrorClass.BUDGET: "not asked: the budget is used up",
    ErrorClass.DAILY_QUOTA: "not asked: the provider's daily quota or credit is used up",
    ErrorClass.AUTHENTICATION: "not asked: the provider refused the key",
    ErrorClass.CANCELLED: "not asked: the run was stopped",
}


def output_batches(work: SliceWork, pending: ErrorClass) -> Iterator[pa.RecordBatch]:
    """One output row per row of the frozen slice, in its order, whatever became of it; blocking.

    ``pending``: why rows without a result have none.
    """
    schema: pa.Schema | None = None
    start = 0
    for batch in work.parts.warehouse.read(frozen_input(work.record), work.number):
        if schema is None:
            schema = work.parts.output_schema(batch.schema)
        filled = _filled(work, batch, start, pending)
        passed = [batch.column(name) for name in work.parts.passed_columns]
        arrays = [*passed, *(pa.array(filled[name], schema.field(name).type) for name in _made_columns(work))]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        start += batch.num_rows


def _made_columns(work: SliceWork) -> list[str]:
    return [*(field.name for field in work.parts.schema.arrow_fields), *LLM_COLUMNS]


def _filled(work: SliceWork, batch: pa.RecordBatch, start: int, pending: ErrorClass) -> dict[str, list[Any]]:
    """column: a value per row of the batch, for every column the input does not give."""
    names = _made_columns(work)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    inputs = batch.to_pylist() if work.prior else None
    for at in range(batch.num_rows):
        state = work.rows.states.get(start + at)
        values = None
        if inputs is not None and (state is None or state.status == RowStatus.PENDING):
            values = _carried(work, inputs[at], start + at)
        if values is None:
            values = _own(work, state or RowState(), pending)
        for name in names:
            columns[name].append(values.get(name))
    return columns


def _carried(work: SliceWork, row: dict[str, Any], number: int) -> dict[str, Any] | None:
    """The earlier answer to this very request, unchanged but for its slice: it names the run that paid for it."""
    try:
        request = work.parts.request(row, str(number))
    except RenderError:
        return None
    found = work.prior.find(row, request_hash(request, work.parts.declared.job.model))
    return None if found is None else {**work.prior.values(found), "llm_slice": work.number}


def _own(work: SliceWork, state: RowState, pending: ErrorClass) -> dict[str, Any]:
    """What this run knows of a row."""
    job, price = work.parts.declared.job, work.parts.price
    waiting = state.status == RowStatus.PENDING
    paid = state.answers > 0
    values: dict[str, Any] = {
        "llm_status": state.status,
        "llm_error_class": pending.value if waiting else state.error_class,
        "llm_error": PENDING_MESSAGES.get(pending, "not asked yet") if waiting else state.error,
        "llm_provider": job.provider_name,
        "llm_model": job.model_name,
        "llm_lane": LANE,
        "llm_attempts": state.attempts,
        "llm_input_tokens": None if state.usage_unknown else state.input_tokens,
        "llm_output_tokens": None if state.usage_unknown else state.output_tokens,
        "llm_cached_input_tokens": None if state.usage_unknown else state.cached_input_tokens,
        "llm_cost_usd": _cost(state, known=price is not None),
        "llm_price_version": price.version if price is not None and paid else None,
        "llm_cached": False,
        "llm_latency_s": state.latency_s,
        "llm_finished_at": None if waiting else state.finished_at,
        "llm_request_hash": state.request_hash or None,
        "llm_run_id": work.record.run_id,
        "llm_slice": work.number,
    }
    if state.status == RowStatus.OK:
        verdict = work.rows.judge.judge(work.journal.body(state.good_place))
        values.update(verdict.values or {})
    return values


def _cost(state: RowState, *, known: bool) -> Decimal | None:
    """US dollars of all answers of the row: 0 when nothing was paid, None when the price or a usage is unknown."""
    if state.usage_unknown or not known:
        return None
    return round(state.cost_usd or Decimal(0), PRICE_STEP_DIGITS)
