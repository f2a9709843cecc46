"""The ledger of money inside one process: the reference of what a ledger does.

Belongs here: the ledger's memory and the rules by which money is promised. Not here: the same for Redis
(lua/ledger.lua, which answers the same calls with the same replies), when a call is made (budget.py).

Why nothing is promised twice and nothing is lost:

- A slice's writer alone knows what it cost, so its reports replace what others read in the journal (where a request in
  flight counts in full). What others read counts for slices nobody alive writes, and only if they read it after the
  writer's last report.
- A writer's reserve ends when it says so. A dead writer's ends when somebody has read the run's journals after its
  death: every request that it sent is in them. Dead is who is silent for long, or was silent since a moment when nobody
  worked on the run, which the store of runs knows at once (`alone_us`).
- Users and days are charged with what is new in the reports: `told` is how far a slice was charged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Lock

from batch_llm.clock import Clock
from batch_llm.limiter.ledger import (
    ALIVE_S,
    DAY_CAP,
    DAY_US,
    FORGOTTEN_S,
    Accounts,
    Denial,
    LedgerCall,
    LedgerReply,
    ScopeKind,
    ScopeView,
    SliceReport,
    checked_caps,
    user_cap,
    user_day_cap,
)

__all__ = ["InProcessLedger"]

ALIVE_US = int(ALIVE_S * 1_000_000)
FORGOTTEN_US = int(FORGOTTEN_S * 1_000_000)
KEPT_DAYS = 8
FAIR_PART = 4  # a writer is given at most this part of its even share of what is left, beyond what it needs at once


@dataclass(slots=True)
class _Writer:
    run: str
    user: str
    reserve: int
    seen_us: int
    sequence: int
    denied: ScopeKind  # whose cap denied its last call
    cap: int | None
    run_spent: int


@dataclass(slots=True)
class _Slice:
    spent: int
    owner: str = ""  # the last writer that reported it; "": nobody did since the ledger began
    told: int = -1  # so far users and days were charged; -1: never
    at_us: int = 0  # of the owner's last report
    offset: int = 0  # what the ledger knew on top of the journal when the owner began: it stays counted


@dataclass(slots=True)
class _Run:
    epoch: int = 0  # in which its journals were read
    spent: int = 0
    slices: dict[int, _Slice] = field(default_factory=dict)


@dataclass(slots=True)
class _Others:
    """What the other writers of one scope hold."""

    reserve: int = 0
    alive_reserve: int = 0
    alive: int = 0

    def count(self, writer: _Writer, *, alive: bool) -> None:
        self.reserve += writer.reserve
        if alive:
            self.alive_reserve += writer.reserve
            self.alive += 1


@dataclass(slots=True)
class _Scope:
    """A cap that binds the caller, and how far it is used by others and by what is spent."""

    kind: ScopeKind
    cap: int
    spent: int
    others: _Others

    def room(self, reserve: int) -> int:
        return self.cap - self.spent - self.others.reserve - reserve


@dataclass(slots=True)
class _Survey:
    run: _Others = field(default_factory=_Others)
    user: _Others = field(default_factory=_Others)
    everybody: _Others = field(default_factory=_Others)
    starved: bool = False
    reseed: bool = False


class InProcessLedger:
    """Money shared by what runs in this process, in any of its threads; implements `Ledger`.

    Forgets everything with the process.
    """

    def __init__(self, clock: Clock, *, settling_s: float = 0.0) -> None:
        """``clock`` says which day it is, and who is alive; ``settling_s``: see `RedisLedger`, to try it here."""
        self._clock = clock
        self._settling_us = round(settling_s * 1_000_000)
        self._settled_us = 0
        self._epoch = 0
        self._writers: dict[str, _Writer] = {}
        self._runs: dict[str, _Run] = {}
        self._users: dict[str, int] = {}
        self._days: dict[str, int] = {}
        self._caps: dict[str, int] = {}
        self._turn = Lock()  # never held across an await: threads have event loops of their own
        self._lost: dict[str, int] = {}  # by run: charged for a dead writer, not yet found in the journals

    async def call(self, call: LedgerCall) -> LedgerReply:
        """See `Ledger.call`."""
        with self._turn:
            return self._call(call)

    async def settle_now(self) -> None:
        """See `RedisLedger.settle_now`."""
        with self._turn:
            now = self._now_us()
            self._open(now)
            self._settled_us = min(self._settled_us, now)

    async def set_caps(self, caps: Mapping[str, Decimal | None]) -> None:
        """See `Ledger.set_caps`."""
        checked = checked_caps(caps)
        with self._turn:
            for name, nano in checked.items():
                if nano is None:
                    self._caps.pop(name, None)
                else:
                    self._caps[name] = nano

    async def view(self) -> tuple[ScopeView, ...]:
        """See `Ledger.view`."""
        with self._turn:
            writers = [(each.run, each.user, each.reserve, each.cap, each.run_spent) for each in self._writers.values()]
            return Accounts(self._now_us(), writers, self._users, self._days, self._caps).views()

    async def aclose(self) -> None:
        """See `Ledger.aclose`; there is nothing to close."""

    def _call(self, call: LedgerCall) -> LedgerReply:
        now = self._now_us()
        self._open(now)
        run = self._runs.setdefault(call.run, _Run())
        known = call.epoch == self._epoch and (call.cap_nano is None or run.epoch == self._epoch)
        known = known and call.run not in self._lost
        before = self._writers.get(call.writer)
        if before is not None and call.sequence <= before.sequence:
            return LedgerReply(self._epoch, known, now, before.reserve, run.spent, False, False, False)
        self._forget(now)
        if call.as_of_us:
            self._seed(call, run)
            known = call.epoch == self._epoch
        for report in call.reports:
            self._report(call, run, report, now)
        survey = self._survey(call, now)
        scopes = list(self._scopes(call, run, survey, now))
        reserve = max(call.held_nano, min(call.kept_nano, before.reserve if before is not None else 0))
        settled = known and now >= self._settled_us
        reserve, denial = _grant(call, scopes, survey, reserve) if settled else _not_yet(call, scopes, reserve)
        if call.closing:
            self._writers.pop(call.writer, None)
        else:
            denied = denial.kind if denial is not None else ""
            self._writers[call.writer] = _Writer(
                call.run, call.user, reserve, now, call.sequence, denied, call.cap_nano, run.spent
            )
        return LedgerReply(
            self._epoch, known, now, reserve, run.spent, bool(scopes), survey.starved, survey.reseed, denial
        )

    def _now_us(self) -> int:
        return round(self._clock.now().timestamp() * 1_000_000)

    def _open(self, now: int) -> None:
        if not self._epoch:
            self._epoch, self._settled_us = now, now + self._settling_us

    # -- what was spent --------------------------------------------------------------------------------------------

    def _forget(self, now: int) -> None:
        """Count what writers reserved that are dead for long as spent: they may have sent requests for all of it."""
        for name, writer in list(self._writers.items()):
            if writer.seen_us < now - FORGOTTEN_US:
                del self._writers[name]
                self._charge(writer.user, writer.reserve, writer.seen_us)
                self._lost[writer.run] = self._lost.get(writer.run, 0) + writer.reserve

    def _seed(self, call: LedgerCall, run: _Run) -> None:
        """Take over what the journals say; reserves of writers of the run that died before they were read end."""
        for name, writer in list(self._writers.items()):
            if name != call.writer and writer.run == call.run and not _lives(writer, call, call.as_of_us):
                del self._writers[name]
        if call.epoch == self._epoch:
            run.epoch = self._epoch
        for number, spent in call.seed:
            known = run.slices.get(number)
            if known is None:
                run.slices[number] = _Slice(spent)
                run.spent += spent
            elif not known.owner or not (known.owner in self._writers or known.at_us >= call.as_of_us):
                if known.told >= 0:
                    self._charge_new(call, max(0, spent - known.told), call.as_of_us)
                    known.told = max(known.told, spent)
                run.spent += max(0, spent - known.spent)
                known.spent = max(known.spent, spent)
        # what a forgotten writer of the run had sent is in the journals: the rest of its reserve was not spent
        self._users[call.user] = self._users.get(call.user, 0) - self._lost.pop(call.run, 0)

    def _report(self, call: LedgerCall, run: _Run, report: SliceReport, now: int) -> None:
        known = run.slices.get(report.number)
        if known is None:
            known = run.slices[report.number] = _Slice(0)
        elif known.owner and known.owner != call.writer:
            known.offset = max(0, known.spent - report.base_nano)
        if known.told < 0:
            known.told = report.base_nano
        spent = report.spent_nano + known.offset
        run.spent += spent - known.spent
        if known.owner == call.writer and spent < known.told:
            # it was taken for dead, and what it had in flight for spent
            self._users[call.user] = self._users.get(call.user, 0) - (known.told - spent)
            known.told = spent
        self._charge_new(call, max(0, spent - known.told), now)
        known.told = max(known.told, spent)
        known.spent, known.owner, known.at_us = spent, call.writer, now

    def _charge_new(self, call: LedgerCall, amount: int, at_us: int) -> None:
        lost = self._lost.get(call.run, 0)
        if lost and amount:
            absorbed = min(lost, amount)
            amount -= absorbed
            self._lost[call.run] = lost - absorbed
        self._charge(call.user, amount, at_us)

    def _charge(self, user: str, amount: int, at_us: int) -> None:
        if not amount:
            return
        day = at_us // DAY_US
        if str(day) not in self._days:
            self._days = {key: spent for key, spent in self._days.items() if int(key.split(":")[0]) > day - KEPT_DAYS}
        self._users[user] = self._users.get(user, 0) + amount
        for key in (str(day), f"{day}:{user}"):
            self._days[key] = self._days.get(key, 0) + amount

    # -- what is left ----------------------------------------------------------------------------------------------

    def _survey(self, call: LedgerCall, now: int) -> _Survey:
        survey = _Survey()
        for name, writer in self._writers.items():
            if name == call.writer:
                continue
            alive = _lives(writer, call, now)
            same_run, same_user = writer.run == call.run, writer.user == call.user
            survey.everybody.count(writer, alive=alive)
            if same_user:
                survey.user.count(writer, alive=alive)
            if same_run:
                survey.run.count(writer, alive=alive)
                survey.reseed = survey.reseed or not alive
            waits = {"run": same_run, "user": same_user, "user_day": same_user, "day": True, "": False}[writer.denied]
            survey.starved = survey.starved or (alive and waits)
        return survey

    def _scopes(self, call: LedgerCall, run: _Run, survey: _Survey, now: int) -> Iterator[_Scope]:
        """The caps that bind the caller."""
        day, caps, user = now // DAY_US, self._caps, call.user
        if call.cap_nano is not None:
            yield _Scope("run", call.cap_nano, run.spent, survey.run)
        if user_cap(user) in caps:
            yield _Scope("user", caps[user_cap(user)], self._users.get(user, 0), survey.user)
        if user_day_cap(user) in caps:
            yield _Scope("user_day", caps[user_day_cap(user)], self._days.get(f"{day}:{user}", 0), survey.user)
        if DAY_CAP in caps:
            yield _Scope("day", caps[DAY_CAP], self._days.get(str(day), 0), survey.everybody)


def _lives(writer: _Writer, call: LedgerCall, now: int) -> bool:
    """Taken for dead: silent for long, or it spoke last before nobody worked on its run."""
    return writer.seen_us >= max(now - ALIVE_US, call.alone_us if writer.run == call.run else 0)


def _not_yet(call: LedgerCall, scopes: list[_Scope], reserve: int) -> tuple[int, Denial | None]:
    """Nothing new is promised before the journals are known."""
    return reserve, Denial("") if scopes and call.least_nano else None


def _grant(call: LedgerCall, scopes: list[_Scope], survey: _Survey, reserve: int) -> tuple[int, Denial | None]:
    """The writer's new reserve; all scopes give or none does, and whoever is denied keeps only what it holds."""
    if not scopes:
        return reserve, None
    short = [scope for scope in scopes if scope.room(reserve) < call.least_nano]
    if call.least_nano and short:
        reserve = call.held_nano
        hopeless = [scope for scope in short if not _may_come(scope, survey)]
        scope = min(hopeless or short, key=lambda scope: scope.room(reserve))
        reserved = scope.others.reserve + reserve
        return reserve, Denial(scope.kind, scope.cap, scope.spent, reserved, not hopeless)
    fair = min(max(0, scope.room(reserve)) // (FAIR_PART * (scope.others.alive + 1)) for scope in scopes)
    welcome = 0 if survey.starved else min(call.want_nano, fair)
    return reserve + max(call.least_nano, welcome), None


def _may_come(scope: _Scope, survey: _Survey) -> bool:
    return scope.others.alive_reserve > 0 or survey.reseed
