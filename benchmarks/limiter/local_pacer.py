"""A limiter that shares nothing: its fixed part of the rate, paced by itself. What is left of a case is the harness.

Belongs here: the floor that other figures are compared with. Not here: anything one would ship.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from batch_llm.clock import Clock
from batch_llm.limiter.base import Cost, PoolState, Reservation, Tenant, Throttle

__all__ = ["LocalPacer"]

SLACK_S = 0.001


class LocalPacer:
    """Implements `RateLimiter`: every tenant gets the same rate."""

    def __init__(self, rows_per_s: float, clock: Clock) -> None:
        """``rows_per_s``: of each tenant."""
        self._each_s = 1 / rows_per_s
        self._clock = clock
        self._next_s: dict[Tenant, float] = {}

    async def reserve(self, tenant: Tenant, cost: Cost) -> Reservation:
        """See `RateLimiter.reserve`."""
        return (await self.reserve_next(tenant, [cost]))[0]

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        """See `RateLimiter.reserve_next`."""
        del more
        now_s = time.monotonic()
        next_s = self._next_s.get(tenant, now_s)
        if next_s > now_s:
            await self._clock.sleep(next_s - now_s)
            now_s = time.monotonic()
        count = max(1, min(len(costs), 1 + int((now_s + SLACK_S - next_s) / self._each_s)))
        self._next_s[tenant] = next_s + count * self._each_s
        return [Reservation(tenant, cost, now_s) for cost in costs[:count]]

    def settle(self, reservation: Reservation, actual: Cost) -> None:
        """See `RateLimiter.settle`; everything costs what was said."""
        del actual
        reservation.is_open = False

    def release(self, reservation: Reservation) -> None:
        """See `RateLimiter.release`; nothing comes back."""
        reservation.is_open = False

    def throttled(self, reservation: Reservation, throttle: Throttle) -> None:
        """See `RateLimiter.throttled`; it does not listen."""
        del throttle
        reservation.is_open = False

    def observe(self, headers: Mapping[str, str]) -> None:
        """See `RateLimiter.observe`; it does not listen."""
        del headers

    def state(self) -> PoolState:
        """See `RateLimiter.state`."""
        return PoolState("floor", None, None, 0, 0.0, None)
