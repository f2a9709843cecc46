"""The only place that picks implementations.

Belongs here: turning settings, the providers file and a job into a store, a planner or an engine. Not here: any rule.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import SecretStr

from batch_llm.clock import Clock, SystemClock
from batch_llm.config.providers_file import PoolSpec, ProviderSpec, api_key_of, base_url_of, find_pool, load_providers
from batch_llm.config.settings import Settings
from batch_llm.engine.answers import Judge
from batch_llm.engine.engine import Engine
from batch_llm.engine.events import Event, Listener, Waiting
from batch_llm.engine.parts import Calling, JobParts
from batch_llm.engine.planning import Planner
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunStore
from batch_llm.journal.runs import LocalRunStore
from batch_llm.limiter.base import Budget, Limits, RateLimiter
from batch_llm.limiter.budget import LocalBudget
from batch_llm.limiter.in_process import InProcessRateLimiter
from batch_llm.limiter.turn import turn_to_call
from batch_llm.pricing import Price, PriceList
from batch_llm.providers.base import Provider
from batch_llm.providers.openai_chat import OpenAIChatProvider, OpenAIEndpoint
from batch_llm.tokens import OutputLength, Tokens
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.duckdb import DuckDBWarehouse

__all__ = ["PacedProvider", "Store", "engine", "open_store", "paced_provider", "planner"]

OPENAI_URL = "https://api.openai.com/v1"
SIMULATED_PREFIX = "simulator/"  # the simulator answers to no other model name
GUESSED_REQUESTS_PER_MINUTE = 60.0  # where limits are `unknown`, until the provider's headers say more
GUESSED_TOKENS_PER_MINUTE = 20_000.0


@dataclass(frozen=True, slots=True)
class Store:
    """What is stored in a home: output and frozen tables, run records, journals. Needs no key."""

    settings: Settings
    warehouse: Warehouse
    runs: RunStore


@dataclass(frozen=True, slots=True)
class PacedProvider:
    """A provider with everything that guards it, for assets that users write (resources/llm.py)."""

    provider: Provider
    limiter: RateLimiter
    budget: Budget
    price: Price | None
    tokens: Tokens
    output_length: OutputLength
    model_name: str
    endpoint: OpenAIEndpoint  # for the openai SDK, which sends by itself (paced_client.py)


def open_store(settings: Settings) -> Store:
    """The home's store; opens no file and no connection yet."""
    return Store(settings, DuckDBWarehouse(settings.duckdb_path, settings.runs_dir), LocalRunStore(settings.runs_dir))


def planner(settings: Settings, declared: DeclaredJob, *, clock: Clock | None = None) -> Planner:
    """Plans and starts a job without a key. Raises `ConfigurationError`."""
    target = _job_target(settings, declared)
    parts = _job_parts(settings, declared, target, clock or SystemClock())
    return Planner(parts, Judge(_keyless(target), parts.schema))


@asynccontextmanager
async def engine(
    settings: Settings,
    declared: DeclaredJob,
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> AsyncIterator[Engine]:
    """An engine that may spend: the provider is open and the home's turn to call is taken (waits for it).

    Raises `SecretError` when the provider's key is not set, before anything else happens.
    """
    tell: Listener = listener or _nobody
    time = clock or SystemClock()
    target = _job_target(settings, declared)
    parts = _job_parts(settings, declared, target, time)
    async with _calling(settings, target, time, on_wait or _waiting(tell)) as (provider, limiter):
        budget_usd = declared.job.budget_usd
        calling = Calling(provider, limiter, lambda spent: LocalBudget(budget_usd, spent), tell)
        yield Engine(parts, calling)


@asynccontextmanager
async def paced_provider(
    settings: Settings, model: str, *, budget_usd: Decimal | None = None, clock: Clock | None = None
) -> AsyncIterator[PacedProvider]:
    """A provider behind the same limiter, for calls that are no job. ``model``: provider name / model."""
    time = clock or SystemClock()
    target = _target(settings, model)
    async with _calling(settings, target, time, None) as (provider, limiter):
        yield PacedProvider(
            provider,
            limiter,
            LocalBudget(budget_usd, Decimal(0)),
            _price(target),
            Tokens(target.model_name),
            OutputLength(),
            target.model_name,
            provider.endpoint,
        )


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a model's requests go."""

    provider_name: str
    model_name: str
    provider: ProviderSpec
    pool: PoolSpec

    @property
    def pool_name(self) -> str:
        return f"{self.provider_name}:{self.pool.name}"


def _target(settings: Settings, model: str) -> _Target:
    provider_name, _, model_name = model.partition("/")
    provider, pool = find_pool(load_providers(settings.providers_path), provider_name, model_name)
    return _Target(provider_name, model_name, provider, pool)


def _job_target(settings: Settings, declared: DeclaredJob) -> _Target:
    provider, pool = declared.pool(load_providers(settings.providers_path))
    return _Target(declared.job.provider_name, declared.job.model_name, provider, pool)


def _job_parts(settings: Settings, declared: DeclaredJob, target: _Target, clock: Clock) -> JobParts:
    store = open_store(settings)
    job = declared.job
    if job.input.table is None:
        raise ConfigurationError("this job watches tables and names none itself; give `input.table` to run it by hand")
    return JobParts(
        declared=declared,
        source=declared.resolve(job.input.table),
        output=declared.resolve(job.output.table),
        limits=_limits(target),
        price=_price(target),
        tokens=Tokens(target.model_name),
        output_length=OutputLength(job.params.max_output_tokens),
        warehouse=store.warehouse,
        runs=store.runs,
        clock=clock,
    )


@asynccontextmanager
async def _calling(
    settings: Settings, target: _Target, clock: Clock, on_wait: Callable[[str], None] | None
) -> AsyncIterator[tuple[OpenAIChatProvider, RateLimiter]]:
    api_key = api_key_of(target.provider_name, target.provider, target.pool, os.environ)
    if target.provider.kind == "simulator":
        api_key = SecretStr("simulator")  # no secret: it takes any key but wants one, as the real service does
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turn_to_call(settings.home / "calls.lock", clock, on_wait))
        base_url = base_url_of(target.provider, target.pool)
        if target.provider.kind == "simulator" and base_url is None:
            base_url = await stack.enter_async_context(_simulated(target, clock))
        endpoint = OpenAIEndpoint(base_url or OPENAI_URL, api_key, _cap_parameter(target), _prefix(target))
        provider = await stack.enter_async_context(OpenAIChatProvider(target.provider_name, endpoint))
        limiter = InProcessRateLimiter(_limits(target), clock, _schedule_path(settings, target))
        stack.callback(limiter.close)
        yield provider, limiter


@asynccontextmanager
async def _simulated(target: _Target, clock: Clock) -> AsyncIterator[str]:
    """The provider simulator in this process, held to the pool's own limits."""
    from batch_llm.simulator import Simulator, SimulatorConfig

    limits = _limits(target)
    declared = {
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
        "debit": limits.debit,
        **({"burst_s": limits.burst_s} if limits.burst_s else {}),
        **(target.provider.simulator or {}),
    }
    config = SimulatorConfig.model_validate({name: value for name, value in declared.items() if value is not None})
    async with Simulator(config, clock=clock) as simulator:
        yield simulator.base_url


def _keyless(target: _Target) -> Provider:
    return OpenAIChatProvider(target.provider_name, OpenAIEndpoint(OPENAI_URL, None))


def _cap_parameter(target: _Target) -> str:
    return "max_completion_tokens" if target.provider.kind == "openai" else "max_tokens"


def _prefix(target: _Target) -> str:
    return SIMULATED_PREFIX if target.provider.kind == "simulator" else ""


def _limits(target: _Target) -> Limits:
    pool, declared = target.pool, target.pool.limits
    if declared == "unknown":
        return Limits(
            target.pool_name,
            requests_per_minute=GUESSED_REQUESTS_PER_MINUTE,
            tokens_per_minute=GUESSED_TOKENS_PER_MINUTE,
            burst_s=pool.burst_s,
            window_s=pool.window_s,
            debit=pool.debit,
            unknown=True,
        )
    return Limits(
        target.pool_name,
        requests_per_minute=declared.requests_per_minute,
        tokens_per_minute=declared.tokens_per_minute,
        input_tokens_per_minute=declared.input_tokens_per_minute,
        output_tokens_per_minute=declared.output_tokens_per_minute,
        max_concurrency=declared.max_concurrency,
        burst_s=pool.burst_s,
        window_s=pool.window_s,
        debit=pool.debit,
    )


def _price(target: _Target) -> Price | None:
    return PriceList().for_model(target.provider_name, target.model_name, target.pool.prices)


def _schedule_path(settings: Settings, target: _Target) -> Path:
    return settings.home / "limiter" / f"{target.provider_name}.{target.pool.name}.schedule"


def _waiting(tell: Listener) -> Callable[[str], None]:
    return lambda reason: tell(Waiting(reason))


def _nobody(event: Event) -> None:
    """A listener that listens to nothing."""
