"""From what a run left behind to its figures, by the judge.

Belongs here: which stretch counts, which limit binds, names of figures. Not here: judging (judge.py), targets (case.py,
cases.py).

Figures, where they make sense:
    rows_per_s, rows_left.
    use: of the limit that binds, over the steady part; with a limit per day, how well the run kept up with the ideal.
    rejected: rows, in the provider's bucket and windows; rejected_share, rejected_per_10000 of those tried.
    needs_ms: depth of the smallest strict bucket that rejects nothing, ms of the limit.
    worst_1s: most rows (or tokens) in any window of a second, per limit.
    jain, weight_error; wait_p50_s, wait_most_s: of jobs of one row.
    calls_per_row, worker_us_per_row (harness included), redis_us_per_row, redis_us_per_call (the script alone).
    core_wait: part of the time that a worker was ready to run while others had the cores.
    back_s, use_after: after a fault; use_of_available: when the provider cut its limit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.limiter import judge
from benchmarks.limiter.case import Case
from benchmarks.limiter.outcome import Outcome
from benchmarks.limiter.provider import counters_of
from benchmarks.limiter.records import Sent

__all__ = ["figures_of"]

MINUTE_S = 60.0
AFTER_CHANGE_S = 2.0  # not counted for `jain` after somebody joined or left
ALIGNMENTS = 20  # of fixed windows that are tried when the sliding one is too full
RETURN_S = 3.0
LEAST_ROWS = 100  # before, one row is more than a percent
LATE_ROWS = 0.05
LEVEL = 0.98


@dataclass(frozen=True, slots=True)
class Dimension:
    """One limit, as the judge sees it."""

    name: str
    rate: float  # units per second

    def amount(self, sent: Sent) -> float:
        """What a record takes of it."""
        return float(sent.rows) if self.name == "requests" else sent.tokens

    def events(self, sent: list[Sent], *, rows: bool = False) -> list[judge.Event]:
        """What was sent; ``rows``: row by row, as a provider counts it."""
        if not rows:
            return [(each.at_s, self.amount(each)) for each in sent]
        return [(each.at_s, self.amount(each) / each.rows) for each in sent for _ in range(each.rows)]


def figures_of(case: Case, outcome: Outcome) -> dict[str, float]:
    """Everything that can be said of a run."""
    admitted = [each for each in outcome.sent if not each.rejected]
    dimensions = list(_dimensions(case))
    steady = (outcome.started_s + case.warm_s, outcome.ended_s)
    uses = {each.name: judge.use(each.events(admitted), each.rate, *steady) for each in dimensions}
    binding = max(dimensions, key=lambda each: uses[each.name])
    rows = sum(each.rows for each in admitted)
    seconds = outcome.ended_s - outcome.started_s
    figures = {
        "rows_per_s": rows / seconds,
        "use": uses[binding.name],
        "jain": _fairness(case, outcome, admitted, dimensions),
        "needs_ms": 1000 * judge.needed_depth(binding.events(admitted), binding.rate) / binding.rate,
        "worst_1s": judge.worst_window(binding.events(admitted), 1.0) / binding.rate,
    }
    if case.user_weights:
        figures["weight_error"] = _weight_error(case, admitted, dimensions, steady)
    if case.provider.answers_429:
        figures |= _rejected_live(case, outcome, binding)
    else:
        figures["rejected"] = _rejected_in_replay(case, admitted, dimensions)
    if case.limits.requests_per_day is not None:
        figures["use"] = _kept_up(case, outcome, admitted)
    if not math.isnan(outcome.returned_s):
        events, span = binding.events(admitted), (outcome.returned_s, outcome.ended_s)
        figures["back_s"] = judge.back_in_use_after_s(events, binding.rate, span, LEVEL)
        figures["use_after"] = judge.use(events, binding.rate, outcome.returned_s + RETURN_S, outcome.ended_s)
    figures["core_wait"] = outcome.worker_waited_s / case.workers / seconds
    return figures | _costs(outcome, max(1, rows))


def _kept_up(case: Case, outcome: Outcome, sent: list[Sent]) -> float:
    rate, day = (counters_of(case)[place] for place in (0, -1))
    ideal = judge.earliest_sends(len(sent), outcome.started_s, rate.rate, (day.depth, day.day_offset_s))
    return judge.kept_up([each.at_s for each in sent], ideal, LEAST_ROWS, LATE_ROWS / rate.rate)


def _dimensions(case: Case) -> Iterator[Dimension]:
    if case.limits.requests_per_minute is not None:
        yield Dimension("requests", case.limits.requests_per_minute / MINUTE_S)
    if case.limits.tokens_per_minute is not None:
        yield Dimension("tokens", case.limits.tokens_per_minute / MINUTE_S)


def _costs(outcome: Outcome, rows: int) -> dict[str, float]:
    figures = {"rows_left": float(outcome.rows_left), "calls_per_row": outcome.calls / rows}
    if outcome.worker_cpu_s:
        figures["worker_us_per_row"] = 1e6 * outcome.worker_cpu_s / rows
    if outcome.redis_cpu_s and outcome.calls:
        figures["redis_us_per_row"] = 1e6 * outcome.redis_cpu_s / rows
        figures["redis_us_per_call"] = 1e6 * outcome.script_s / outcome.calls
    if outcome.waits_s:
        figures["wait_p50_s"] = statistics.median(outcome.waits_s)
        figures["wait_most_s"] = max(outcome.waits_s)
    return figures


def _rejected_in_replay(case: Case, sent: list[Sent], dimensions: list[Dimension]) -> float:
    """Rows that the provider would have rejected: the worst of its bucket and all windows, of all limits."""
    worst = 0
    for dimension in dimensions:
        events = dimension.events(sent, rows=True)
        largest = max((amount for _, amount in events), default=0.0)
        if case.provider.bucket_s is not None:
            depth = max(case.provider.bucket_s * dimension.rate, largest)
            worst = max(worst, judge.rejected_by_bucket(events, dimension.rate, depth))
        for window_s in case.provider.windows_s:
            limit = dimension.rate * window_s
            if judge.worst_window(events, window_s) <= limit * (1 + 1e-9):
                continue
            offsets = (window_s * step / ALIGNMENTS for step in range(ALIGNMENTS))
            worst = max(worst, *(judge.rejected_by_windows(events, limit, window_s, each) for each in offsets))
    return float(worst)


def _rejected_live(case: Case, outcome: Outcome, binding: Dimension) -> dict[str, float]:
    """What the provider said while rows went, and what could have gone, the cut counted."""
    rejected = sum(each.rows for each in outcome.sent if each.rejected)
    tried = max(1, sum(each.rows for each in outcome.sent))
    figures = {
        "rejected": float(rejected),
        "rejected_share": rejected / tried,
        "rejected_per_10000": 1e4 * rejected / tried,
    }
    cut_at = case.provider.cut_at
    if cut_at is not None:
        seconds = outcome.ended_s - outcome.started_s
        from_s = outcome.started_s + case.warm_s
        after_s = (1 - cut_at) * seconds + (case.provider.bucket_s or 0.0)  # what the bucket held counts as available
        available = binding.rate * (cut_at * seconds - case.warm_s + case.provider.cut_to * after_s)
        events = binding.events([each for each in outcome.sent if not each.rejected])
        figures["use_of_available"] = judge.total(events, from_s, outcome.ended_s) / available
    return figures


def _fairness(case: Case, outcome: Outcome, sent: list[Sent], dimensions: list[Dimension]) -> float:
    """Jain's index over the users that had work all the time, by dominant share per weight; the worst stretch."""
    seconds = outcome.ended_s - outcome.started_s
    edges = sorted({0.0, 1.0, *(edge for load in case.loads for edge in load.during)})
    worst = 1.0
    for begins, ends in pairwise(edges):
        from_s = outcome.started_s + begins * seconds + (AFTER_CHANGE_S if begins else case.warm_s)
        to_s = outcome.started_s + ends * seconds
        users = [
            user
            for user in case.users
            if any(
                load.user == user
                and load.one_row_every_s is None
                and load.during[0] <= begins
                and load.during[1] >= ends
                for load in case.loads
            )
        ]
        if users and to_s > from_s:
            shares = _user_shares(case, [each for each in sent if from_s <= each.at_s < to_s], dimensions)
            weighted = [shares[user] / case.user_weights.get(user, 1.0) for user in users]
            worst = min(worst, judge.jain(weighted))
    return worst


def _user_shares(case: Case, sent: list[Sent], dimensions: list[Dimension]) -> dict[str, float]:
    """Seconds of the whole pool, of the limit that each took most of."""
    taken = {(user, each.name): 0.0 for user in case.users for each in dimensions}
    for record in sent:
        for each in dimensions:
            taken[case.users[record.user], each.name] += each.amount(record) / each.rate
    return {user: max(taken[user, each.name] for each in dimensions) for user in case.users}


def _weight_error(case: Case, sent: list[Sent], dimensions: list[Dimension], steady: tuple[float, float]) -> float:
    """The worst of all users, and of all jobs among those of their user."""
    from_s, to_s = steady
    counted = [each for each in sent if from_s <= each.at_s < to_s]
    worst = judge.weight_error(_user_shares(case, counted, dimensions), case.user_weights)
    for user in case.users:
        jobs = {place: load.weight for place, load in enumerate(case.loads) if load.user == user}
        if len(jobs) < 2:
            continue
        shares = {str(place): float(sum(each.tokens for each in counted if each.load == place)) for place in jobs}
        worst = max(worst, judge.weight_error(shares, {str(place): weight for place, weight in jobs.items()}))
    return worst
