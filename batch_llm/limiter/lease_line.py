"""What one tenant of one process holds: waiting rows, booked slices, requests in flight, what is to be reported.

Belongs here: the records. Not here: letting rows out of slices (pacing.py), what to ask for (lease_demand.py), when
(lease_caller.py).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence

from batch_llm.clock import Alarm
from batch_llm.limiter.base import Cost, Limits, Reservation, Tenant
from batch_llm.limiter.measures import Amounts, Measures
from batch_llm.limiter.wire import CLOCK, LANES, Rule

__all__ = ["DEGRADED", "EPSILON_S", "LARGEST_FOR_S", "Leased", "Line", "Pace", "Slice", "Waiter"]

EPSILON_S = 1e-9  # floating point only
DEGRADED = -1  # the epoch of slices that nobody booked: the store of the schedule is down
PLAY_S = 0.25
"""A quarter of the shortest window in which a provider is known to count: so far may rows of different sizes shift
against each other where several limits hold at once. Without it two limits that bind equally use 97 % of each."""
LARGEST_FOR_S = 600.0  # the largest row is remembered for one to two times as long
MEAN_ROWS = 512.0  # the mean row is of about so many last ones


class Pace:
    """How fast the pool goes, as the last reply said; shared by all its lines. Lists are in the order of the rules.

    Attributes:
        unit_s: Seconds per unit; 0 for a limit per day, which paces nothing.
        rates: Units per second; 0 for a limit per day.
        slack_s: So late a start may be and still count as on time.
        most: The largest request that can ever fit, units; infinite while the limit is a guess.
        play_s: How much earlier than its time a row smaller than the largest may start.
    """

    __slots__ = (
        "clocks",
        "count",
        "epoch",
        "measures",
        "most",
        "paused_until_s",
        "play_s",
        "rates",
        "slack_s",
        "unit_s",
    )

    def __init__(self, limits: Limits, rules: Sequence[Rule], slack_s: float) -> None:
        """``slack_s``: for timers that wake late; a burst that the provider keeps for us absorbs lateness as well."""
        self.count = len(rules)
        self.measures = Measures(limits, rules)
        self.most = [math.inf] * self.count if limits.unknown else list(self.measures.most)
        self.clocks = [rule.kind == CLOCK for rule in rules]
        self.slack_s = max(slack_s, limits.burst_s)
        self.play_s = PLAY_S if sum(self.clocks) > 1 and limits.window_s is None else 0.0
        self.epoch = 0  # no reply yet
        self.paused_until_s = -math.inf
        self.rates = [0.0] * self.count
        self.unit_s = [0.0] * self.count
        self.set_rates([rule.per_s for rule in rules])

    def set_rates(self, rates: Sequence[float]) -> None:
        """From now on so many units per second."""
        self.rates[:] = [rate if clock else 0.0 for rate, clock in zip(rates, self.clocks, strict=True)]
        self.unit_s[:] = [1 / rate if rate > 0 else 0.0 for rate in self.rates]

    def seconds(self, amounts: Sequence[float]) -> float:
        """Seconds of the whole pool, of the dimension it takes most of."""
        return max([amount * unit_s for amount, unit_s in zip(amounts, self.unit_s, strict=True)], default=0.0)


class Slice:
    """A part of the pool's schedule: so much may be sent, from its start on, evenly.

    Attributes:
        next_s: When the next row may start, per dimension.
        left: What may still be sent, units.
        start_s: Nothing starts before; earlier than ``begins_s`` once it holds the rest of the slice before it.
        begins_s: As it was booked.
        end_s: When all of it would have been sent; infinite without a limit per minute.
        ends_s: The same per dimension.
        booked: What was booked with it, units.
        joined: It follows the slice before it without a gap, per dimension: a row may stand across the seam.
        slack_s: How late a start may be and still count as on time, per dimension.
        spent: A row did not fit any more.
        unit_s: Seconds per unit, where it is not the pool's; None: as fast as the pool.
    """

    __slots__ = (
        "begins_s",
        "booked",
        "end_s",
        "ends_s",
        "epoch",
        "joined",
        "left",
        "next_s",
        "slack_s",
        "spent",
        "start_s",
        "unit_s",
    )

    def __init__(self, pace: Pace, starts_s: list[float], amounts: list[float], now_s: float) -> None:
        """Times on this process's clock. ``now_s``: of the booking; a start before it brings saved-up rate along."""
        self.start_s = max(starts_s, default=now_s)
        self.begins_s = self.start_s
        begin_s = max(self.start_s, now_s)
        self.epoch = pace.epoch
        self.next_s = starts_s
        self.left = amounts
        self.booked = list(amounts)
        self.slack_s = [max(pace.slack_s, begin_s - start_s) for start_s in starts_s]
        self.spent = False
        self.unit_s: list[float] | None = None
        lengths_s = [amount * unit_s for amount, unit_s in zip(amounts, pace.unit_s, strict=True)]
        self.end_s = begin_s + max(lengths_s) if any(lengths_s) else math.inf
        self.ends_s = [start_s + length_s for start_s, length_s in zip(starts_s, lengths_s, strict=True)]
        self.joined = [False] * len(amounts)


class Waiter:
    """Who waits in `reserve` or `reserve_next`, for the first of these rows."""

    __slots__ = ("costs", "future", "more")

    def __init__(self, costs: Sequence[Cost], future: asyncio.Future[list[Reservation]], *, more: bool) -> None:
        """``more``: rows will follow those listed."""
        self.costs = costs
        self.future = future
        self.more = more


class Line:
    """One tenant of this process. Lists are in the order of the rules.

    Attributes:
        done, used, unused: To be reported, see `wire.Item`.
        let_out: Everything let out so far, units.
        permits: Requests it may have in flight; -1: no limit.
        more_until_s: So long the consumer is believed to come back for more.
        arrivals: Waiters so far.
        tell_at_s: When the report gives back, or takes, so much that it must be told; infinite while it does not.
        ask_at_s: When the schedule may be asked again.
        refused_s: The schedule is asked so long after the last slice ends: earlier it would refuse; -inf: never.
        ahead_s: So far ahead the last slice was booked.
        first_try: Nothing was refused since the last slice was booked.
        grants: Slices booked so far.
        covered: What is booked covers all rows waiting.
        beyond: When the last slice ended and how long after it its last row pays for itself; None: not.
        booked_to: When the last slice ends per dimension, the schedule's clock.
        met: The last grant covered all demand, and nothing was asked since.
        binding: What made the last question wait, see `wire.Grant`.
    """

    __slots__ = (
        "ahead_s", "alarm", "alarm_at_s", "arrivals", "ask_at_s", "beyond", "binding", "booked_to", "covered",
        "done", "ended", "ended_before", "ended_from_s", "first_try", "free_from_s", "grants", "idle_from_s",
        "in_flight", "lane", "largest", "largest_from_s", "largest_lately", "last_granted_s", "last_piece",
        "let_out", "mean_of", "mean_sum", "met", "more_until_s", "owner", "pace", "permits",
        "permits_at_s", "refused_s", "reported_at_s", "samples", "short_s", "slice_s", "slices", "suits_s",
        "tell_at_s", "tenant", "unused", "used", "waiters", "woke_s",
    )  # fmt: skip

    def __init__(self, tenant: Tenant, pace: Pace, owner: object, *, limited: bool) -> None:
        """``owner``: the limiter; ``limited``: it needs permits, and has none yet."""
        nothing = [0.0] * pace.count
        self.tenant = tenant
        self.lane = LANES.index(tenant.priority)
        self.pace = pace
        self.owner = owner
        self.waiters: deque[Waiter] = deque()
        self.slices: deque[Slice] = deque()
        self.done, self.used, self.unused = list(nothing), list(nothing), list(nothing)
        self.reported_at_s = -math.inf
        self.tell_at_s = math.inf
        self.in_flight = 0
        self.permits = 0 if limited else -1
        self.permits_at_s = -math.inf  # when more may be asked for
        self.free_from_s = math.inf  # since when permits lie idle
        self.short_s = -math.inf  # when a row last waited for a permit
        self.ended = self.ended_before = 0  # requests, in this and the last stretch
        self.ended_from_s = -math.inf
        self.slice_s = 0.0  # of the whole pool, in the last slice
        self.suits_s = 0.0  # how long it would best have been; 0: not known yet
        self.let_out = list(nothing)
        self.last_granted_s = -math.inf
        self.last_piece: Slice | None = None
        self.largest, self.largest_lately, self.largest_from_s = list(nothing), list(nothing), -math.inf
        self.mean_sum, self.mean_of = list(nothing), 0.0
        self.more_until_s = -math.inf
        self.idle_from_s = -math.inf
        self.ask_at_s = -math.inf
        self.arrivals = 0
        self.ahead_s, self.refused_s = 0.0, -math.inf
        self.first_try, self.grants = True, 0
        self.covered = self.met = False
        self.booked_to: list[float] = []
        self.beyond: tuple[list[float], list[float]] | None = None
        self.binding: int | None = None
        self.alarm: Alarm | None = None
        self.alarm_at_s = math.inf
        self.woke_s = -math.inf
        self.samples: deque[tuple[float, list[float], float]] = deque()  # see `lease_outage.Sample`

    def patience_s(self) -> float:
        """The schedule is asked so long after the last slice begins; not longer than it was booked ahead."""
        return min(self.ahead_s, max(0.0, self.refused_s + self.slice_s))

    def set_patience(self, patience_s: float) -> None:
        """Ask so long after a slice begins that is as long as the last one."""
        patience_s = min(patience_s, self.ahead_s)
        self.refused_s = patience_s - self.slice_s if patience_s > 0 else -math.inf

    def count_rows(self, taken: list[float], rows: int) -> None:
        """Rows left: keep the totals and the mean row."""
        if self.mean_of > MEAN_ROWS:
            self.mean_of /= 2
            self.mean_sum = [total / 2 for total in self.mean_sum]
        self.mean_of += rows
        for place, amount in enumerate(taken):
            self.let_out[place] += amount
            self.mean_sum[place] += amount

    def count_ended(self, reserved: Amounts, used: Amounts) -> float:
        """A request was answered; returns the seconds of the pool that the report gives back so far (below 0: takes).

        Run for every row of every table.
        """
        done, taken, unit_s = self.done, self.used, self.pace.unit_s
        if len(reserved) == 2:  # most pools
            done[0] += reserved[0]
            done[1] += reserved[1]
            taken[0] += used[0]
            taken[1] += used[1]
            return (done[0] - taken[0]) * unit_s[0] + (done[1] - taken[1]) * unit_s[1]
        saved_s = 0.0
        for place, amount in enumerate(reserved):
            done[place] += amount
            taken[place] += used[place]
            saved_s += (done[place] - taken[place]) * unit_s[place]
        return saved_s

    def note_largest(self, amounts: Amounts, now_s: float) -> None:
        """Remember the largest row for one to two times `LARGEST_FOR_S`."""
        if now_s - self.largest_from_s > LARGEST_FOR_S:
            self.largest, self.largest_lately = self.largest_lately, [0.0] * self.pace.count
            self.largest_from_s = now_s
        self.largest_lately = [max(pair) for pair in zip(self.largest_lately, amounts, strict=True)]
        self.largest = [max(pair) for pair in zip(self.largest, amounts, strict=True)]

    def rows_waiting(self) -> int:
        """Rows listed by those who wait."""
        return sum([len(waiter.costs) for waiter in self.waiters if not waiter.future.done()])


class Leased(Reservation):
    """A reservation that knows where it came from, so that ending it needs no search."""

    __slots__ = ("amounts", "line", "piece")

    def __init__(self, piece: Slice | None, line: Line, cost: Cost, amounts: Amounts, now_s: float) -> None:
        """``piece``: the slice it left from; None: it took nothing that is limited."""
        self.tenant = line.tenant
        self.cost = cost
        self.granted_at_s = now_s
        self.epoch = line.pace.epoch if piece is None else piece.epoch
        self.is_open = True
        self.line = line
        self.piece = piece
        self.amounts = amounts
