"""What the engine knows of limits and money: the RateLimiter, Budget and Schedule protocols and their records.

Belongs here: protocols and records. Not here: any algorithm, any constant of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

__all__ = [
    "Budget",
    "Cost",
    "DimensionView",
    "Hold",
    "Limits",
    "PoolChange",
    "PoolState",
    "PoolView",
    "Priority",
    "RateLimiter",
    "Reservation",
    "Schedule",
    "Tenant",
    "TenantView",
    "Throttle",
]

Priority = Literal["live", "high", "normal", "low"]
"""The lanes of a pool. ``live`` is for requests a person waits for; jobs are ``high``, ``normal`` or ``low``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """One pool's limits: all models of one provider account that share one quota. None: no limit of that kind."""

    pool: str  # "<provider>:<pool name>", unique in a home
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_day: float | None = None
    max_concurrency: int | None = None
    enqueued_tokens: int | None = None  # tokens waiting in the provider's native batches
    burst_s: float = 0.0  # seconds of unused rate the provider lets one save up
    window_s: float | None = None  # the provider counts in fixed windows of this length
    day_resets: str | None = None  # IANA zone at whose midnight the day's count begins anew; None: it refills evenly
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
    weight: float = 1.0  # of the job among its user's jobs
    priority: Priority = "normal"


class Reservation:
    """The right to send one request now. Settle, release or `throttled` ends it, exactly once."""

    __slots__ = ("cost", "epoch", "granted_at_s", "is_open", "tenant")

    def __init__(self, tenant: Tenant, cost: Cost, granted_at_s: float, epoch: int = 0) -> None:
        """``granted_at_s``: the limiter's clock, monotonic; ``epoch``: of the schedule it was booked in."""
        self.tenant = tenant
        self.cost = cost
        self.granted_at_s = granted_at_s
        self.epoch = epoch
        self.is_open = True


@dataclass(frozen=True, slots=True)
class Throttle:
    """The provider said 429: for how long, and which limit if it told.

    ``scope``: requests | tokens | input_tokens | output_tokens | requests_per_day | tokens_per_day. A ``.._per_day``
    scope pauses the pool until the provider's day is over (``retry_after_s``, else the next reset) and slows nothing,
    whether the pool declares such a limit or not.
    """

    retry_after_s: float | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """What one process knows of a pool without asking; cheap."""

    pool: str
    requests_per_minute: float | None  # the limit in force now: changed by people, learned, slowed down or probed
    tokens_per_minute: float | None
    waiting: int  # requests of this process waiting in `reserve`
    paused_for_s: float  # 0 when not paused
    # what makes requests wait: requests | tokens | input_tokens | output_tokens | requests_per_day | tokens_per_day |
    # limits_per_day (one that the pool does not declare) | concurrency | pause | unreachable; None: nobody waits
    binding: str | None
    why: str = ""  # one sentence for people, when paused or unreachable
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class DimensionView:
    """One limit of a pool, as everybody shares it."""

    name: str  # requests | tokens | input_tokens | output_tokens | requests_per_day | tokens_per_day | concurrency | ..
    declared: float | None  # units per minute (or per day, or at once); None: unknown, a guess
    in_force: float  # after changes by people, what the provider said, and slowing down
    used_now: float  # the same unit, over the last seconds (or today, or at this moment)
    changed_by_hand: bool = False
    learned: bool = False  # from the provider's headers or 429s


@dataclass(frozen=True, slots=True)
class TenantView:
    """One job's part of a pool."""

    user: str
    job: str
    priority: Priority
    user_weight: float
    job_weight: float
    share: float  # of what the pool let out over the last seconds, 0..1
    waiting: int  # rows that its processes hold ready
    processes: int


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as everybody shares it: what `batch-llm limits` shows."""

    pool: str
    dimensions: tuple[DimensionView, ...]
    tenants: tuple[TenantView, ...]
    paused_for_s: float = 0.0
    why: str = ""  # one sentence when paused or slowed down
    factor: float = 1.0  # the smallest share of a limit in use after 429s


@dataclass(frozen=True, slots=True)
class PoolChange:
    """What a person changes of a pool at run time. Absent names stay as they are; None takes a change back."""

    limits: Mapping[str, float | None] = field(default_factory=dict)  # as in the providers file, e.g. tokens_per_minute
    user_weights: Mapping[str, float | None] = field(default_factory=dict)
    resume: bool = False  # end a pause and the slowing down now


class RateLimiter(Protocol):
    """Lets requests out at the speed of the limit and never above it. One limiter: one pool, one event loop."""

    async def reserve(self, tenant: Tenant, cost: Cost) -> Reservation:
        """Wait until this request may be sent.

        Cancelling the wait gives back what was booked. Raises `NeverFits` at once for a cost no wait can satisfy,
        `QuotaExhausted` when the wait is for a day's limit and longer than the limiter was told to bear.
        """
        ...

    async def reserve_next(self, tenant: Tenant, costs: Sequence[Cost], *, more: bool = False) -> list[Reservation]:
        """The bulk path: wait until the first of these rows may go; return it and those behind it that may go now.

        In order, at least one. ``more``: further rows will follow the listed ones, so that a whole slice is worth
        booking. Raises like `reserve`, for the first row only.
        """
        ...

    def settle(self, reservation: Reservation, actual: Cost) -> None:
        """The request was answered and used this much: refund or charge the difference, as the debit rule says."""
        ...

    def release(self, reservation: Reservation) -> None:
        """The request was never sent: give all of it back, as far as its time has not passed."""
        ...

    def throttled(self, reservation: Reservation, throttle: Throttle) -> None:
        """The provider answered 429 to this request: pause everybody, slow down, then probe. Ends the reservation."""
        ...

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer's rate-limit headers (lower-case names)."""
        ...

    def state(self) -> PoolState:
        """What this process knows, without asking anybody."""
        ...


class Schedule(Protocol):
    """A pool's schedule: one memory, shared by all its callers. The wire is described in wire.py.

    `RedisSchedule` shares it between processes and machines, `InProcessSchedule` inside one process. Both answer the
    same calls with the same replies (tests/contract/test_schedule.py).
    """

    async def call(self, request: list[Any]) -> list[Any]:
        """Settle, report and book in one step. Raises `LimiterUnreachable` when nobody answers."""
        ...

    async def view(self, limits: Limits) -> PoolView:
        """The pool as everybody shares it; changes nothing."""
        ...

    async def change(self, limits: Limits, change: PoolChange) -> None:
        """Change the pool for everybody, within a second."""
        ...

    async def aclose(self) -> None:
        """Close what was opened."""
        ...


class Hold(NamedTuple):
    """Money set aside for one request in flight."""

    number: int
    amount_nano: int  # billionths of a US dollar
    slice_number: int = 0

    @property
    def amount_usd(self) -> Decimal:
        """In US dollars, 9 places."""
        return Decimal(self.amount_nano).scaleb(-9)


class Budget(Protocol):
    """Keeps reserved + spent at or below every cap, at every moment, over all processes that share the ledger."""

    def begin(self, slice_number: int, spent_usd: Decimal) -> None:
        """From now on this process alone works on the slice, whose journal says it has cost this, unknown in full.

        To be called before the first hold for the slice; again is harmless.
        """
        ...

    def hold_now(self, amount_nano: int | None, slice_number: int = 0) -> Hold | None:
        """As `hold`, if that is possible without waiting or asking anybody, as it nearly always is; else None.

        In billionths of a US dollar, as `settle_nano`: this is done for every single call.
        """
        ...

    async def hold(self, amount_usd: Decimal | None, slice_number: int = 0) -> Hold:
        """Set aside the dearest possible bill. None: nobody knows it, so that it fits only where no cap applies.

        Waits while requests in flight (here or in other processes) may still give money back; raises
        `BudgetExhausted`, naming the cap, when nothing more can come.
        """
        ...

    def settle(self, hold: Hold, actual_usd: Decimal | None) -> None:
        """The call cost this much. None: unknown outcome, the whole hold counts as spent."""
        ...

    def settle_nano(self, hold: Hold, actual_nano: int | None) -> None:
        """As `settle`, in billionths of a US dollar."""
        ...

    def release(self, hold: Hold) -> None:
        """The call was never made or never billed."""
        ...

    @property
    def cap_usd(self) -> Decimal | None:
        """The run's cap; None without one."""
        ...

    @property
    def is_capped(self) -> bool:
        """Whether any cap applies or applied: the run's, its user's, the day's."""
        ...

    @property
    def spent_usd(self) -> Decimal:
        """Spent by the run so far, all processes, unknown outcomes counted in full."""
        ...

    @property
    def reserved_usd(self) -> Decimal:
        """Held by this process for calls in flight."""
        ...
