"""What the engine is made of: protocols and the job, put together by wiring.py.

Belongs here: the record and the few names every engine module needs. Not here: choosing implementations (wiring.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache, cached_property, partial
from typing import Any

import orjson
import pyarrow as pa

from batch_llm.clock import Clock
from batch_llm.engine.answerers import POOL, PRICE_VERSION, Answerer, Answerers
from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.events import FirstFailure
from batch_llm.engine.images import ImageColumns
from batch_llm.engine.learning import Learning
from batch_llm.engine.listening import Guard
from batch_llm.engine.packing import CallBounds
from batch_llm.engine.pools import OpenPool, Pool, dearest, joint_limits, prices_by_pool
from batch_llm.engine.prices import NotedPrices
from batch_llm.engine.vectors_aside import VectorsAside
from batch_llm.errors import ConfigurationError
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.job.load import DeclaredJob
from batch_llm.job.schema import AnswerSchema
from batch_llm.job.template import RenderError
from batch_llm.journal.answer_index import AnswerIndex
from batch_llm.journal.base import RunRecord, RunStore
from batch_llm.limiter.base import Budget, Cost, Limits, Tenant
from batch_llm.pricing import Price
from batch_llm.providers.base import Message, Request
from batch_llm.providers.images import ImageRules
from batch_llm.providers.structured_output import StructureMode, billed_text
from batch_llm.tokens import OutputLength, Tokens
from batch_llm.warehouse.base import LLM_SCHEMA, FrozenInput, SliceInfo, Warehouse

__all__ = [
    "Calling",
    "JobParts",
    "OtherModel",
    "ReadSpent",
    "frozen_input",
    "python_rows",
    "request_hash",
    "with_max_tokens",
]

LANE = "standard"

ReadSpent = Callable[[AbstractSet[int]], Awaitable[Mapping[int, Decimal]]]
"""Reads from the journals what each slice of a run has cost, but for the slices named."""


def _unknown(declared: DeclaredJob) -> OtherModel:
    raise ConfigurationError(f"nothing is known of the model {declared.job.model}")


@dataclass(frozen=True)
class JobParts:
    """A declared job with everything that is needed to plan it; no key."""

    declared: DeclaredJob
    source: str  # a warehouse table, or an absolute path or glob
    output: str  # a warehouse table, or an absolute .parquet path
    pools: tuple[Pool, ...]  # that answer the job's model; at least one
    tokens: Tokens
    output_length: OutputLength
    learning: Learning
    warehouse: Warehouse
    runs: RunStore
    clock: Clock
    aside: VectorsAside
    answers: AnswerIndex | None = None  # of the job's user; None: nothing is used again (`cache: off`)
    structure: StructureMode = StructureMode.JSON_SCHEMA  # how the endpoint is told the answer's schema
    context_tokens: int | None = None  # prompt and answer together; None: not known
    most_output_tokens: int | None = None  # of one answer, by the pool; None: not known
    image_rules: ImageRules | None = None  # what the provider takes of them; None: none
    # the job as it was declared, or as if it named another model; raises `ConfigurationError` when nobody knows that
    as_declared: Callable[[DeclaredJob], OtherModel] = field(default=_unknown)
    # that bind the job's user, beside budget_usd, as `Ledger.set_caps` calls them; blocking
    caps: Callable[[], tuple[str, ...]] = field(default=tuple)

    @cached_property
    def limits(self) -> Limits:
        """What all pools allow together."""
        return joint_limits(self.pools)

    @cached_property
    def price(self) -> Price | None:
        """Of several pools the dearest one's: what is planned with. None when one is unknown."""
        return dearest(self.pools)

    @cached_property
    def prices(self) -> Mapping[str, Price | None]:
        """Each pool's price by its name; empty where `price` is that of every answer."""
        return prices_by_pool(self.pools)

    @cached_property
    def fallbacks(self) -> tuple[JobParts, ...]:
        """The same job as if it named each model of `fallback`, in their order."""
        return tuple(self._other_model(model).parts for model in self.declared.job.fallback)

    def answerers(self, judge: AnyJudge, of: RunRecord | None = None) -> Answerers:
        """Who may have given a stored answer, at which prices.

        ``judge`` reads those of the job's own model; ``of``: the run that paid them, where it matters what they cost.
        """
        noted = NotedPrices({}, dict) if of is None else NotedPrices(of.prices, lambda: self.runs.get(of.run_id).prices)
        return Answerers(self._answerer(judge, noted), lambda model: self._other_answerer(model, noted))

    def _answerer(self, judge: AnyJudge, noted: NotedPrices) -> Answerer:
        job = self.declared.job
        noted_of_it = partial(noted.find, job.model)
        return Answerer(job.provider_name, job.model_name, judge, self.price, self.prices, noted_of_it)

    @cached_property
    def _other_model(self) -> Callable[[str], OtherModel]:
        """Finds a model that answers for the job's own, or once did, provider/model; each is made once."""
        return cache(lambda model: self.as_declared(self.declared.asking(model)))

    def _other_answerer(self, model: str, noted: NotedPrices) -> Answerer:
        other = self._other_model(model)
        return other.parts._answerer(other.judge.for_schema(self.schema), noted)

    @cached_property
    def schema(self) -> AnswerSchema:
        """The shape of the answers."""
        return self.declared.answer

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The key columns."""
        return tuple(self.declared.job.input.key)

    @property
    def columns(self) -> tuple[str, ...]:
        """Key, kept, prompted and image columns, without repeats: what is frozen."""
        return tuple(dict.fromkeys([*self.passed_columns, *self.asked_columns]))

    @cached_property
    def asked_columns(self) -> tuple[str, ...]:
        """Key, prompted and image columns, without repeats: what a request is made of."""
        return tuple(dict.fromkeys([*self.key, *sorted(self.declared.prompt.columns), *self.declared.job.images]))

    @cached_property
    def _images(self) -> ImageColumns | None:
        names = self.declared.job.images
        return ImageColumns(names, self.declared.directory, self.image_rules) if names and self.image_rules else None

    @cached_property
    def passed_columns(self) -> tuple[str, ...]:
        """Key and kept columns, without repeats: what the output takes from the input."""
        return tuple(dict.fromkeys([*self.declared.job.input.key, *self.declared.job.output.keep]))

    @cached_property
    def params(self) -> dict[str, Any]:
        """The sampling parameters that were given. A learned cap is none of them: it asks nothing else (`with_cap`)."""
        learned = {"max_output_tokens"} if self.declared.job.params.learns_cap else None
        return self.declared.job.params.model_dump(exclude_none=True, exclude=learned)

    @cached_property
    def tenant(self) -> Tenant:
        """On whose behalf the rows are asked."""
        job = self.declared.job
        return Tenant(job.user, job.name, job.weight, job.priority)

    def paid_at(self, pool: Pool) -> dict[str, str]:
        """What the journal notes beside an answer of this pool: who gave it, at which price list."""
        job, price = self.declared.job, pool.price
        noted = {"provider": job.provider_name, "model": job.model_name, POOL: pool.name}
        return noted if price is None else {**noted, PRICE_VERSION: price.version}

    @cached_property
    def _structure_text(self) -> str:
        """The answer's schema is billed with every request, in whichever form the endpoint is told of it."""
        return billed_text(self.schema.json_schema, self.structure)

    @cached_property
    def schema_tokens(self) -> int:
        """What telling the endpoint of the answer's schema takes of every request."""
        return self.tokens.count(self._structure_text)

    @cached_property
    def schema_bytes(self) -> int:
        """The same in bytes."""
        return len(self._structure_text.encode())

    def predicted_cost(self, request: Request) -> Cost:
        """What a request will take, counted or predicted. 0.2 ms per 2 kB where counts are exact: call in a thread.

        Of an embedding job: what this row takes of the call that asks it.
        """
        if self.declared.job.is_embedding:
            return Cost(sum(self.tokens.count(message.content) for message in request.messages), 0)
        given = self.tokens.count_chat([message.content for message in request.messages]) + self.schema_tokens
        given += self.image_tokens(request)
        cap = request.params.get("max_output_tokens")
        predicted = self.output_length.predicted()
        return Cost(given, min(predicted, cap) if cap else predicted, cap)

    def image_tokens(self, request: Request) -> int:
        """What its images are billed as; the most that they can be, where that cannot be known."""
        rules, model = self.image_rules, request.model
        if rules is None or self._images is None:
            return 0
        return sum(rules.tokens(model, image) for image in request.images)

    def image_bytes(self, request: Request) -> int:
        """What its images take in memory."""
        return 0 if self._images is None else sum(len(image.data) for image in request.images)

    def input_bytes(self, request: Request) -> int:
        """UTF-8 bytes of all text that is billed as input; no tokenizer makes more tokens of it, framing aside."""
        texts = (message.content for message in request.messages)
        return self.schema_bytes + sum(len(text.encode("utf-8", "replace")) for text in texts)

    def with_cap(self, request: Request, bad_answers: int = 0) -> Request:
        """The request as it is sent: with the learned cap in force, where the job wants one.

        After the request's hash was taken, before its cost is predicted. ``bad_answers``: of this row, paid before:
        such a row goes without a cap, which may be what spoiled them.
        """
        cap = self.output_length.cap() if self.declared.job.params.learns_cap and not bad_answers else None
        return request if cap is None else with_max_tokens(request, cap)

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """The output table's columns: key, kept, answer, llm_*."""
        passed = [input_schema.field(name).with_nullable(True) for name in self.passed_columns]
        return pa.schema([*passed, *self.schema.arrow_fields, *LLM_SCHEMA])

    @property
    def call_bounds(self) -> CallBounds | None:
        """How large a call for many rows may be; None where each row has a call of its own."""
        schema = self.schema
        if not isinstance(schema, EmbeddingAnswer):
            return None
        exact, size = self.tokens.exact, schema.dimensions
        return CallBounds.least(
            [CallBounds.of(pool.limits, size, exact=exact, size=pool.call_size) for pool in self.pools]
        )

    def request(self, row: Mapping[str, Any], custom_id: str) -> Request:
        """The request for one row, its images read. Raises `RenderError` when it cannot be made. Blocking.

        Of an embedding job its one message is the text to embed, which a call for many rows takes over.
        """
        messages = tuple(Message(part.role, part.content) for part in self.declared.prompt.render(row))
        try:
            for message in messages:
                message.content.encode()
        except UnicodeEncodeError:
            raise RenderError("the prompt made from this row holds half a character (a lone surrogate)") from None
        if self.declared.job.is_embedding and not messages[-1].content:
            raise RenderError("the text made from this row is empty: there is nothing to embed")
        if self._images is not None:
            messages = (*messages[:-1], replace(messages[-1], images=self._images.read(row)))
        return Request(custom_id, self.declared.job.model_name, messages, self.params, self.schema.json_schema)


@dataclass(frozen=True, slots=True)
class OtherModel:
    """The job as if it named another model, or as it once was declared."""

    parts: JobParts
    judge: AnyJudge  # of the answers to it


@dataclass(frozen=True, slots=True)
class Calling:
    """What is needed to spend: the pools with their limiters, the money, somebody to tell."""

    pools: tuple[OpenPool, ...]  # as `JobParts.pools`
    budget_of: Callable[[RunRecord, ReadSpent], AbstractAsyncContextManager[Budget]]  # opens the run's budget
    tell: Guard  # hands an event to the listener; a defect of that is no fault of the row it tells about
    # ends what dead processes hold of its money; on the clock, a moment before nobody worked on it
    free_dead: Callable[[RunRecord, ReadSpent, float], Awaitable[None]]
    fallbacks: tuple[tuple[OpenPool, ...], ...] = ()  # the pools of each of `JobParts.fallbacks`
    failures_told: set[str] = field(default_factory=set)  # classes

    def tell_first(self, failure: FirstFailure) -> None:
        """Tell of a row that failed, if none did with this class before; of a call or without one."""
        if failure.error_class not in self.failures_told:
            self.failures_told.add(failure.error_class)
            self.tell(failure)


def with_max_tokens(request: Request, cap: int | None) -> Request:
    """The same request under another cap, tokens; None: without one."""
    params = {name: value for name, value in request.params.items() if name != "max_output_tokens"}
    return replace(request, params=params if cap is None else {**params, "max_output_tokens": cap})


def request_hash(request: Request, model: str) -> str:
    """Decides whether a row is done: rendered messages, images, model (with provider), params, schema. 32 hex digits.

    Of an image its content, or its address where that is all there is.
    """
    said: Sequence[Any] = [
        [[message.role, message.content, *(image.digest for image in message.images)] for message in request.messages],
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
