"""A slice's rows as the output table shows them.

Belongs here: building the output's record batches from the frozen slice, the journal and earlier answers.
Not here: writing them (warehouse).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from batch_llm.engine.parts import LANE, frozen_input, python_rows, request_hash
from batch_llm.engine.rows import RowState, RowStatus
from batch_llm.engine.slice_work import SliceWork
from batch_llm.errors import ErrorClass
from batch_llm.job.template import RenderError
from batch_llm.warehouse.base import LLM_COLUMNS, PRICE_TYPE

__all__ = ["Pending", "output_batches"]

PRICE_STEP_DIGITS: int = PRICE_TYPE.scale


@dataclass(frozen=True, slots=True)
class Pending:
    """Why rows without a result have none."""

    error_class: ErrorClass
    message: str

    @classmethod
    def because(cls, error_class: ErrorClass | None) -> Pending:
        """What stopped the run."""
        stopped = error_class or ErrorClass.CANCELLED
        return cls(stopped, _WHY.get(stopped, "not asked: the run was stopped"))

    @classmethod
    def sample(cls) -> Pending:
        """Nothing stopped it: only so many rows were to be asked."""
        return cls(ErrorClass.CANCELLED, "not asked yet: the run was limited to a sample of the rows")


_WHY = {
    ErrorClass.BUDGET: "not asked: the budget is used up",
    ErrorClass.DAILY_QUOTA: "not asked: the provider's daily quota or credit is used up",
    ErrorClass.RATE_LIMITED: "not asked: the rate limiter could not go on",
    ErrorClass.AUTHENTICATION: "not asked: the provider refused the key",
}


def output_batches(work: SliceWork, pending: Pending) -> Iterator[pa.RecordBatch]:
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


def _filled(work: SliceWork, batch: pa.RecordBatch, start: int, pending: Pending) -> dict[str, list[Any]]:
    """column: a value per row of the batch, for every column the input does not give."""
    names = _made_columns(work)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    inputs = python_rows(batch, work.parts.asked_columns) if work.prior else None
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


def _carried(work: SliceWork, row: dict[str, Any] | None, number: int) -> dict[str, Any] | None:
    """The earlier answer to this very request, unchanged but for its slice: it names the run that paid for it."""
    if row is None:
        return None
    try:
        request = work.parts.request(row, str(number))
    except RenderError:
        return None
    found = work.prior.find(row, request_hash(request, work.parts.declared.job.model))
    return None if found is None else {**work.prior.values(found), "llm_slice": work.number}


def _own(work: SliceWork, state: RowState, pending: Pending) -> dict[str, Any]:
    """What this run knows of a row."""
    job, price = work.parts.declared.job, work.parts.price
    waiting = state.status == RowStatus.PENDING
    paid = state.answers > 0
    unknown = _is_unknown(state)
    values: dict[str, Any] = {
        "llm_status": state.status,
        "llm_error_class": pending.error_class.value if waiting else state.error_class,
        "llm_error": pending.message if waiting else state.error,
        "llm_provider": job.provider_name,
        "llm_model": job.model_name,
        "llm_lane": LANE,
        "llm_attempts": state.attempts,
        "llm_input_tokens": None if unknown else state.input_tokens,
        "llm_output_tokens": None if unknown else state.output_tokens,
        "llm_cached_input_tokens": None if unknown else state.cached_input_tokens,
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


def _is_unknown(state: RowState) -> bool:
    """What the row used is not known: an answer without usage, or only calls that were never heard of again."""
    return state.usage_unknown or (state.lost > 0 and not state.answers)


def _cost(state: RowState, *, known: bool) -> Decimal | None:
    """US dollars of all answers of the row: 0 when nothing was paid, None when the price or a usage is unknown."""
    if not known or _is_unknown(state):
        return None
    return round(state.cost_usd or Decimal(0), PRICE_STEP_DIGITS)
