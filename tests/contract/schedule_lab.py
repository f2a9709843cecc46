"""Random life of a pool, told to two schedules at once.

Belongs here: strategies for pools and steps, what turns a step into a call. Not here: assertions (test_schedule.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from batch_llm.limiter.wire import CLOCK, DIMENSIONS, FIXED, ROLLING, UNDECLARED_DAY

__all__ = ["STORIES", "Caller", "Pool", "Step", "pools", "request", "steps"]

DAY_S = 86_400.0
TENANTS = (("ann", "tone"), ("ann", "names"), ("bob", "tone"), ("Zoë ☂", "x"), ("", "y"))


@dataclass(frozen=True)
class Pool:
    """As declared."""

    rules: list[list[Any]]
    most: int
    unknown: bool


@dataclass(frozen=True)
class Wish:
    """One item, in parts of what the caller holds."""

    tenant: int
    lane: int
    weight: float
    rows: int
    more: bool
    row: float  # its size
    largest: float  # times it
    ended: float  # of what it was granted; above 1: it lies
    used: float  # of what ended
    unused: float
    in_flight: int
    wanted: int


@dataclass(frozen=True)
class Step:
    """One call or change, ``later_us`` after the one before."""

    later_us: int
    worker: int
    wishes: list[Wish]
    throttles: list[tuple[float, int, float]] = field(default_factory=list)  # the first: which rule, of 0..1
    observed: list[tuple[float, float, float]] = field(default_factory=list)
    claim: str = "honest"  # of epoch and seq
    outage: bool = False
    depth_s: float = 0.0
    remembers: str = "nothing"
    age_s: float = 1.5
    change: list[Any] | None = None


@dataclass
class Caller:
    """What a worker remembers."""

    epoch: int = 0
    seq: int = 0
    days: list[float] = field(default_factory=list)
    granted: dict[int, list[float]] = field(default_factory=dict)


def _logarithmic(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(0, 1).map(lambda part: low * (high / low) ** part)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Any declared pool."""
    places = sorted(draw(st.sets(st.integers(0, len(DIMENSIONS) - 1), max_size=4)))
    burst_s = draw(st.sampled_from([0.0, 0.0, 0.25, 3.0, 60.0]))
    window_s = draw(st.sampled_from([0.0, 0.0, 1.0, 60.0]))
    rules = []
    for place in places:
        per_s = draw(_logarithmic(0.02, 1e6))
        if place < 4:
            rules.append([place, CLOCK, per_s, burst_s, min(burst_s / 2, 1.0), 0.0, 0.0, window_s])
        elif draw(st.booleans()):
            rules.append([place, ROLLING, per_s, DAY_S, 0.0, DAY_S, 0.0, 0.0])
        else:
            rules.append([place, FIXED, per_s / 100, 0.0, 0.0, DAY_S, draw(st.sampled_from([0.0, 28_800.0])), 0.0])
    return Pool(rules, draw(st.sampled_from([0, 0, 1, 7, 40])), draw(st.booleans()))


_PARTS = st.sampled_from([0.0, 0.0, 0.3, 1.0, 1.0, 2.5])
_WISHES = st.builds(
    Wish,
    tenant=st.sampled_from([0, 0, 0, *range(len(TENANTS))]),
    lane=st.sampled_from([2, 2, 2, 2, 0, 1, 3]),
    weight=st.sampled_from([1.0, 1.0, 0.1, 3.0]),
    rows=st.sampled_from([0, 1, 4, 16, 200]),
    more=st.booleans(),
    row=_logarithmic(0.5, 3000),
    largest=st.sampled_from([1.0, 2.0]),
    ended=_PARTS,
    used=_PARTS,
    unused=_PARTS,
    in_flight=st.sampled_from([0, 0, 1, 9]),
    wanted=st.integers(0, 9),
)
_WORKERS = st.sampled_from([0, 0, 0, 1, 2, 3])
_LATER_US = st.one_of(
    st.integers(0, 400_000),
    st.sampled_from([0, 1, 50_000, 400_000, 900_000, 1_300_000, 4_000_000, 11_000_000, 130_000_000, 700_000_000]),
    st.sampled_from([-1, -100_000, -599_999, -700_000, -300_000_000, 86_400_000_000]),
)
_WAITS = st.sampled_from([-1.0, 0.0, 0.02, 3.0, 100.0])
_CHANGES = st.tuples(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.5, 1000.0])).map(list), max_size=2),
    st.lists(
        st.tuples(st.sampled_from([t[0] for t in TENANTS]), st.sampled_from([0.0, 0.3, 4.0])).map(list), max_size=2
    ),
    st.integers(0, 1),
).map(list)
_CALLS = st.builds(
    Step,
    later_us=_LATER_US,
    worker=_WORKERS,
    wishes=st.lists(_WISHES, max_size=4),
    throttles=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 30), _WAITS), max_size=2),
    observed=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([-1.0, 3.0, 1e4]), st.sampled_from([-1.0, 0.0, 40.0, 1e5])),
        max_size=2,
    ),
    claim=st.sampled_from(["honest"] * 12 + ["new", "older", "next", "later", "future"]),
    outage=st.sampled_from([False] * 9 + [True]),
    depth_s=st.sampled_from([0.0, 0.3, 5.0]),
    remembers=st.sampled_from(["told", "told", "nothing", "too much"]),
    age_s=st.sampled_from([0.0, 1.5, 90_000.0]),
)
_QUIET_CALLS = st.builds(Step, later_us=st.integers(0, 400_000), worker=_WORKERS, wishes=st.lists(_WISHES, max_size=4))
_PEOPLE = st.builds(Step, later_us=_LATER_US, worker=st.just(0), wishes=st.just([]), change=_CHANGES)


def steps() -> st.SearchStrategy[list[Step]]:
    """Any life of a pool."""
    return st.lists(
        st.one_of(_QUIET_CALLS, _QUIET_CALLS, _QUIET_CALLS, _CALLS, _CALLS, _PEOPLE), min_size=12, max_size=60
    )


_BUSY = Wish(0, 2, 1.0, 200, True, 1.0, 1.0, 1.0, 1.0, 0.0, 3, 5)
_FAST = [[0, CLOCK, 1000.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1, CLOCK, 1e5, 0.0, 0.0, 0.0, 0.0, 0.0]]
_DAYS = [[4, ROLLING, 0.01, DAY_S, 0.0, DAY_S, 0.0, 0.0], [5, FIXED, 1.0, 0.0, 0.0, DAY_S, 28_800.0, 0.0]]


def _strays() -> list[Step]:
    """429s at one small share that go on at any speed, for minutes, then stop."""
    heard = [Step(300_000, n % 3, [_BUSY], [(0.0, 1, 0.0)] if n % 5 == 0 else []) for n in range(500)]
    return [*heard, *(Step(400_000, n % 3, [_BUSY]) for n in range(400))]


def _waves() -> list[Step]:
    """Where a limit was cut, 429s come by the dozen within a fraction of a second."""
    wave = [Step(20_000, n % 3, [_BUSY], [(0.0, 1 + n % 4, -1.0)]) for n in range(20)]
    quiet = [Step(300_000, n % 3, [_BUSY]) for n in range(40)]
    return [*quiet, *wave, *quiet, *wave, *quiet]


def _unknown() -> list[Step]:
    """No 429 for long, then some, then none."""
    quiet = [Step(300_000, 0, [_BUSY]) for _ in range(150)]
    return [*quiet, Step(300_000, 0, [_BUSY], [(0.0, 5, 3.0)]), *quiet]


def _crowd() -> list[Step]:
    """80 callers come and go one after the other; their time to be forgotten comes for all at once."""
    each = [replace(_BUSY, tenant=tenant, lane=lane) for tenant in range(len(TENANTS)) for lane in range(4)]
    life = [Step(10_000, worker, each) for worker in range(4)]
    for later_us in (3_500_000, 11_000_000, 590_000_000, 20_000_000):
        life += [Step(later_us, 0, [_BUSY]), *(Step(1000, 0, [_BUSY]) for _ in range(8))]
    return [*life, *(Step(10_000, worker, each) for worker in range(4))]


def _days() -> list[Step]:
    """The provider says that the day is over, with and without saying until when; the memory is lost in between."""
    life = [Step(300_000, 0, [_BUSY]) for _ in range(3)]
    for part, wait_s, later_us in ((0.4, -1.0, 59_000_000), (0.9, -1.0, 30_000_000_000), (0.9, 5.0, 6_000_000)):
        life += [Step(1000, 0, [_BUSY], [(part, 1, wait_s)]), Step(later_us, 0, [_BUSY]), Step(1_500_000, 1, [_BUSY])]
        life += [Step(10_000, 1, [_BUSY], claim="older", remembers="too much", age_s=90_000.0)]
        life += [Step(10_000, 0, [_BUSY], claim="later", remembers="told"), Step(400_000, 1, [_BUSY], remembers="told")]
    return life


STORIES = {
    "strays": (Pool(_FAST, 0, False), _strays()),
    "waves": (Pool(_FAST, 0, False), _waves()),
    "unknown limit": (Pool(_FAST, 0, True), _unknown()),
    "crowd": (Pool(_FAST, 30, False), _crowd()),
    "days": (Pool(_DAYS, 0, False), _days()),
}


def request(pool: Pool, step: Step, caller: Caller) -> list[Any]:
    """The call that a step makes."""
    size = len(pool.rules)
    items = [_item(wish, caller.granted.get(wish.tenant + 10 * wish.lane, [0.0] * size)) for wish in step.wishes]
    throttles = [[_met(which, size), count, wait_s] for which, count, wait_s in step.throttles]
    observed = [[_place(which, size, 0), per_s, left] for which, per_s, left in step.observed if size]
    epoch, seq = {
        "honest": (caller.epoch, caller.seq),
        "new": (0, 0),
        "older": (max(0, caller.epoch - 5), caller.seq),
        "next": (caller.epoch, caller.seq + 1),
        "later": (caller.epoch, caller.seq + 1000),
        "future": (caller.epoch + 5000, 1),
    }[step.claim]
    days = {"told": caller.days, "nothing": [], "too much": [1e6] * size}[step.remembers]
    return [
        f"w{step.worker}",
        epoch,
        seq,
        step.depth_s,
        pool.rules,
        items,
        pool.most,
        1 if pool.unknown else 0,
        throttles,
        observed,
        1 if step.outage else 0,
        days,
        step.age_s,
    ]


def _met(part: float, size: int) -> int:
    """Which limit a 429 is about: also one that nobody named, or a day's that is not declared."""
    place = _place(part, size, -2)
    return UNDECLARED_DAY if place == -2 else place


def _place(part: float, size: int, lowest: int) -> int:
    return min(size - 1, lowest + int(part * (size - lowest)))


def _item(wish: Wish, granted: list[float]) -> list[Any]:
    user, job = TENANTS[wish.tenant]
    first = [wish.row if n else 1.0 for n in range(len(granted))]
    done = [amount * wish.ended for amount in granted]
    return [
        user,
        job,
        wish.lane,
        wish.weight,
        wish.rows,
        1 if wish.more else 0,
        [amount * wish.rows for amount in first],
        first,
        [amount * wish.largest for amount in first],
        done,
        [amount * wish.used for amount in done],
        [amount * wish.unused for amount in granted],
        wish.rows + 3,
        wish.in_flight,
        wish.wanted,
    ]
