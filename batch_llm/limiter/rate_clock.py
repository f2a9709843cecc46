"""One dimension of a pool's limit as a clock (GCRA): when the next request may start.

Belongs here: the arithmetic of one rate. Not here: waiting and order (in_process.py), what a request costs (debit.py),
when a rate goes down or up (adaptation.py).

``ready_at_s`` is the moment from which the next request may start. A request of ``a`` units that starts at ``s`` moves
it to ``max(ready_at_s, s - burst_s) + a / rate``: it pays for itself after it was sent. Hence in any window of ``t``
seconds at most ``rate * (t + burst_s) + one row`` units start, plus what the provider handed back (`correct`).
Source: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm (read 2026-11-21).
"""

from __future__ import annotations

import math

__all__ = ["Charge", "RateClock"]

MINUTE_S = 60.0
WINDOW_SHARE_KEPT_FREE = 0.01  # of a provider's fixed window; covers the jitter between our clock and its clock
LARGEST_SHARE_KEPT_FREE = 0.5  # rows above half a window are spaced by two rows' time: never two in one window


class Charge:
    """What one reservation took from one clock, and the clock's account just after it."""

    __slots__ = ("amount", "charged_after", "start_s")

    def __init__(self, amount: float, start_s: float, charged_after: float) -> None:
        """``amount`` in the dimension's unit; ``start_s`` on the limiter's clock."""
        self.amount = amount
        self.start_s = start_s
        self.charged_after = charged_after


class RateClock:
    """The schedule of one dimension.

    Attributes:
        name: requests | tokens | input_tokens | output_tokens.
        per_minute: The limit, units per minute, before any slowing down.
        factor: The share of the limit in use: below 1 after a 429; above 1 only while probing an unknown limit.
        rate: Units per second in force.
        ready_at_s: When the next request may start, the limiter's clock.
        early_s: How much earlier a row smaller than the largest may start (`ready_for`), seconds.
    """

    __slots__ = (
        "_charged",
        "_credit_from_s",
        "_largest",
        "_last_start_s",
        "_window_s",
        "burst_s",
        "early_s",
        "factor",
        "name",
        "per_minute",
        "rate",
        "ready_at_s",
        "slack_s",
    )

    def __init__(self, name: str, per_minute: float, *, burst_s: float, slack_s: float, window_s: float | None) -> None:
        """``slack_s``: how late a start may be and still count as on time."""
        if not (math.isfinite(per_minute) and per_minute > 0):
            raise ValueError(f"a limit must be a number above 0: {name} per minute is {per_minute!r}")
        self.name = name
        self.per_minute = per_minute
        self.burst_s = burst_s
        self.slack_s = slack_s
        self.early_s = 0.0
        self.factor = 1.0
        self.ready_at_s = 0.0
        self._window_s = window_s
        self._largest = 0.0
        self._charged = 0.0
        self._credit_from_s = math.inf
        self._last_start_s = -math.inf
        self.rate = self._planned_rate()

    def start(self, now_s: float) -> None:
        """Begin with the whole burst and no debt."""
        self.ready_at_s = now_s - self.burst_s

    def ready_for(self, amount: float) -> float:
        """When a request of this size may start.

        Where several limits hold at once, every row is held back by the one it needs most of; without some play between
        them none of them would be used in full. A row may start early by what the largest row exceeds it, so that the
        clock is never further ahead than one largest row.
        """
        if not self.early_s:
            return self.ready_at_s
        return self.ready_at_s - min(self.early_s, max(0.0, self._largest - amount) / self.rate)

    def take(self, start_s: float, amount: float) -> Charge:
        """Charge a request that starts at ``start_s``."""
        if amount > self._largest:
            self._largest = amount
            if self._window_s is not None:
                self.set_factor(start_s, self.factor)
        earliest = min(start_s - self.burst_s, self._credit_from_s)
        self.ready_at_s = max(self.ready_at_s, earliest) + amount / self.rate
        self._charged += amount
        self._last_start_s = start_s
        return Charge(amount, start_s, self._charged)

    def give_back(self, now_s: float, charge: Charge) -> None:
        """Undo a charge the provider never counted, as far as a strict bucket allows.

        Time that passed is not handed out twice: what started after it keeps its full distance.
        """
        earliest = now_s - self.burst_s - self.slack_s
        later = self._last_start_s - self.burst_s + (self._charged - charge.charged_after) / self.rate
        undone = max(self.ready_at_s - charge.amount / self.rate, earliest, later)
        self.ready_at_s = min(self.ready_at_s, undone)

    def correct(self, now_s: float, charge: Charge, actual: float, credit_s: float) -> float:
        """Refund or charge the difference to what was used; returns the seconds the clock moved forward (debt).

        A refund leaves at most ``credit_s`` of unused time, and never more than the request itself had taken. Who waits
        may use it now; then `settle_credit` must drop the rest: it is not saved up.
        """
        actual = min(max(0.0, actual), max(self.per_minute, charge.amount))  # nonsense must not stop the pool for hours
        tolerance = self.burst_s + self.slack_s
        if actual >= charge.amount:
            debt = actual - charge.amount
            self._charged += debt
            before = max(self.ready_at_s, now_s - tolerance)
            self.ready_at_s = before + debt / self.rate
            return debt / self.rate
        credit = max(tolerance, min(credit_s, charge.amount / self.rate))
        refunded = self.ready_at_s - (charge.amount - actual) / self.rate
        self.ready_at_s = min(self.ready_at_s, max(refunded, now_s - credit))
        self._credit_from_s = now_s - credit
        return 0.0

    def settle_credit(self, now_s: float) -> None:
        """Drop unused time beyond what may be saved up."""
        self.ready_at_s = max(self.ready_at_s, now_s - self.burst_s - self.slack_s)
        self._credit_from_s = math.inf

    def hold_until(self, until_s: float) -> None:
        """Start nothing before ``until_s``."""
        self.ready_at_s = max(self.ready_at_s, until_s)

    def set_factor(self, now_s: float, factor: float) -> None:
        """Use this share of the limit from now on; a debt keeps its units and so changes its seconds."""
        before = self.rate
        self.factor = factor
        self.rate = self._planned_rate()
        if self.ready_at_s > now_s:
            self.ready_at_s = now_s + (self.ready_at_s - now_s) * before / self.rate

    def set_limit(self, now_s: float, per_minute: float) -> None:
        """The limit itself changed."""
        self.per_minute = per_minute
        self.set_factor(now_s, self.factor)

    def saved(self, now_s: float) -> float:
        """Units of unused rate we believe to have at the provider; 0 without any."""
        return max(0.0, now_s - self.ready_at_s) * self.rate

    def _planned_rate(self) -> float:
        rate = self.per_minute / MINUTE_S
        if self._window_s is not None:
            rate = self._rate_in_windows(rate, self._window_s)
        return rate * self.factor

    def _rate_in_windows(self, rate: float, window_s: float) -> float:
        """A little less than ``rate``, so that no fixed window of the provider overflows wherever it begins."""
        per_window = rate * window_s
        if self.name == "requests":
            whole = math.floor(per_window + 1e-9) if per_window >= 1 else per_window  # half a request never fits
            return whole / window_s * (1 - WINDOW_SHARE_KEPT_FREE)
        row = self._largest / per_window
        if row > 1:  # no window could take such a row, so this dimension is not counted in these windows
            row = 0.0
        return rate * (1 - min(LARGEST_SHARE_KEPT_FREE, max(WINDOW_SHARE_KEPT_FREE, row)))
