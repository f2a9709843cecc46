"""Which of a model's pools a call of a user's own code goes to: the one whose limit lets it go first.

Belongs here: the calls that wait, one task per pool that waits for that pool's limit, how each pool fares. Not here:
money, sending (paced_client.py, paced_transport.py), pacing (limiter), rows of jobs (engine/pipeline.py, which does the
same for them).

Calls that a pool waits for are listed by no other one, unless nothing else is left. The tasks live while calls wait.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from batch_llm.clock import Clock
from batch_llm.engine.meter import Meter
from batch_llm.engine.retry import RULES, Eases
from batch_llm.engine.window import Window
from batch_llm.errors import BatchLLMError, ErrorClass, NeverFits, ProviderError, QuotaExhausted, StopRun
from batch_llm.limiter.base import Cost, Reservation, Tenant
from batch_llm.wiring import PacedPool

__all__ = ["CallPools", "OpenCallPool"]

LISTED_MAX = 64  # calls shown to a limiter at once
CLOSED_LEAST_S = 1.0  # however soon a provider says that its quota is there again


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that waits for a limit."""

    cost: Cost
    granted: asyncio.Future[tuple[OpenCallPool, Reservation]]
    not_to: OpenCallPool | None = None  # where it failed: another one has it, while there is another
    fits_not: dict[str, NeverFits] = field(default_factory=dict)  # by pool


class OpenCallPool:
    """One pool, and how it fares."""

    def __init__(self, pool: PacedPool, clock: Clock, share: int) -> None:
        """``share``: so many pools share memory and open files."""
        self.pool = pool
        self.meter = Meter(clock)
        self.window = Window(pool.limits, self.meter, clock, state=pool.limiter.state, share=share)
        self.claim: list[_Waiting] = []  # what it waits for and no other one does
        self.closed: StopRun | None = None
        self._clock = clock
        self._closed_until_s = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether it is asked at all."""
        return self._clock.monotonic() >= self._closed_until_s

    @property
    def room(self) -> int:
        """How many more calls may be in flight there."""
        return self.window.size() - self.meter.in_flight if self.is_open else 0

    @property
    def is_held_up(self) -> bool:
        """Closed, away, or paused by the provider."""
        return not self.is_open or self.window.outage is not None or self.pool.limiter.state().paused_for_s > 0

    def wakes_in_s(self) -> float:
        """Seconds until it may take calls again by itself; infinite: not by itself."""
        now_s = self._clock.monotonic()
        if not self.is_open:
            return self._closed_until_s - now_s
        outage = self.window.outage
        return math.inf if outage is None or self.meter.in_flight else outage.probe_at_s - now_s

    def close(self, error: StopRun) -> None:
        """It cannot go on by itself: not at all, or not before its quota is there again."""
        until = error.until if isinstance(error, QuotaExhausted) else None
        wait_s = math.inf if until is None else max(CLOSED_LEAST_S, (until - self._clock.now()).total_seconds())
        self.closed, self._closed_until_s = error, self._clock.monotonic() + wait_s

    def failed(self, error: BaseException) -> None:
        """What a failure says of the provider."""
        if not isinstance(error, ProviderError):
            return
        rule = RULES[error.error_class]
        if rule.eases is Eases.CONCURRENCY:
            self.window.overloaded()
        if rule.may_be_outage:
            self.window.failed(str(error), object(), unreachable=_never_sent(error))
        else:
            self.window.answered()


class CallPools:
    """All pools of a model. Of a single one, calls wait at its limiter and nowhere else."""

    def __init__(self, pools: Sequence[PacedPool], tenant: Tenant, clock: Clock) -> None:
        """Nothing waits yet."""
        self._pools = [OpenCallPool(pool, clock, len(pools)) for pool in pools]
        self._tenant = tenant
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._servers: dict[OpenCallPool, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    async def reserve(self, cost: Cost, not_to: OpenCallPool | None = None) -> tuple[OpenCallPool, Reservation]:
        """Wait until a pool lets this call go; ``not_to``: not to this one, while another takes calls.

        Raises as `RateLimiter.reserve`, when no pool can take it.
        """
        if len(self._pools) == 1:
            (only,) = self._pools
            reservation = await only.pool.limiter.reserve(self._tenant, cost)
            return self._begun(only), reservation
        waiting = _Waiting(cost, asyncio.get_running_loop().create_future(), not_to)
        self._waiting.append(waiting)
        self._fail_hopeless()
        self._serve_all()
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            self._withdraw(waiting)
            raise

    def ended(self, pool: OpenCallPool) -> None:
        """A call is not in flight any more, one way or the other."""
        pool.meter.ended(self._clock.monotonic())
        self._news.set()

    def can_go_elsewhere(self, pool: OpenCallPool, error: Exception) -> bool:
        """Whether another pool takes the call that failed so, because this one does not; closes it for a stop.

        Never a call that may be billed: nobody would know of it.
        """
        if len(self._pools) == 1:
            return False
        others = [each for each in self._pools if each is not pool]
        if isinstance(error, StopRun):
            self._close(pool, error)
            return any(each.is_open for each in others)
        unbilled = isinstance(error, ProviderError) and not error.maybe_paid
        takes_none = pool.window.outage is not None or _never_sent(error)
        return unbilled and takes_none and any(not each.is_held_up for each in others)

    async def aclose(self) -> None:
        """End the tasks; nobody waits any more."""
        for task in self._servers.values():
            task.cancel()
        await asyncio.gather(*self._servers.values(), return_exceptions=True)

    # -- one task per pool -----------------------------------------------------------------------------------------

    def _begun(self, pool: OpenCallPool) -> OpenCallPool:
        pool.meter.sent(self._clock.monotonic(), 0, 0)
        return pool

    def _serve_all(self) -> None:
        """A task for each pool while calls wait; one that ends meanwhile is begun again."""
        for pool in self._pools if self._waiting else ():
            if pool not in self._servers:
                task = self._servers[pool] = asyncio.create_task(self._serve(pool))
                task.add_done_callback(partial(self._served, pool))
        self._news.set()

    def _served(self, pool: OpenCallPool, task: asyncio.Task[None]) -> None:
        del self._servers[pool]
        pool.claim = []
        defect = None if task.cancelled() else task.exception()
        if defect is None:
            self._serve_all()
            return
        for waiting in list(self._waiting):  # nobody would let them go
            self._fail(waiting, defect)

    async def _serve(self, pool: OpenCallPool) -> None:
        """Let calls go to one pool while any wait."""
        limiter = pool.pool.limiter
        while self._waiting:
            pool.claim = self._free(pool)
            listed = pool.claim or self._of_others(pool)
            if not listed:
                await self._something_new(pool)
                continue
            try:
                granted = await limiter.reserve_next(self._tenant, [each.cost for each in listed])
            except BatchLLMError as error:
                self._refused(pool, listed[0], error)
                continue
            for waiting, reservation in zip(listed, granted, strict=False):
                if waiting in self._waiting and pool.room > 0:
                    self._waiting.remove(waiting)
                    waiting.granted.set_result((self._begun(pool), reservation))
                else:
                    limiter.release(reservation)
        for task in self._servers.values():  # what they wait for, nobody needs: what they booked is given back
            if task is not asyncio.current_task():
                task.cancel()

    def _free(self, pool: OpenCallPool) -> list[_Waiting]:
        """The first calls that no other pool waits for."""
        claimed = {id(each) for other in self._pools if other is not pool for each in other.claim}
        free = (each for each in self._fitting(pool) if id(each) not in claimed)
        return list(islice(free, max(0, min(LISTED_MAX, pool.room))))

    def _of_others(self, pool: OpenCallPool) -> list[_Waiting]:
        """Calls that other pools wait for, the last ones first: they would go there last."""
        return self._fitting(pool)[::-1][: max(0, min(LISTED_MAX, pool.room))]

    def _fitting(self, pool: OpenCallPool) -> list[_Waiting]:
        others = any(not each.is_held_up for each in self._pools if each is not pool)
        return [
            each
            for each in self._waiting
            if pool.pool.name not in each.fits_not and not (others and each.not_to is pool)
        ]

    async def _something_new(self, pool: OpenCallPool) -> None:
        self._news.clear()
        wakes_in_s = pool.wakes_in_s()
        alarm = None if math.isinf(wakes_in_s) else self._clock.call_later(max(0.0, wakes_in_s), self._news.set)
        try:
            await self._news.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    # -- calls that no pool takes ----------------------------------------------------------------------------------

    def _refused(self, pool: OpenCallPool, waiting: _Waiting, error: BatchLLMError) -> None:
        """The pool's limiter does not let it go, ever or for long: others may."""
        if isinstance(error, NeverFits):
            waiting.fits_not[pool.pool.name] = error
            self._fail_hopeless()
        elif isinstance(error, StopRun):
            self._close(pool, error)
        else:
            self._fail(waiting, error)

    def _close(self, pool: OpenCallPool, error: StopRun) -> None:
        pool.close(error)
        self._fail_hopeless()
        self._news.set()

    def _fail_hopeless(self) -> None:
        """Calls that fit no pool that is open have nothing to wait for."""
        for waiting in list(self._waiting):
            left = [each for each in self._pools if each.is_open and each.pool.name not in waiting.fits_not]
            if not left:
                why = [each.closed for each in self._pools if each.closed is not None and not each.is_open]
                self._fail(waiting, why[-1] if why else next(iter(waiting.fits_not.values())))

    def _fail(self, waiting: _Waiting, error: BaseException) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.granted.set_exception(error)

    def _withdraw(self, waiting: _Waiting) -> None:
        """Nobody wants this call any more, whether it was let go or not."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        elif not waiting.granted.cancelled() and waiting.granted.exception() is None:
            pool, reservation = waiting.granted.result()
            pool.pool.limiter.release(reservation)
            self.ended(pool)


def _never_sent(error: BaseException) -> bool:
    """Nobody was reached, so that nothing can be billed."""
    return isinstance(error, ProviderError) and error.error_class is ErrorClass.CONNECTION and not error.maybe_paid
