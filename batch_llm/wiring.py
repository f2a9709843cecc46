"""The only place that picks implementations.

Belongs here: turning settings, the providers file and a job into a store, a planner or an engine. Not here: any rule.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import cast

from batch_llm.clock import Clock, SystemClock
from batch_llm.config.providers_file import (
    api_key_of,
    headers_of,
)
from batch_llm.config.settings import IN_PROCESS, Settings
from batch_llm.engine.call_answers import judge_for
from batch_llm.engine.collector import rarely_collected
from batch_llm.engine.engine import Engine
from batch_llm.engine.events import Event, Listener
from batch_llm.engine.expected import first_length
from batch_llm.engine.learning import Learning, question_of
from batch_llm.engine.listening import Guard
from batch_llm.engine.parts import Calling, JobParts, OtherModel, ReadSpent
from batch_llm.engine.planning import Planner
from batch_llm.engine.pools import OpenPool, Pool, dearest
from batch_llm.engine.reparse import Reparser
from batch_llm.engine.vectors_aside import VectorsAside
from batch_llm.errors import ConfigurationError, JobFileError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.answer_index import AnswerIndex
from batch_llm.journal.base import RunRecord, RunStore
from batch_llm.journal.learned import LearnedFiles
from batch_llm.journal.retention import Retention
from batch_llm.journal.runs import LocalRunStore
from batch_llm.limiter.base import Budget, Limits, RateLimiter
from batch_llm.limiter.budget import Account, LedgerBudget, free_dead
from batch_llm.limiter.control import caps_of
from batch_llm.limiter.leasing import LeasingOptions, LeasingRateLimiter
from batch_llm.limiter.ledger import Ledger
from batch_llm.limiter.opening import limiter_store
from batch_llm.pricing import Price, PriceList
from batch_llm.providers.account import Account as ProviderAccount
from batch_llm.providers.base import AnyProvider, Provider
from batch_llm.providers.call_size import CallSize
from batch_llm.providers.images import ImageRules
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from batch_llm.providers.structured_output import StructureMode
from batch_llm.statement_costs import StatementCost
from batch_llm.targets import Target, job_targets, simulated, stored_targets, targets_of
from batch_llm.tokens import OutputLength, Tokens
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.duckdb import DuckDBWarehouse

__all__ = [
    "PacedPool",
    "PacedProvider",
    "Store",
    "answer_index",
    "engine",
    "open_store",
    "paced_provider",
    "planner",
    "reparser",
]

_log = logging.getLogger(__name__)
PARK_AFTER_S = 600.0  # a run that would wait longer for the limit of a day stops, to be resumed; its slot is free then


@dataclass(frozen=True, slots=True)
class Store:
    """What is stored in a home: output and frozen tables, run records, journals. Needs no key."""

    settings: Settings
    warehouse: Warehouse
    runs: RunStore
    learned: LearnedFiles


@dataclass(frozen=True, slots=True)
class PacedPool:
    """A pool that can be asked by calls that are no job."""

    name: str  # in its provider
    limits: Limits
    price: Price | None  # None: unknown
    provider: Provider
    limiter: RateLimiter
    endpoint: OpenAIEndpoint | None  # for the openai SDK, which sends by itself (paced_transport.py); None: it cannot


@dataclass(frozen=True, slots=True)
class PacedProvider:
    """A model's pools with everything that guards them, for assets that users write (resources/llm.py)."""

    pools: tuple[PacedPool, ...]  # at least one
    # opens a budget for calls under this name, of this user, that have cost so much before
    budget_of: Callable[[str, str, Decimal], AbstractAsyncContextManager[Budget]]
    budget_usd: Decimal | None
    price: Price | None  # the dearest pool's; None: one is unknown
    tokens: Tokens
    output_length: OutputLength
    model_name: str
    structure: StructureMode  # how it is told an answer's schema
    clock: Clock


def open_store(settings: Settings) -> Store:
    """The home's store; opens no file and no connection yet.

    Raises `ConfigurationError` for a journal that several machines share without a Redis that they share.
    """
    runs: RunStore
    warehouse = _warehouse(settings, lambda *noted: runs.note_statement(*noted))  # noqa: PLW0108  made below
    days = settings.retention_days
    retention = None if days is None else Retention(days, warehouse.forget)
    url = settings.journal_url
    runs = LocalRunStore(settings.runs_dir, retention) if url is None else _shared_runs(settings, url, retention)
    return Store(settings, warehouse, runs, LearnedFiles(settings.home / "learned"))


def _warehouse(settings: Settings, note: Callable[[str, StatementCost], None]) -> Warehouse:
    duckdb = DuckDBWarehouse(settings.duckdb_path, settings.runs_dir)
    dataset = settings.bigquery_dataset
    if dataset is None:
        return duckdb
    from batch_llm.warehouse import bigquery  # Google's client takes a second

    options = bigquery.Options.of(settings, partial(bigquery.reader_for, settings), note)
    client = partial(bigquery.client_for, settings)
    return bigquery.BigQueryWarehouse(client, dataset, settings.runs_dir, duckdb, options)


def _shared_runs(settings: Settings, url: str, retention: Retention | None) -> RunStore:
    from batch_llm.journal.object_store import ObjectStore  # its client takes 0.2 s to import
    from batch_llm.journal.redis_leases import RedisLeases
    from batch_llm.journal.shared_runs import SharedRunStore

    if settings.redis_url in (None, IN_PROCESS):
        raise ConfigurationError(
            f"BATCH_LLM_JOURNAL={url} is shared by machines, so which of them writes a journal is decided in a Redis "
            "that they share: set BATCH_LLM_REDIS_URL (redis://host:6379/0), or give a local folder"
        )
    leases = RedisLeases(str(settings.redis_url), url, settings.runs_dir)
    return SharedRunStore(ObjectStore(url), settings.runs_dir, leases, retention=retention)


def answer_index(settings: Settings, user: str, warn: Callable[[str], None]) -> AnswerIndex:
    """What a user's journals in this home hold already; opens no file yet. ``warn``: see `AnswerIndex`."""
    return AnswerIndex(settings.answers_path, user, warn)


def planner(settings: Settings, declared: DeclaredJob, *, clock: Clock | None = None) -> Planner:
    """Plans and starts a job without a key. Raises `ConfigurationError`."""
    targets = job_targets(settings, declared)
    parts = _job_parts(settings, declared, targets, clock or SystemClock())
    return Planner(parts, judge_for(_keyless(targets[0], declared), parts.schema))


def reparser(settings: Settings, declared: DeclaredJob, *, clock: Clock | None = None) -> Reparser:
    """Judges a job's stored answers again, without a key. Raises `ConfigurationError`."""
    targets = job_targets(settings, declared)
    parts = _job_parts(settings, declared, targets, clock or SystemClock())
    return Reparser(parts, judge_for(_keyless(targets[0], declared), parts.schema))


@asynccontextmanager
async def engine(
    settings: Settings,
    declared: DeclaredJob,
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
    is_guest: bool = False,
) -> AsyncIterator[Engine]:
    """An engine that may spend: every pool of the job's model, and of those in `fallback`, is open.

    ``is_guest``: the process is somebody else's, whose garbage is collected as ever; one of our own is slowed by that.
    Raises `SecretError` when a pool's key is not set, before anything else happens.
    """
    tell = Guard(listener or _nobody)
    time = clock or SystemClock()
    targets = job_targets(settings, declared)
    parts = _job_parts(settings, declared, targets, time)
    job = declared.job
    others = [job_targets(settings, declared.asking(model)) for model in job.fallback]
    async with AsyncExitStack() as stack:
        every = [target for model in (targets, *others) for target in model]
        called = await stack.enter_async_context(_calling(settings, every, time, PARK_AFTER_S))
        opened = []
        for target, to in zip(every, called, strict=True):
            opening = _provider(target, to.account, is_embedding=job.is_embedding)
            opened.append((cast("AnyProvider", await stack.enter_async_context(opening)), to.limiter))
        left = iter(opened)
        pools, *fallbacks = [
            tuple(OpenPool(pool, *next(left)) for pool in model.pools) for model in (parts, *parts.fallbacks)
        ]

        def account_of(record: RunRecord) -> Account:
            return Account(record.run_id, job.user, job.budget_usd)

        def budget_of(record: RunRecord, read_spent: ReadSpent) -> LedgerBudget:
            return LedgerBudget(called[0].ledger, account_of(record), read_spent, time)

        def free(record: RunRecord, read_spent: ReadSpent, alone_at_s: float) -> Awaitable[None]:
            return free_dead(called[0].ledger, account_of(record), read_spent, time, alone_at_s=alone_at_s)

        if parts.answers is not None:
            stack.callback(parts.answers.close)
        stack.callback(parts.aside.close)
        if not is_guest:
            stack.enter_context(rarely_collected())
        yield Engine(parts, Calling(pools, budget_of, tell, free, tuple(fallbacks)))


@asynccontextmanager
async def paced_provider(
    settings: Settings, model: str, *, budget_usd: Decimal | None = None, clock: Clock | None = None
) -> AsyncIterator[PacedProvider]:
    """All pools of a model behind the same limiters, for calls that are no job. ``model``: provider name / model."""
    time = clock or SystemClock()
    targets = targets_of(settings, model)
    async with AsyncExitStack() as stack:
        called = await stack.enter_async_context(_calling(settings, targets, time))
        pools = [await _paced_pool(stack, target, to) for target, to in zip(targets, called, strict=True)]
        priced = [Pool(pool.name, pool.limits, pool.price) for pool in pools]

        def budget_of(name: str, user: str, spent_usd: Decimal) -> LedgerBudget:
            async def read_spent(but_for: AbstractSet[int]) -> Mapping[int, Decimal]:
                return {} if but_for else {0: spent_usd}

            return LedgerBudget(called[0].ledger, Account(name, user, budget_usd), read_spent, time)

        model_name, structure = targets[0].model_name, targets[0].structure
        length, tokens = OutputLength(), Tokens(targets[0].counted_as)
        yield PacedProvider(
            tuple(pools), budget_of, budget_usd, dearest(priced), tokens, length, model_name, structure, time
        )


async def _paced_pool(stack: AsyncExitStack, target: Target, to: _Called) -> PacedPool:
    provider = await stack.enter_async_context(target.kind.chat(to.account))
    endpoint_of = target.kind.openai_endpoint
    endpoint = None if endpoint_of is None else endpoint_of(to.account)
    return PacedPool(target.pool.name, target.limits, _price(target), provider, to.limiter, endpoint)


def _job_parts(settings: Settings, declared: DeclaredJob, targets: Sequence[Target], clock: Clock) -> JobParts:
    store = open_store(settings)
    job, target = declared.job, targets[0]
    price_of = _embedding_price if job.is_embedding else _price
    if job.input.table is None:
        raise ConfigurationError("this job watches tables and names none itself; give `input.table` to run it by hand")
    learning = Learning(store.learned, question_of(declared), clock)
    known = learning.known.both
    tokens = Tokens(target.counted_as, known.prompts)
    most = job.params.declared_cap
    output_length = OutputLength(most, first_tokens=first_length(declared, tokens), known=known.answers)
    learning.listen(tokens, output_length)
    return JobParts(
        declared=declared,
        source=declared.resolve(job.input.table),
        output=declared.resolve(job.output.table),
        pools=tuple(Pool(each.pool.name, each.limits, price_of(each), _call_size(each)) for each in targets),
        tokens=tokens,
        output_length=output_length,
        learning=learning,
        warehouse=store.warehouse,
        runs=store.runs,
        clock=clock,
        answers=None if job.cache == "off" else answer_index(settings, job.user, _log.warning),
        structure=target.structure,
        context_tokens=None if job.is_embedding else _least(map(_context_tokens, targets)),
        most_output_tokens=_most(each.pool.max_output_tokens for each in targets),
        image_rules=_image_rules(targets),
        aside=VectorsAside(settings.home / "tmp"),
        as_declared=_as_declared(settings, clock),
        caps=partial(caps_of, settings, job.user, clock),
    )


def _as_declared(settings: Settings, clock: Clock) -> Callable[[DeclaredJob], OtherModel]:
    """Makes the parts of a job that was declared otherwise, whose answers are stored: of its own model and prices.

    Raises `ConfigurationError` for one whose provider is not in the providers file any more.
    """

    def as_declared(declared: DeclaredJob) -> OtherModel:
        try:
            targets = stored_targets(settings, declared)
        except JobFileError as error:
            raise ConfigurationError(
                f"rows of job {declared.job.name} were answered by {declared.job.model}, and what it said can be read "
                f"only while its provider is in the providers file: {error}"
            ) from error
        parts = _job_parts(settings, declared, targets, clock)
        return OtherModel(parts, judge_for(_keyless(targets[0], declared), parts.schema))

    return as_declared


@dataclass(frozen=True, slots=True)
class _Called:
    """Where calls go, and what guards them."""

    account: ProviderAccount
    limiter: RateLimiter
    ledger: Ledger


@asynccontextmanager
async def _calling(
    settings: Settings, targets: Sequence[Target], clock: Clock, park_after_s: float | None = None
) -> AsyncIterator[list[_Called]]:
    """Every target with what guards its calls, in their order."""
    keys = [api_key_of(target.provider_name, target.provider, target.pool, os.environ) for target in targets]
    called = []
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(limiter_store(settings.redis_url, settings.home, clock))
        ledger = store.ledger()
        for target, api_key in zip(targets, keys, strict=True):
            base_url = await stack.enter_async_context(simulated(target, clock)) if target.is_simulated_here else None
            options = LeasingOptions(park_after_s=park_after_s, headers=headers_of(target.provider, target.pool))
            limits = target.limits
            limiter = LeasingRateLimiter(limits, store.schedule(limits), clock, options)
            account = target.account(api_key, base_url)
            called.append(_Called(account, await stack.enter_async_context(limiter), ledger))
        yield called


def _keyless(target: Target, declared: DeclaredJob) -> AnyProvider:
    """A provider that only reads stored answers."""
    return _provider(target, target.account(), is_embedding=declared.job.is_embedding)


def _provider(target: Target, account: ProviderAccount, *, is_embedding: bool) -> AnyProvider:
    if not is_embedding:
        return target.kind.chat(account)
    if target.kind.embeddings is None:
        raise ConfigurationError(f"provider {target.provider_name!r} (kind {target.kind.name}) has no embeddings")
    return target.kind.embeddings(account)


def _price(target: Target) -> Price | None:
    return PriceList().for_model(target.price_list, target.model_name, target.pool.prices)


def _embedding_price(target: Target) -> Price | None:
    return PriceList().for_embeddings(target.price_list, target.model_name, target.pool.prices)


def _call_size(target: Target) -> CallSize:
    return target.kind.call_size(target.account(), target.model_name)


def _image_rules(targets: Sequence[Target]) -> ImageRules | None:
    """What holds whichever pool a row goes to."""
    rules, *others = (target.kind.image_rules(target.account(), target.model_name) for target in targets)
    for other in others:
        rules = None if rules is None or other is None else rules.and_at(other)
    return rules


def _context_tokens(target: Target) -> int | None:
    """What its models read at once: the file's word, else the price list's."""
    return target.pool.context_tokens or PriceList().context_tokens(target.price_list, target.model_name)


def _least(known: Iterable[int | None]) -> int | None:
    """The smallest of what is known: what holds whichever pool a row goes to."""
    return min((one for one in known if one is not None), default=None)


def _most(known: Iterable[int | None]) -> int | None:
    """The largest; None when one is not known: what a budget sets aside must do for each."""
    every = list(known)
    return None if None in every else max(one for one in every if one is not None)


def _nobody(event: Event) -> None:
    """A listener that listens to nothing."""
