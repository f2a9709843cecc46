"""How many calls may be in flight at a pool.

Belongs here: the size of the window: from the limits in force and what was measured, from memory and open files, and
smaller while the provider is overloaded or away. Not here: filling it (pipeline.py), the rate itself (limiter), what
counts as overload (retry.py).

An overload says nothing about the rate: it halves nobody's limit. It shrinks the number of calls in flight, once per
round trip, and each round trip without one lets one more in (AIMD). When nothing comes back at all, the provider is
away: then one call at a time probes it, and rows lose no attempt, or few (calls.py).

Several rows have to say so: one that fails while others are answered says nothing of the provider.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from batch_llm.clock import Clock
from batch_llm.engine.meter import Meter
from batch_llm.errors import ErrorClass
from batch_llm.limiter.base import Limits, PoolState

__all__ = ["Failure", "Outage", "Standing", "Window", "rows_per_s"]

WINDOW_MIN = 8
WINDOW_UNLIMITED = 128  # in flight where no rate is declared
WINDOW_HEADROOM = 2.0  # times limit x latency
SHRINK = 0.7  # of what is in flight, per overload and round trip
QUEUEING_SHRINK = 0.85  # the same, when answers take longer and longer instead
QUEUEING_RISE = 3.0  # times the shortest they took
QUEUEING_LEAST_S = 0.5  # below that it is this process that is late
MEMORY_BYTES = 192 * 1024 * 1024  # what calls in flight and rows read ahead of them may take
CALL_BYTES = 24 * 1024  # a call in flight with its connection and buffers, beside its text (measured: 20 to 25 kB)
TEXT_COPIES = 4  # of a prompt: the row, the request, the bytes sent, the answer
SPARE_FILES = 128  # for everything that is no call

LOOK_EVERY_S = 0.25  # at the rates in force: the size is asked for with every row

AWAY_AFTER_S = 1.0  # without any answer, when calls failed meanwhile
AWAY_FAILURES = 8  # so many in a row,
AWAY_ROWS = 3  # of so many rows at least
UNREACHABLE_COUNTS = 4  # failures that a connection which cannot be made stands for: no row is to blame for that
PROBE_FIRST_S = 0.5
PROBE_LONGEST_S = 5.0
AWAY_PATIENCE_S = 1_800.0  # then the run stops, to be resumed
OUTAGE_ATTEMPT_S = 60.0  # of an outage, before failures that the provider answers use up a row's attempt; then per each
PROBES_ANSWERED = 8  # calls that probe together from then on: it is there, answers each, and bills none


@dataclass(slots=True)
class Outage:
    """The provider does not answer anybody."""

    since_s: float
    why: str
    opened_at_s: float  # calls sent before that are no probes
    probe_at_s: float
    delay_s: float = PROBE_FIRST_S
    probes: int = 0  # that failed
    is_answered: bool = False  # whether the last of them got an answer, if only a refusal


class Standing(Enum):
    """What the last calls say of the provider."""

    THERE = "there"
    IN_DOUBT = "in doubt"  # so many failed in a row that it may be away
    AWAY = "away"


class Failure(NamedTuple):
    """The last call of a row got no answer of use; the row may be to blame, or the provider."""

    error_class: ErrorClass
    message: str
    maybe_paid: bool
    window: Window  # of the pool that was asked
    at_s: float
    outages: int  # that had begun there by then
    is_rows: bool  # others were answered between two failures of this row
    used_up_at_s: float  # when one of these failures last used up an attempt

    @property
    def blames_the_row(self) -> bool:
        """Whether the provider went on answering others, at once or later, and was not away meanwhile."""
        return self.is_rows or (self.window.good_at_s >= self.at_s and self.window.outages == self.outages)


class Window:
    """The window of one pool of a pipeline."""

    def __init__(
        self,
        limits: Limits,
        meter: Meter,
        clock: Clock,
        *,
        state: Callable[[], PoolState] | None = None,
        share: int = 1,
    ) -> None:
        """``meter``: what is measured of this pool. ``share``: so many windows share memory and open files.

        ``state``: the limiter's, whose rates are in force; None: those of ``limits`` are, whatever happens.
        """
        self._max_concurrency = limits.max_concurrency
        self._state = state
        self._rates: Limits | PoolState = limits
        self._looked_at_s = -math.inf  # at the rates
        self._meter = meter
        self._clock = clock
        self._cap: float | None = None  # calls in flight at most, while the provider is overloaded
        self._shrunk_at_s = -math.inf
        self._failures = 0  # in a row
        self._failed: set[Hashable] = set()  # rows that they are of, the first few
        self.good_at_s = clock.monotonic()  # when it last answered something whole
        self.outages = 0
        self._memory_bytes = MEMORY_BYTES / share
        self._files = max(1, _open_files() // share)
        self.outage: Outage | None = None

    def size(self) -> int:
        """How many calls may be in flight: enough for the limit at this latency and some, and as memory allows."""
        if self.outage is not None:
            return self._probes_at_once(self.outage)
        wanted = self.wanted()
        return wanted if self._cap is None else max(1, min(wanted, int(self._cap)))

    def _probes_at_once(self, outage: Outage) -> int:
        now_s = self._clock.monotonic()
        if now_s < outage.probe_at_s:
            return 0
        return PROBES_ANSWERED if outage.is_answered and now_s - outage.opened_at_s >= OUTAGE_ATTEMPT_S else 1

    def wanted(self) -> int:
        """The size without any overload."""
        meter = self._meter
        rate_per_s = rows_per_s(self._in_force(), *meter.tokens_per_answer)
        if rate_per_s is None:
            wanted = self._max_concurrency or WINDOW_UNLIMITED
        else:
            wanted = WINDOW_MIN + math.ceil(rate_per_s * meter.latency_s * WINDOW_HEADROOM)
        fits = int(self._memory_bytes / (CALL_BYTES + TEXT_COPIES * meter.request_bytes))
        return max(1, min(wanted, fits, self._files))

    def _in_force(self) -> Limits | PoolState:
        """The rates, as of the last look: what is declared may be a guess, or changed by now."""
        now_s = self._clock.monotonic()
        if self._state is not None and now_s - self._looked_at_s >= LOOK_EVERY_S:
            self._rates, self._looked_at_s = self._state(), now_s
        return self._rates

    @property
    def standing(self) -> Standing:
        """Whether the provider is there, as far as is known."""
        if self.outage is not None:
            return Standing.AWAY
        return Standing.THERE if self._failures < AWAY_FAILURES else Standing.IN_DOUBT

    @property
    def is_shrunk(self) -> bool:
        """Whether an overload holds it back."""
        return self._cap is not None

    # -- what was heard ------------------------------------------------------------------------------------------------

    def answered(self) -> None:
        """The provider answered something whole, good or not: it is there."""
        if self._failures:
            self._failures = 0
            self._failed.clear()
        self.good_at_s = self._clock.monotonic()
        if self.outage is not None:
            self.outage = None
            self._cap = float(WINDOW_MIN)
        elif self._is_queueing():
            self._shrink(QUEUEING_SHRINK)
        elif self._cap is not None:
            self._cap += 1 / self._cap
            if self._cap >= self.wanted():
                self._cap = None

    def overloaded(self) -> None:
        """A call met an overload."""
        self._shrink(SHRINK)

    def _shrink(self, share: float) -> None:
        """Once per round trip: the calls in flight were all sent before the first of them could tell."""
        now_s = self._clock.monotonic()
        if now_s - self._shrunk_at_s >= self._meter.latency_s:
            self._shrunk_at_s = now_s
            self._cap = max(1.0, share * min(self._cap or math.inf, max(1, self._meter.in_flight)))

    def _is_queueing(self) -> bool:
        """The provider takes more calls than it works on: each one more only makes all of them slower.

        Only where this window is what holds the rows back; where the rate does, more would not be sent anyway.
        """
        meter = self._meter
        slow = meter.latency_s > max(QUEUEING_LEAST_S, QUEUEING_RISE * meter.shortest_latency_s)
        return slow and meter.in_flight >= WINDOW_MIN and meter.in_flight + 1 >= 0.9 * self.size()

    def failed(self, why: str, of: Hashable, *, answered: bool = False, unreachable: bool = False) -> None:
        """A call of the row ``of`` got no answer of use: reset, time-out, 5xx; no row is to blame, as far as is known.

        ``answered``: the provider said so, and bills nothing. ``unreachable``: it could not be reached at all.
        """
        now_s = self._clock.monotonic()
        if self.outage is not None:
            self.outage.probes += 1
            self.outage.is_answered = answered
            self.outage.delay_s = min(PROBE_LONGEST_S, self.outage.delay_s * 2)
            self.outage.probe_at_s = now_s + self.outage.delay_s
            return
        self._failures += UNREACHABLE_COUNTS if unreachable else 1
        if len(self._failed) < AWAY_ROWS:
            self._failed.update(range(AWAY_ROWS) if unreachable else (of,))
        are_enough = self._failures >= AWAY_FAILURES and len(self._failed) >= AWAY_ROWS
        if are_enough and now_s - self.good_at_s >= AWAY_AFTER_S:
            self.silent(why)

    def silent(self, why: str) -> None:
        """The provider is away from now on, and probed."""
        now_s = self._clock.monotonic()
        self.outages += 1
        self.outage = Outage(self.good_at_s, why, now_s, now_s + PROBE_FIRST_S)

    def away_s(self) -> float:
        """Seconds since the provider was found away; 0 while it is there."""
        return 0.0 if self.outage is None else self._clock.monotonic() - self.outage.opened_at_s

    def silent_s(self) -> float:
        """Seconds since the provider last answered anything, while it is away; 0 while it is there."""
        return 0.0 if self.outage is None else self._clock.monotonic() - self.outage.since_s


def rows_per_s(limits: Limits | PoolState, input_tokens: float, output_tokens: float) -> float | None:
    """Rows per second these limits allow, for rows of this size; None without a rate."""
    each = (
        (limits.requests_per_minute, 1.0),
        (limits.tokens_per_minute, input_tokens + output_tokens),
        (limits.input_tokens_per_minute, input_tokens),
        (limits.output_tokens_per_minute, output_tokens),
    )
    rates = [per_minute / 60 / max(1.0, amount) for per_minute, amount in each if per_minute]
    return min(rates) if rates else None


def _open_files() -> int:
    """How many connections this process may have: its limit, raised as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
            soft = max(soft, wanted)
        except (ValueError, OSError):  # a container may forbid it: then it stays as it is
            pass
    return max(WINDOW_MIN, soft - SPARE_FILES)
