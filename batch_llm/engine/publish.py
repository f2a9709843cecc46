"""A slice's rows as the output table shows them.

Belongs here: building the output's record batches from the frozen slice, the journal and earlier answers.
Not here: writing them (warehouse).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from batch_llm.engine.answerers import Answerer
from batch_llm.engine.columns import column, repeated
from batch_llm.engine.parts import LANE, frozen_input, python_rows, request_hash
from batch_llm.engine.prior import Key
from batch_llm.engine.row_state import RowState, RowStatus
from batch_llm.engine.slice_work import SliceWork
from batch_llm.errors import ErrorClass
from batch_llm.job.embedding import EMBEDDING_COLUMN, EmbeddingAnswer
from batch_llm.job.template import RenderError
from batch_llm.journal.base import Entry
from batch_llm.warehouse.base import LLM_COLUMNS, PRICE_TYPE

__all__ = ["Pending", "output_batches"]

_NOTHING: Mapping[str, Any] = {}
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
        return cls(ErrorClass.SAMPLE, "not asked yet: the run was limited to a sample of the rows")


_WHY = {
    ErrorClass.BUDGET: "not asked: the budget is used up",
    ErrorClass.DAILY_QUOTA: "not asked: the provider's daily quota or credit is used up",
    ErrorClass.RATE_LIMITED: "not asked: the rate limiter could not go on",
    ErrorClass.AUTHENTICATION: "not asked: the provider refused the key, or has no such model",
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
        passed = [batch.column(name) for name in work.parts.passed_columns]
        made = _made(work, batch, start, pending)
        yield pa.RecordBatch.from_arrays(
            [*passed, *(made.array(schema.field(name)) for name in made.names)], schema=schema
        )
        start += batch.num_rows


class _Made:
    """The columns that the input does not give, filled row by row."""

    def __init__(self, work: SliceWork, rows: int) -> None:
        job, schema = work.parts.declared.job, work.parts.schema
        self._schema = schema
        self._vectors = EMBEDDING_COLUMN if isinstance(schema, EmbeddingAnswer) else None
        self.answer_names = [field.name for field in work.parts.schema.arrow_fields]
        self.names = [*self.answer_names, *LLM_COLUMNS]
        self._rows = rows
        self._constants: dict[str, Any] = {
            "llm_provider": job.provider_name,
            "llm_model": job.model_name,
            "llm_lane": LANE,
            "llm_run_id": work.record.run_id,
            "llm_slice": work.number,
        }
        self._lists: dict[str, list[Any]] = {name: [] for name in self.names if name not in self._constants}

    def own(self, values: tuple[Any, ...], answer: dict[str, Any] | None, other: Mapping[str, Any] = _NOTHING) -> None:
        """A row that this run knows: a value per `_OWN` column, and the answer's values.

        ``other``: what stands in the place of what nearly all rows have alike.
        """
        lists = self._lists
        for name in other:
            self._vary(name)
        for name, value in zip(_OWN, values, strict=True):
            lists[name].append(value)
        for name in self.answer_names:
            lists[name].append(None if answer is None else answer.get(name))
        for name in self._constants.keys() & lists.keys():
            lists[name].append(other.get(name, self._constants[name]))

    def carried(self, row: dict[str, Any]) -> None:
        """A row as an earlier run published it."""
        for name in self._constants:
            self._vary(name)
        cost = row.get("llm_cost_usd")
        row = {**row, "llm_cost_usd": None if cost is None else int(cost.scaleb(PRICE_STEP_DIGITS))}
        if self._vectors is not None and row.get(self._vectors) is not None:
            row[self._vectors] = np.array(row[self._vectors], dtype="<f4").tobytes()
        for name, values in self._lists.items():
            values.append(row.get(name))

    def _vary(self, name: str) -> None:
        """A row may differ here: it is no constant of this batch any more."""
        if name not in self._lists:
            self._lists[name] = [self._constants[name]] * len(self._lists["llm_status"])

    def array(self, field: pa.Field) -> pa.Array:
        """One column."""
        values = self._lists.get(field.name)
        if values is None:
            return repeated(self._constants[field.name], self._rows, field.type)
        if field.name == self._vectors and isinstance(self._schema, EmbeddingAnswer):
            return self._schema.column(values)
        return column(values, field.type)


def _made(work: SliceWork, batch: pa.RecordBatch, start: int, pending: Pending) -> _Made:
    made, rows, count = _Made(work, batch.num_rows), work.rows, batch.num_rows
    good = _good_entries(work, start, count)
    may_be_carried = not rows.all_done(start, count) and work.prior.any()
    inputs = python_rows(batch, work.parts.asked_columns) if may_be_carried else None
    keys = work.prior.keys(batch) if may_be_carried else []
    for at in range(count):
        row = start + at
        if inputs is not None and rows.status(row) == RowStatus.PENDING:
            values = _carried(work, keys[at], inputs[at], row)
            if values is not None:
                made.carried(values)
                continue
        state, answer = rows.judged(row, good.get(row))
        who = rows.answerers.called(state.fallback)
        other = _NOTHING if state.fallback is None else {"llm_provider": who.provider, "llm_model": who.model}
        made.own(_own(who, state, pending), answer, other)
    return made


def _good_entries(work: SliceWork, start: int, count: int) -> dict[int, Entry]:
    """row: the entry of its good answer."""
    places = {row: place for row in range(start, start + count) if (place := work.rows.good_place(row)) >= 0}
    return dict(zip(places, work.journal.entries_at(list(places.values())), strict=True)) if places else {}


def _carried(work: SliceWork, key: Key | None, row: dict[str, Any] | None, number: int) -> dict[str, Any] | None:
    """The earlier answer, unchanged but for its slice: it names the run that paid for it. ``key``: of `prior.keys`."""
    found = work.prior.kept(key)
    if found is None and row is not None:
        found = _of_request(work, row, number)
    return None if found is None else {**work.prior.values(found), "llm_slice": work.number}


def _of_request(work: SliceWork, row: dict[str, Any], number: int) -> int | None:
    try:
        request = work.parts.request(row, str(number))
    except RenderError:
        return None
    return work.prior.find(row, request_hash(request, work.parts.declared.job.model))


_OWN = (
    "llm_status",
    "llm_error_class",
    "llm_error",
    "llm_attempts",
    "llm_input_tokens",
    "llm_output_tokens",
    "llm_cached_input_tokens",
    "llm_cost_usd",
    "llm_price_version",
    "llm_cached",
    "llm_latency_s",
    "llm_finished_at",
    "llm_request_hash",
)


def _own(who: Answerer, state: RowState, pending: Pending) -> tuple[Any, ...]:
    """What this run knows of a row that ``who`` answered: a value per `_OWN` column; the cost in billionths."""
    nothing_known = who.price is None and not (state.answers or state.cached)
    waiting = state.status == RowStatus.PENDING
    unknown = _is_unknown(state)
    return (
        state.status,
        pending.error_class.value if waiting else state.error_class,
        pending.message if waiting else state.error,
        state.attempts,
        None if unknown else state.input_tokens,
        None if unknown else state.output_tokens,
        None if unknown else state.cached_input_tokens,
        None if unknown or state.price_unknown or nothing_known else state.cost_nano or 0,
        state.price_version,
        state.cached,
        state.latency_s,
        None if waiting else state.finished_at,
        state.request_hash or None,
    )


def _is_unknown(state: RowState) -> bool:
    """What the row used is not known: an answer without usage, or only calls that were never heard of again."""
    return state.usage_unknown or (state.lost > 0 and not state.answers)
