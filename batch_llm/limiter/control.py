"""What people see of the limits and change of them, for every door.

Belongs here: looking at all pools and budgets at once, checking a change before it is made. Not here: printing
(cli/limits.py), what a change does (views.py and its twin in lua/, the ledger).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

from batch_llm.clock import Clock, SystemClock
from batch_llm.config.problems import did_you_mean
from batch_llm.config.providers_file import LimitsSpec, load_providers
from batch_llm.config.secrets import mask
from batch_llm.config.settings import IN_PROCESS, Settings
from batch_llm.errors import ConfigurationError, LimiterError, LimiterUnreachable
from batch_llm.limiter.base import Limits, PoolChange, PoolView
from batch_llm.limiter.declared import declared_limits, named_limits
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.ledger import ScopeView, caps_on
from batch_llm.limiter.opening import LimiterStore, limiter_store, running_store
from batch_llm.limiter.views import CHANGEABLE

__all__ = ["LimitsView", "caps_of", "change_caps", "change_pool", "look"]


@dataclass(frozen=True, slots=True)
class LimitsView:
    """Every pool and every budget, as everybody shares them."""

    where: str | None  # what keeps them; None: nothing does now, because nobody calls
    pools: tuple[PoolView, ...]
    budgets: tuple[ScopeView, ...]


async def look(settings: Settings, pool: str | None = None) -> LimitsView:
    """See the pools of the providers file (or one of them) and the budgets. Starts nothing, changes nothing.

    Raises:
        ConfigurationError: The providers file is wrong or has no such pool.
        LimiterError: The Redis of ``BATCH_LLM_REDIS_URL`` does not answer, or answers with an error.
    """
    file = load_providers(settings.providers_path)
    pools = declared_limits(file) if pool is None else [named_limits(file, pool)]
    async with running_store(settings.redis_url, settings.home) as store:
        try:
            return await _seen(store, pools)
        except LimiterUnreachable:
            if settings.redis_url is not None:
                raise
    return await _seen(None, pools)  # its last user has just stopped the private Redis


async def change_pool(settings: Settings, pool: str, change: PoolChange) -> LimitsView:
    """Change a pool for everybody, within a second, and see it then.

    Starts the home's private Redis, which keeps the change when nobody uses it any more.

    Raises:
        ConfigurationError: There is no such pool, it declares no such limit, a value makes no sense, or the store
            cannot be opened.
    """
    limits = named_limits(load_providers(settings.providers_path), pool)
    _check(limits, change)
    _check_shared(settings)
    async with limiter_store(settings.redis_url, settings.home) as store:
        try:
            await store.schedule(limits).change(limits, change)
            return await _seen(store, [limits])
        except LimiterError as error:
            raise ConfigurationError(str(error)) from error


async def change_caps(settings: Settings, caps: Mapping[str, Decimal | None]) -> LimitsView:
    """Set caps on what may be spent, for everybody, within a second, and see all budgets then.

    Keys and values are those of `Ledger.set_caps`. Starts the home's private Redis, as `change_pool` does.

    Raises:
        ConfigurationError: An amount cannot be a cap, or the store cannot be opened.
    """
    _check_shared(settings)
    async with limiter_store(settings.redis_url, settings.home) as store:
        try:
            await store.ledger().set_caps(caps)
            return await _seen(store, [])
        except LimiterError as error:
            raise ConfigurationError(str(error)) from error


def caps_of(settings: Settings, user: str, clock: Clock) -> tuple[str, ...]:
    """The caps on money that bind runs of a user, beside the runs' own; as `Ledger.set_caps` calls them.

    Blocking, in any thread. Opens the store as a run does, for a private Redis that nobody uses keeps caps as well.
    Raises `ConfigurationError`.
    """

    async def looked() -> tuple[str, ...]:
        async with limiter_store(settings.redis_url, settings.home, clock) as store:
            try:
                return caps_on(user, await store.ledger().view())
            except LimiterError as error:
                raise ConfigurationError(f"{error}. Nothing was spent") from error

    with ThreadPoolExecutor(1) as thread:  # the caller's may run a loop already
        return thread.submit(asyncio.run, looked()).result()


async def _seen(store: LimiterStore | None, pools: Sequence[Limits]) -> LimitsView:
    if store is None:
        idle = InProcessSchedule(SystemClock())
        return LimitsView(None, tuple([await idle.view(limits) for limits in pools]), ())
    views = [await store.schedule(limits).view(limits) for limits in pools]
    return LimitsView(store.where, tuple(views), await store.ledger().view())


def _check(limits: Limits, change: PoolChange) -> None:
    for name, value in change.limits.items():
        if name not in CHANGEABLE:
            advice = LimitsSpec.advice_for(name)
            hint = f"; {advice}" if advice else did_you_mean(name, CHANGEABLE)
            raise ConfigurationError(f"there is no limit {mask(name)} to change{hint} ({', '.join(CHANGEABLE)})")
        if getattr(limits, name) is None:
            declared = [each for each in CHANGEABLE if getattr(limits, each) is not None]
            raise ConfigurationError(
                f"the pool {limits.pool} declares no {name} (it declares {', '.join(declared) or 'none to change'}); "
                "add it to `limits` in the providers file first"
            )
        _check_positive(value, name)
    for user, weight in change.user_weights.items():
        _check_positive(weight, f"the weight of user {mask(user)}")


def _check_positive(value: float | None, what: str) -> None:
    if value is not None and not 0 < value < 1e12:
        raise ConfigurationError(f"{what} must be a number above 0, or `none` to take a change back, got {value:g}")


def _check_shared(settings: Settings) -> None:
    if settings.redis_url == IN_PROCESS:
        raise ConfigurationError(
            f"BATCH_LLM_REDIS_URL is {IN_PROCESS}: each process keeps its limits to itself, and none can be changed "
            "from outside; unset it, or give the URL of a Redis"
        )
