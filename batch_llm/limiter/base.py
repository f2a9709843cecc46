"""What the engine knows of limits and money: the RateLimiter and Budget protocols and their records.

Belongs here: protocols and frozen records. Not here: any algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

__all__ = ["Budget", "Cost", "Hold", "Limits", "PoolState", "RateLimiter", "Reservation", "Tenant", "Throttle"]


@dataclass(frozen=True, slots=True)
class Limits:
    """One pool's limits: all models of one provider account that share one quota. None: no limit of that kind."""

    pool: str  # "<provider>:<pool name>", unique in a home
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    max_concurrency: int | None = None
    burst_s: float = 0.0  # seconds of unused rate the provider lets one save up
    window_s: float | None = None  # the provider counts in fixed windows of this length
    debit: Literal["actual", "input_plus_max_tokens", "input_plus_max_tokens_then_corrected"] = "actual"
    unknown: bool = False  # the numbers above are our own starting guess: adapt


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request takes from a pool, tokens; `max_output_tokens` is the cap sent, if any."""

    input_tokens: int
    output_tokens: int  # predicted before the call, actual after it
    max_output_tokens: int | None = None
    requests: int = 1


@dataclass(frozen=True, slots=True)
class Tenant:
    """On whose behalf a request is sent."""

    user: str
    job: str
    weight: float = 1.0
    priority: Literal["low", "normal", "high"] = "normal"


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right to send one request now. Settle or release it exactly once."""

    tenant: Tenant
    cost: Cost
    granted_at_s: float  # the clock's monotonic seconds


@dataclass(frozen=True, slots=True)
class Throttle:
    """The provider said 429: for how long, and which limit if it told."""

    retry_after_s: float | None = None
    scope: str | None = None  # requests | tokens


@dataclass(frozen=True, slots=True)
class PoolState:
    """What a panel shows of a pool."""

    pool: str
    requests_per_minute: float | None  # the limit in force now
    tokens_per_minute: float | None
    waiting: int  # requests waiting in reserve()
    paused_for_s: float  # 0 when not paused
    # what makes requests wait: requests | tokens | input_tokens | output_tokens | concurrency | pause; None: nobody
    binding: str | None


class RateLimiter(Protocol):
    """Lets requests out at the speed of the limit and never above it. One limiter serves one pool."""

    async def reserve(self, tenant: Tenant, cost: Cost) -> Reservation:
        """Wait until this request may be sent.

        Cancelling the wait gives back what was booked. Raises `NeverFits` at once for a cost no wait can satisfy.
        """
        ...

    def settle(self, reservation: Reservation, actual: Cost) -> None:
        """The request was answered and used this much: refund or charge the difference, as the debit rule says."""
        ...

    def release(self, reservation: Reservation) -> None:
        """The request was never sent, or the provider did not count it: give all of it back."""
        ...

    def throttled(self, reservation: Reservation, throttle: Throttle) -> None:
        """The provider answered 429 to this request: pause everybody, slow down, then probe. Ends the reservation."""
        ...

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer's rate-limit headers (lower-case names)."""
        ...

    def state(self) -> PoolState:
        """What to show."""
        ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one request in flight."""

    number: int
    amount_usd: Decimal


class Budget(Protocol):
    """Keeps reserved + spent at or below the cap, at every moment."""

    def hold(self, amount_usd: Decimal) -> Hold:
        """Set aside the dearest possible bill; raises `BudgetExhausted` when it does not fit."""
        ...

    def settle(self, hold: Hold, actual_usd: Decimal | None) -> None:
        """The call cost this much. None: unknown outcome, the whole hold counts as spent."""
        ...

    def release(self, hold: Hold) -> None:
        """The call was never made or never billed."""
        ...

    @property
    def cap_usd(self) -> Decimal | None:
        """The cap; None without one."""
        ...

    @property
    def spent_usd(self) -> Decimal:
        """Spent so far, unknown outcomes counted in full."""
        ...

    @property
    def reserved_usd(self) -> Decimal:
        """Held for calls in flight."""
        ...
