"""What the engine is made of: protocols and the job, put together by wiring.py.

Belongs here: the record and the few names every engine module needs. Not here: choosing implementations (wiring.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import orjson
import pyarrow as pa

from batch_llm.clock import Clock
from batch_llm.engine.events import Event, Listener
from batch_llm.engine.learning import Learning
from batch_llm.job.load import DeclaredJob
from batch_llm.job.schema import AnswerSchema
from batch_llm.job.template import RenderError
from batch_llm.journal.base import RunRecord, RunStore
from batch_llm.limiter.base import Budget, Cost, Limits, RateLimiter, Tenant
from batch_llm.pricing import Price
from batch_llm.providers.base import Message, Provider, Request
from batch_llm.tokens import OutputLength, Tokens
from batch_llm.warehouse.base import LLM_SCHEMA, FrozenInput, SliceInfo, Warehouse

__all__ = ["Calling", "JobParts", "ReadSpent", "frozen_input", "prompt_bytes", "python_rows", "request_hash"]

LANE = "standard"

ReadSpent = Callable[[AbstractSet[int]], Awaitable[Mapping[int, Decimal]]]
"""Reads from the journals what each slice of a run has cost, but for the slices named."""


@dataclass(frozen=True)
class JobParts:
    """A declared job with everything that is needed to plan it; no key."""

    declared: DeclaredJob
    source: str  # a warehouse table, or an absolute path or glob
    output: str  # a warehouse table, or an absolute .parquet path
    limits: Limits
    price: Price | None
    tokens: Tokens
    output_length: OutputLength
    learning: Learning
    warehouse: Warehouse
    runs: RunStore
    clock: Clock
    context_tokens: int | None = None  # prompt and answer together; None: not known
    most_output_tokens: int | None = None  # of one answer, by the pool; None: not known

    @property
    def schema(self) -> AnswerSchema:
        """The shape of the answers."""
        return self.declared.answer

    @property
    def key(self) -> tuple[str, ...]:
        """The key columns."""
        return tuple(self.declared.job.input.key)

    @property
    def columns(self) -> tuple[str, ...]:
        """Key, kept and prompted columns, without repeats: what is frozen."""
        return tuple(dict.fromkeys([*self.passed_columns, *sorted(self.declared.prompt.columns)]))

    @property
    def asked_columns(self) -> tuple[str, ...]:
        """Key and prompted columns, without repeats: what a request is made of."""
        return tuple(dict.fromkeys([*self.key, *sorted(self.declared.prompt.columns)]))

    @property
    def passed_columns(self) -> tuple[str, ...]:
        """Key and kept columns, without repeats: what the output takes from the input."""
        return tuple(dict.fromkeys([*self.declared.job.input.key, *self.declared.job.output.keep]))

    @property
    def params(self) -> dict[str, Any]:
        """The sampling parameters that were given."""
        return self.declared.job.params.model_dump(exclude_none=True)

    @property
    def tenant(self) -> Tenant:
        """On whose behalf the rows are asked."""
        job = self.declared.job
        return Tenant(job.user, job.name, job.weight, job.priority)

    @property
    def paid_at(self) -> dict[str, str]:
        """What the journal notes beside an answer: who gave it, at which price list."""
        job, price = self.declared.job, self.price
        noted = {"provider": job.provider_name, "model": job.model_name}
        return noted if price is None else {**noted, "price_version": price.version}

    @cached_property
    def schema_tokens(self) -> int:
        """The answer's schema is billed with every request."""
        schema = self.schema.json_schema
        return 0 if schema is None else self.tokens.count(orjson.dumps(schema).decode())

    def predicted_cost(self, request: Request) -> Cost:
        """What a request will take, counted or predicted. 0.2 ms per 2 kB where counts are exact: call in a thread."""
        given = self.tokens.count_chat([message.content for message in request.messages]) + self.schema_tokens
        cap = self.declared.job.params.max_output_tokens
        predicted = self.output_length.predicted()
        return Cost(given, min(predicted, cap) if cap else predicted, cap)

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """The output table's columns: key, kept, answer, llm_*."""
        passed = [input_schema.field(name).with_nullable(True) for name in self.passed_columns]
        return pa.schema([*passed, *self.schema.arrow_fields, *LLM_SCHEMA])

    def request(self, row: Mapping[str, Any], custom_id: str) -> Request:
        """The request for one row. Raises `RenderError` when it cannot be rendered."""
        messages = tuple(Message(part.role, part.content) for part in self.declared.prompt.render(row))
        try:
            for message in messages:
                message.content.encode()
        except UnicodeEncodeError:
            raise RenderError("the prompt made from this row holds half a character (a lone surrogate)") from None
        return Request(custom_id, self.declared.job.model_name, messages, self.params, self.schema.json_schema)


@dataclass(frozen=True, slots=True)
class Calling:
    """What is needed to spend: the provider, the limit, the money, somebody to tell."""

    provider: Provider
    limiter: RateLimiter
    budget_of: Callable[[RunRecord, ReadSpent], AbstractAsyncContextManager[Budget]]  # opens the run's budget
    listener: Listener

    def tell(self, event: Event) -> None:
        """Hand an event to the listener."""
        self.listener(event)


def prompt_bytes(request: Request) -> int:
    """UTF-8 bytes of everything a provider bills as input; no tokenizer makes more tokens of it, framing aside."""
    schema = b"" if request.json_schema is None else orjson.dumps(request.json_schema)
    return sum(len(message.content.encode("utf-8", "replace")) for message in request.messages) + len(schema)


def request_hash(request: Request, model: str) -> str:
    """Decides whether a row is done: rendered messages, model (with provider), params, schema. 32 hex digits."""
    said: Sequence[Any] = [
        [[message.role, message.content] for message in request.messages],
        model,
        dict(request.params),
        request.json_schema,
    ]
    return hashlib.blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def python_rows(batch: pa.RecordBatch, columns: Sequence[str]) -> list[dict[str, Any] | None]:
    """The rows of some columns; None for a row with a value that Python cannot hold."""
    chosen = batch.select(list(columns))
    try:
        return list(chosen.to_pylist())
    except (OverflowError, ValueError):
        return [_python_row(chosen.slice(row, 1)) for row in range(chosen.num_rows)]


def _python_row(row: pa.RecordBatch) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = row.to_pylist()[0]
    except (OverflowError, ValueError):
        return None
    return values


def frozen_input(record: RunRecord) -> FrozenInput:
    """The frozen input a run record stands for."""
    slices = tuple(SliceInfo(number, rows) for number, rows in enumerate(record.slice_rows))
    return FrozenInput(record.run_id, record.source, record.input_version, record.key, record.columns, slices)
