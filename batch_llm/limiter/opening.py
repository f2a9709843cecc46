"""Where limits and budgets are kept, as the settings say: opening it, and finding it when somebody else has.

Belongs here: choosing and opening the store of schedules and the ledger. Not here: what they do (redis_schedule.py,
redis_ledger.py and their twins in this process), starting a Redis (private_redis.py), what is made of them (wiring.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from batch_llm.clock import Clock, SystemClock
from batch_llm.config.settings import IN_PROCESS
from batch_llm.errors import ConfigurationError, LimiterError, LimiterUnreachable
from batch_llm.limiter.base import Limits, Schedule
from batch_llm.limiter.in_process_ledger import InProcessLedger
from batch_llm.limiter.in_process_schedule import InProcessSchedule
from batch_llm.limiter.ledger import Ledger
from batch_llm.limiter.private_redis import private_redis, private_redis_url
from batch_llm.limiter.redis_ledger import RedisLedger
from batch_llm.limiter.redis_link import RedisLink, load_script
from batch_llm.limiter.redis_schedule import RedisSchedule

__all__ = ["LimiterStore", "limiter_store", "running_store", "try_out"]

PATIENCE_S: Final = 10.0  # a Redis that is being restarted is waited for
RETRY_S: Final = 0.5
PRIVATE: Final = "the home's private Redis"
PROBE: Final = load_script("probe", ["probe"])


class LimiterStore(Protocol):
    """The place that holds the pools' schedules and the ledger. What it hands out ends with it."""

    @property
    def where(self) -> str:
        """What people call the place; without a password."""
        ...

    def schedule(self, limits: Limits) -> Schedule:
        """The schedule of this pool; all who ask for it at this place share it."""
        ...

    def ledger(self) -> Ledger:
        """The ledger of money."""
        ...


@asynccontextmanager
async def limiter_store(redis_url: str | None, home: Path, clock: Clock | None = None) -> AsyncIterator[LimiterStore]:
    """Open the store while the body runs, and see that it answers.

    Args:
        redis_url: `Settings.redis_url`. None: the home's private Redis, started if nobody has.
        home: The home, for its private Redis.
        clock: Redis has its own time, so with any but a `SystemClock` the limits are kept in this process.

    Raises:
        ConfigurationError: The store cannot be opened; nothing was spent.
    """
    clock = SystemClock() if clock is None else clock
    if redis_url == IN_PROCESS or not isinstance(clock, SystemClock):
        yield _in_process(home, clock)
        return
    async with AsyncExitStack() as stack:
        try:
            url, place = redis_url, None
            if url is None:
                url, place = await stack.enter_async_context(private_redis(home, _settle)), PRIVATE
            store = await stack.enter_async_context(_redis_store(url, place))
            await store.until_it_answers(PATIENCE_S)
        except LimiterUnreachable as error:
            raise ConfigurationError(f"{error}; waited {PATIENCE_S:g} s for it. Nothing was spent") from error
        except LimiterError as error:
            raise ConfigurationError(f"{error}. Nothing was spent") from error
        yield store


@asynccontextmanager
async def running_store(redis_url: str | None, home: Path) -> AsyncIterator[LimiterStore | None]:
    """The store as it is now, to look into it; None when it is the home's private Redis and nobody has started it.

    Nothing is started, written or kept running by looking.
    """
    if redis_url == IN_PROCESS:
        yield _in_process(home, SystemClock())
        return
    url = redis_url or private_redis_url(home)
    if url is None:
        yield None
        return
    async with _redis_store(url, PRIVATE if redis_url is None else None) as store:
        yield store


async def try_out(link: RedisLink) -> None:
    """See that a server answers and can hold the limits: that it is new enough and takes what is written.

    Raises:
        LimiterUnreachable: It does not answer.
        LimiterStoreError: It answers with an error, or is older than Redis 6.2.
    """
    await link.run(PROBE, ["batch_llm:probe"], None)


class _InProcessStore:
    """Limits and money shared by what runs in this process, in any of its threads."""

    where = "this process only (memory://)"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._schedules: dict[str, InProcessSchedule] = {}
        self._ledger = InProcessLedger(clock)

    def schedule(self, limits: Limits) -> InProcessSchedule:
        return self._schedules.setdefault(limits.pool, InProcessSchedule(self._clock))

    def ledger(self) -> InProcessLedger:
        return self._ledger


_SYSTEM_CLOCK: Final = SystemClock()
# as long as the process lives: a second engine in it must not begin with a limit of its own
_STORES: Final[dict[tuple[str, Clock], _InProcessStore]] = {}


def _in_process(home: Path, clock: Clock) -> _InProcessStore:
    clock = _SYSTEM_CLOCK if isinstance(clock, SystemClock) else clock
    return _STORES.setdefault(
        (str(home.absolute()), clock), _InProcessStore(clock)
    )  # one step, whatever other threads do


class _RedisStore:
    """Limits and money in one Redis; each schedule and the ledger have a connection of their own."""

    def __init__(self, url: str, place: str | None, stack: AsyncExitStack) -> None:
        """``stack`` closes what is handed out."""
        self._url = url
        self._stack = stack
        self.where = place or RedisLink(url).place

    def schedule(self, limits: Limits) -> RedisSchedule:
        return RedisSchedule(self._link(), limits.pool)

    def ledger(self) -> RedisLedger:
        return RedisLedger(self._link())

    async def until_it_answers(self, patience_s: float) -> None:
        """Return when the server answers and can hold the limits; raises as `try_out` when it does not."""
        link = self._link()
        end_s = time.monotonic() + patience_s
        while True:
            try:
                await try_out(link)
            except LimiterUnreachable:
                if time.monotonic() > end_s:
                    raise
            else:
                await link.aclose()
                return
            await asyncio.sleep(RETRY_S)

    def _link(self) -> RedisLink:
        link = RedisLink(self._url)
        self._stack.push_async_callback(link.aclose)
        return link


async def _settle(url: str) -> None:
    """Nobody else uses this Redis: its ledger has nobody to wait for."""
    async with _redis_store(url, PRIVATE) as store:
        await store.until_it_answers(PATIENCE_S)
        await store.ledger().settle_now()


@asynccontextmanager
async def _redis_store(url: str, place: str | None) -> AsyncIterator[_RedisStore]:
    async with AsyncExitStack() as stack:
        yield _RedisStore(url, place, stack)
