"""The ledger of money: what every process that spends says to it and hears back.

Belongs here: the Ledger protocol, the records of one call and its reply, whole nano-dollars. Not here: the ledger's
memory (in_process_ledger.py; redis_ledger.py with lua/ledger.lua), when a call is made (budget.py).

A *writer* is one opened budget: one process at work on one run. What it says of itself is absolute (what each of its
slices has cost, what it holds), so saying it twice changes nothing and an emptied ledger learns it again. Four scopes
may have a cap: the run, its user in total, its user today, everybody today (days are UTC, by the ledger's own clock).

A ledger that was emptied or put back to an older state has a new *epoch*: its writers say everything again, and until
it has settled (`SETTLING_S`) it promises nobody new money, because it does not know yet what it had promised before.
Only living writers can tell it: what a dead one had in flight is in the journals. Where no other can be alive there is
nothing to wait for (`RedisLedger.settle_now`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Literal, Protocol

from batch_llm.errors import ConfigurationError

__all__ = [
    "ALIVE_S",
    "BEYOND_ANY_CAP",
    "DAY_CAP",
    "DAY_US",
    "FORGOTTEN_S",
    "FRESH_S",
    "MOST_NANO",
    "SETTLING_S",
    "Accounts",
    "Denial",
    "Ledger",
    "LedgerCall",
    "LedgerReply",
    "ScopeKind",
    "ScopeView",
    "SliceReport",
    "caps_on",
    "checked_caps",
    "nano_cap",
    "nano_up",
    "usd_of",
    "user_cap",
    "user_day_cap",
]

ALIVE_S = 30.0  # a writer that said nothing for so long is taken for dead
FORGOTTEN_S = 3_600.0  # after so long what a dead writer held counts as spent, and the writer is forgotten
FRESH_S = 1.5  # what a writer heard from the ledger is good for so long
SETTLING_S = 3.0  # by then every writer alive has spoken to a new epoch, or uses its allowance no more (`FRESH_S`)
DAY_US = 86_400_000_000
MOST_NANO = 2**53 - 1  # 9 million US dollars; beyond it the numbers of a Redis script are not whole any more
BEYOND_ANY_CAP = MOST_NANO + 1  # asked for by who may not spend under any cap: no room is so large
UP = Context(prec=80, rounding=ROUND_CEILING)
DOWN = Context(prec=80, rounding=ROUND_FLOOR)

ScopeKind = Literal["", "run", "user", "user_day", "day"]

DAY_CAP = "day"
"""The cap on what everybody together may spend per day, a key of `Ledger.set_caps`."""


def user_cap(user: str) -> str:
    """The cap on what a user may spend in total, a key of `Ledger.set_caps`."""
    return f"user:{user}"


def user_day_cap(user: str) -> str:
    """The cap on what a user may spend per day, a key of `Ledger.set_caps`."""
    return f"user_day:{user}"


def nano_up(usd: Decimal) -> int:
    """Holds and bills in whole nano-dollars, rounded up, so that a cap is never exceeded by rounding."""
    return min(MOST_NANO, int(UP.to_integral_value(UP.scaleb(usd, 9))))


def nano_cap(usd: Decimal, name: str) -> int:
    """A cap in whole nano-dollars, rounded down. Raises `ConfigurationError` for one that cannot be kept."""
    if not usd.is_finite() or usd < 0:
        raise ConfigurationError(f"{name} is {usd}; a cap is an amount of US dollars, 0 or more")
    nano = int(DOWN.to_integral_value(DOWN.scaleb(usd, 9)))
    if nano > MOST_NANO:
        raise ConfigurationError(
            f"{name} is {usd} USD; the largest that can be kept is {usd_of(MOST_NANO)} USD: lower it, or set none"
        )
    return nano


def usd_of(nano: int) -> Decimal:
    """US dollars of nano-dollars, exact, without idle zeros."""
    usd = Decimal(nano).scaleb(-9)
    return usd.quantize(Decimal(1)) if usd == usd.to_integral_value() else usd.normalize()


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What a slice has cost, as the writer knows that alone writes its journal."""

    number: int
    base_nano: int  # when this writer began with it
    spent_nano: int  # now


@dataclass(frozen=True, slots=True)
class LedgerCall:
    """One call of a writer. Amounts are nano-dollars, absolute unless said otherwise."""

    writer: str
    sequence: int  # grows with each call of this writer; a call that arrives after a later one changes nothing
    epoch: int  # of the last reply; 0 in the first call
    run: str
    user: str
    cap_nano: int | None  # the run's
    held_nano: int = 0  # of requests in flight; booked whatever the caps say
    kept_nano: int = 0  # held, and what is left of the allowance and shall stay
    least_nano: int = 0  # on top of that: so much is needed, less is of no use
    want_nano: int = 0  # on top of that: so much would be welcome
    reports: tuple[SliceReport, ...] = ()
    seed: tuple[tuple[int, int], ...] = ()  # (slice, spent) as the journals say that were read
    as_of_us: int = 0  # `LedgerReply.now_us` before the journals were read; 0: none were read
    alone_us: int = 0  # nobody worked on the run then: its writers that spoke last before are dead; 0: not known
    closing: bool = False  # the writer's last call

    def to_wire(self) -> list[Any]:
        """As it crosses to lua/ledger.lua."""
        return [
            self.writer,
            self.sequence,
            self.epoch,
            self.run,
            self.user,
            -1 if self.cap_nano is None else self.cap_nano,
            self.held_nano,
            self.kept_nano,
            self.least_nano,
            self.want_nano,
            [[report.number, report.base_nano, report.spent_nano] for report in self.reports],
            [list(pair) for pair in self.seed],
            self.as_of_us,
            self.closing,
            self.alone_us,
        ]


@dataclass(frozen=True, slots=True)
class Denial:
    """Why `LedgerCall.least_nano` was not granted."""

    kind: ScopeKind  # whose cap binds; "": the ledger is settling or has not been told the run's journals
    cap_nano: int = 0
    spent_nano: int = 0
    reserved_nano: int = 0  # by all writers
    may_come: bool = True  # another living writer holds money of this scope and may give it back


@dataclass(frozen=True, slots=True)
class LedgerReply:
    """What the ledger answers."""

    epoch: int
    known: bool  # the ledger knows the run's journals; False: read them and call again with `seed`
    now_us: int  # the ledger's clock
    reserve_nano: int  # what the writer may hold in total, what it holds included
    run_spent_nano: int  # all processes
    capped: bool  # some cap applies to this writer
    starved: bool  # another writer asks for more than is left: give back what is not needed
    reseed: bool  # a dead writer's money can be freed: read the journals and call again with `seed`
    denial: Denial | None = None

    @classmethod
    def from_wire(cls, said: list[Any]) -> LedgerReply:
        """From lua/ledger.lua."""
        denial = Denial(*said[8]) if said[8] else None
        return cls(said[0], said[1], said[2], said[3], said[4], said[5], said[6], said[7], denial)


@dataclass(frozen=True, slots=True)
class ScopeView:
    """One scope, for people."""

    scope: str  # run:<run id> | user:<user> | user:<user>:<date> | day:<date>
    cap_usd: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal  # held for requests in flight, and allowances of processes


def checked_caps(caps: Mapping[str, Decimal | None]) -> dict[str, int | None]:
    """The caps of `Ledger.set_caps` in nano-dollars. Raises `ConfigurationError` for a name or amount that is none."""
    for name in caps:
        kind, _, user = name.partition(":")
        if not (name == DAY_CAP or (kind in ("user", "user_day") and user)):
            raise ConfigurationError(f"{name!r} names no cap; caps are user:<user>, user_day:<user> and {DAY_CAP}")
    return {name: None if usd is None else nano_cap(usd, f"the cap {name}") for name, usd in caps.items()}


@dataclass(frozen=True, slots=True)
class Accounts:
    """Everything a ledger holds that people want to see; nano-dollars."""

    now_us: int
    writers: Sequence[tuple[str, str, int, int | None, int]]  # run, user, reserve, the run's cap, the run's spent
    users: Mapping[str, int]
    days: Mapping[str, int]  # "<day>" and "<day>:<user>", days since 1970
    caps: Mapping[str, int]

    def views(self) -> tuple[ScopeView, ...]:
        """By scope: runs at work, users with a cap or at work or who spent today, today."""
        day = self.now_us // DAY_US
        date = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()
        found: dict[str, tuple[int | None, int, int]] = {}
        for run in sorted({writer[0] for writer in self.writers}):
            _, _, reserves, caps, spents = zip(*(writer for writer in self.writers if writer[0] == run), strict=True)
            cap = min((cap for cap in caps if cap is not None), default=None)  # it was changed meanwhile
            found[f"run:{run}"] = (cap, max(spents), sum(reserves))
        users = {writer[1] for writer in self.writers}
        users |= {name.partition(":")[2] for name in self.caps if name != DAY_CAP}
        users |= {name.partition(":")[2] for name in self.days if name.startswith(f"{day}:")}
        for user in sorted(users):
            reserved = sum(writer[2] for writer in self.writers if writer[1] == user)
            found[f"user:{user}"] = (self.caps.get(user_cap(user)), self.users.get(user, 0), reserved)
            today = self.days.get(f"{day}:{user}", 0)
            found[f"user:{user}:{date}"] = (self.caps.get(user_day_cap(user)), today, reserved)
        reserved = sum(writer[2] for writer in self.writers)
        found[f"day:{date}"] = (self.caps.get(DAY_CAP), self.days.get(str(day), 0), reserved)
        return tuple(
            ScopeView(scope, None if cap is None else usd_of(cap), usd_of(spent), usd_of(held))
            for scope, (cap, spent, held) in found.items()
        )


def caps_on(user: str, views: Iterable[ScopeView]) -> tuple[str, ...]:
    """The caps in ``views`` that bind runs of a user, beside the runs' own; as `Ledger.set_caps` calls them."""
    capped = {view.scope: view.cap_usd is not None for view in views}
    days = (scope.partition(":")[2] for scope in capped if scope.startswith(f"{DAY_CAP}:"))
    today = next(days, "")
    names = {f"{DAY_CAP}:{today}": DAY_CAP, f"user:{user}": user_cap(user), f"user:{user}:{today}": user_day_cap(user)}
    return tuple(name for scope, name in names.items() if capped.get(scope))


class Ledger(Protocol):
    """Money spent and reserved by all processes that share it. Raises `LimiterUnreachable`, `LimiterStoreError`."""

    async def call(self, call: LedgerCall) -> LedgerReply:
        """Report, give back and reserve, in one step."""
        ...

    async def set_caps(self, caps: Mapping[str, Decimal | None]) -> None:
        """Set caps (keys: `user_cap`, `user_day_cap`, `DAY_CAP`; None takes one away), for everybody within a second.

        Raises `ConfigurationError` for an amount that cannot be a cap.
        """
        ...

    async def view(self) -> tuple[ScopeView, ...]:
        """Runs at work, users and days with their caps; changes nothing."""
        ...

    async def aclose(self) -> None:
        """Close what was opened."""
        ...
