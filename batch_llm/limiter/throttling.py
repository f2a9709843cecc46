"""How fast a pool goes: what is declared, changed by people, said by headers, and shown by 429s.

Belongs here: limits and rates in force, pauses, slowing down, probing. Not here: reading headers (headers.py), who gets
what (fair_share.py).

A 429 lowers the rate at once; those of the same wave lower it further, by the share that they are of what went
meanwhile. Where 429s came, there is the ceiling: below it the rate comes back fast, above it slowly. 429s that keep
coming at the same small share although the rate went down several times have nothing to do with the rate: they are
tolerated, and only the row that met one waits.
"""

from __future__ import annotations

import math

from batch_llm.limiter.memory import Memory
from batch_llm.limiter.step import Step
from batch_llm.limiter.wire import CLOCK, FIXED, ROLLING, UNDECLARED_DAY

__all__ = ["FADE_S", "learn", "listen", "probe", "set_speed"]

MINUTE_S = 60.0
LEAST_ROWS = 20.0  # fewer rows than this say little about the share rejected
SMALLEST_DECREASE, LARGEST_DECREASE = 0.07, 0.5  # share of the rate; the smallest times the strikes
LARGEST_AT_ONCE = 0.3  # of one wave of 429s; a larger cut shows in the next one
SMALLEST_FACTOR = 0.05  # of the limit
DECREASE_EVERY_S = 1.0
FADE_S = 1.0  # of the counts of granted and rejected rows
HOLD_S = 1.5  # after a 429, before probing
NEAR_CEILING = 0.96  # of the ceiling: below it fast, above it slowly
PROBE_BELOW_PER_S, PROBE_ABOVE_PER_S = 0.03, 0.001  # share of the limit won back per second
PROBE_QUIET_S, PROBE_SLOWEST, PROBE_FASTEST = 10.0, 0.1, 30.0  # above: times the square of quiet_s / PROBE_QUIET_S
SLOW_START_PER_S = 0.1  # of the rate: an unknown limit before its first 429
UNKNOWN_PER_S = 0.01  # of the limit: an unknown limit after it
LARGEST_FACTOR = 1e6
LONE_REJECTED, LONE_ROWS = 1.2, 100.0  # one 429 among so many rows says nothing
STRIKES = 4  # decreases within STRIKE_S of each other, each with few 429s: they come at any speed
STRIKE_S = 6.0
STRAY_SHARE = 0.1  # 429s above this share are always taken seriously
STRAY_ROOM = 2.0  # tolerated: so many times the share seen ..
STRAY_SPARE, STRAY_SPARE_SHARE = 3.0, 0.03  # .. and so many rows more, at most this share
TOLERATED_FOR_S = 120.0
LOW_WATER = 0.005  # of the limit per minute: below it the provider's bucket is as good as empty
MINUTE_BUCKET = 0.5  # a `remaining` above this share shows that the provider counts by the minute
LATE_S = 0.007  # kept free in a provider's fixed window: rows that start late, of the window before
WINDOW_SHARE_KEPT_FREE = 0.003  # of such a window, at least: rows that are longer on their way than others
LARGEST_SHARE_KEPT_FREE = 0.5  # rows above half a window are spaced by two rows' time: never two in one window
DAY_PAUSE_S = 60.0  # a day's limit that refills evenly, or is not declared, and did not say when


def listen(step: Step, observed: list[list[float]]) -> None:
    """Take over what headers said: place in the rules, units per second (-1: not said), remaining (-1: not said)."""
    memory = step.memory
    for n_, per_s, remaining in observed:
        n = int(n_)
        place = step.places[n]
        if per_s > 0 and per_s != memory.learned[place]:
            memory.learned[place] = per_s
            if step.unknown and memory.factor[place] > 1:
                memory.factor[place] = 1.0  # probing beyond the guess ends where the truth is known
        if remaining >= 0:
            _compare_level(step, n, remaining)


def _compare_level(step: Step, n: int, remaining: float) -> None:
    """Less left at the provider than we think: somebody else uses the account."""
    memory, now_s, place = step.memory, step.now_s, step.places[n]
    limit = _limit(step, n)
    if step.kinds[n] == FIXED:
        memory.tat[place] = max(memory.tat[place], limit * step.periods[n] - remaining)
        return
    burst_s = step.full_bursts[n]
    left = (now_s + burst_s - memory.tat[place]) * limit
    if burst_s > 0 and remaining < left:
        memory.tat[place] = now_s + burst_s - remaining / limit
    if step.kinds[n] == CLOCK:
        per_minute = limit * MINUTE_S
        if remaining > MINUTE_BUCKET * per_minute:
            memory.by_minute[place] = 1.0
        low_water = LOW_WATER * per_minute
        if remaining < low_water and memory.by_minute[place] > 0:
            held_until_s = now_s + burst_s + (low_water - remaining) / limit
            memory.tat[place] = max(memory.tat[place], held_until_s)


def learn(step: Step, throttles: list[list[float]]) -> None:
    """React to 429s: place in the rules (-1: not said), how many, seconds to wait (-1: not said)."""
    for n_, count, wait_s in throttles:
        n = int(n_)
        if n == UNDECLARED_DAY:
            _pause(step, wait_s if wait_s >= 0 else DAY_PAUSE_S, n)
            continue
        if n >= 0 and step.kinds[n] != CLOCK:
            _day_is_over(step, n, wait_s)
            continue
        _heed(step, n, (count, wait_s))


def _heed(step: Step, n: int, told: tuple[float, float]) -> None:
    """React to 429s about a limit per minute: ``n`` (-1: not said), how many, seconds to wait (-1: not said)."""
    (count, wait_s), memory = told, step.memory
    memory.rejected += count
    memory.struck_rejected += count
    memory.slow_start = 0.0
    is_lone = memory.rejected < LONE_REJECTED and memory.quiet_rows > LONE_ROWS
    memory.quiet_rows = 0.0
    share = memory.rejected / max(LEAST_ROWS, memory.rows)
    if memory.tolerated > 0 and memory.rejected <= _tolerated(memory):
        return
    if wait_s > 0:
        _pause(step, wait_s, -1)
    if is_lone:
        return
    hit = [n] if n >= 0 else [m for m in range(len(step.kinds)) if step.kinds[m] == CLOCK]
    for m in hit:  # the provider's bucket is empty: so is ours
        place = step.places[m]
        memory.tat[place] = max(memory.tat[place], step.now_s + step.full_bursts[m])
    if step.now_s - memory.decreased_s > DECREASE_EVERY_S:
        _slow_down(step, hit, share)
    else:
        _slow_down_more(step, hit)


def _tolerated(memory: Memory) -> float:
    """How many 429s say nothing of the rate; a few more than their share, as chance has it."""
    return memory.tolerated * memory.rows + min(STRAY_SPARE, STRAY_SPARE_SHARE * memory.rows)


def _slow_down(step: Step, hit: list[int], share: float) -> None:
    memory, now_s = step.memory, step.now_s
    if _is_strike(memory, now_s, share):
        memory.strikes += 1
    else:
        memory.strikes = 1.0
        memory.struck_rows = memory.struck_rejected = 0.0
        memory.before_strikes = list(memory.factor)
    memory.decreased_s = now_s
    memory.version += 1
    if memory.strikes >= STRIKES:
        memory.factor = list(memory.before_strikes)
        memory.ceiling = list(memory.before_strikes)
        stray = memory.struck_rejected / max(LEAST_ROWS, memory.struck_rows)
        memory.tolerated = min(STRAY_SHARE, STRAY_ROOM * stray)
        memory.tolerated_s = now_s
        memory.strikes = 0.0
        memory.decrease = 1.0
        memory.pause_until_s = now_s
        return
    decrease = min(LARGEST_DECREASE, max(SMALLEST_DECREASE * memory.strikes, share))
    for m in hit:
        place = step.places[m]
        memory.ceiling[place] = memory.factor[place] * (1 - min(LARGEST_DECREASE, share))
        memory.factor[place] = max(SMALLEST_FACTOR, memory.factor[place] * (1 - decrease))
    memory.rejected = 0.0
    memory.decrease = decrease


def _slow_down_more(step: Step, hit: list[int]) -> None:
    """The 429s that follow a first one show how much too high the rate was: of what went meanwhile, so many failed.

    The little that is sure: a share that is larger by chance would cost much. Where nearly everything fails, the
    provider's window is used up, which tells nothing of the rate.
    """
    memory = step.memory
    went = memory.rows * (step.now_s - memory.decreased_s) / FADE_S
    share = (memory.rejected - math.sqrt(memory.rejected)) / max(LEAST_ROWS, went)
    if share > LARGEST_DECREASE:
        return
    share = min(LARGEST_AT_ONCE, share)
    if share <= memory.decrease:
        return
    for m in hit:
        place = step.places[m]
        memory.factor[place] = max(SMALLEST_FACTOR, memory.factor[place] * (1 - share) / (1 - memory.decrease))
        memory.ceiling[place] = memory.factor[place]
    memory.decrease = share
    if share >= STRAY_SHARE:
        memory.strikes = 0.0


def _is_strike(memory: Memory, now_s: float, share: float) -> bool:
    recent = now_s - max(memory.decreased_s, memory.pause_until_s) < STRIKE_S
    return memory.strikes > 0 and recent and share < STRAY_SHARE


def _day_is_over(step: Step, n: int, wait_s: float) -> None:
    """The provider says that the day's limit is used up: pause until it is there again."""
    memory, now_s, place = step.memory, step.now_s, step.places[n]
    if step.kinds[n] == FIXED:
        memory.tat[place] = max(memory.tat[place], _limit(step, n) * step.periods[n])
        if wait_s < 0:
            wait_s = step.period_ends_in_s(n)
    else:
        memory.tat[place] = max(memory.tat[place], now_s + step.full_bursts[n])
        if wait_s < 0:
            wait_s = DAY_PAUSE_S
    _pause(step, wait_s, n)


def _pause(step: Step, wait_s: float, dimension: int) -> None:
    memory, until_s = step.memory, step.now_s + wait_s
    if until_s > memory.pause_until_s:
        memory.pause_until_s = until_s
        memory.pause_dimension = float(dimension)
        memory.version += 1


def probe(step: Step) -> None:
    """Win speed back while nothing is rejected; beyond an unknown limit while rows wait."""
    memory, now_s = step.memory, step.now_s
    quiet_s = now_s - max(memory.decreased_s, memory.pause_until_s)
    if memory.tolerated > 0 and now_s - memory.tolerated_s > TOLERATED_FOR_S:
        memory.tolerated = 0.0
    if quiet_s <= HOLD_S or step.elapsed_s <= 0:
        return
    elapsed_s = min(step.elapsed_s, 1.0)  # an idle hour proves nothing
    tens = quiet_s / PROBE_QUIET_S
    pace = min(PROBE_FASTEST, max(PROBE_SLOWEST, tens * tens))
    busiest = _busiest(step)
    for n, place in enumerate(step.places):
        factor = memory.factor[place]
        if step.kinds[n] != CLOCK:
            continue
        if factor < 1:
            near = factor >= NEAR_CEILING * memory.ceiling[place]
            per_s = PROBE_ABOVE_PER_S * pace if near else PROBE_BELOW_PER_S
            memory.factor[place] = min(1.0, factor + per_s * elapsed_s)
        elif n == busiest and step.unknown and memory.learned[place] == 0 and memory.backlogged:
            grown = factor * (1 + (SLOW_START_PER_S if memory.slow_start > 0 else UNKNOWN_PER_S) * elapsed_s)
            memory.factor[place] = min(LARGEST_FACTOR, grown)


def _busiest(step: Step) -> int:
    """The dimension that is booked furthest ahead; -1 without any."""
    busiest, latest_s = -1, 0.0
    for n, place in enumerate(step.places):
        if step.kinds[n] == CLOCK and (busiest < 0 or step.memory.tat[place] - step.full_bursts[n] > latest_s):
            busiest, latest_s = n, step.memory.tat[place] - step.full_bursts[n]
    return busiest


def _limit(step: Step, n: int) -> float:
    """Units per second: a person's word, else the lower of what is declared and what the provider says."""
    memory, place = step.memory, step.places[n]
    if memory.changed[place] > 0:
        return memory.changed[place]
    learned = memory.learned[place]
    if learned > 0:
        return learned if step.unknown else min(learned, step.declared[n])
    return step.declared[n]


def set_speed(step: Step) -> None:
    """Fill in `Step.limits` and `Step.rates`."""
    step.keep_live_reserve()
    for n, place in enumerate(step.places):
        limit = _limit(step, n)
        step.limits[n] = limit
        if step.kinds[n] == CLOCK:
            if step.windows[n] > 0:
                limit = _in_windows(limit, step.windows[n], step.memory.largest[place], whole=place == 0)
            step.rates[n] = limit * step.memory.factor[place]
        else:
            step.rates[n] = limit if step.kinds[n] == ROLLING else 0.0


def _in_windows(rate: float, window_s: float, largest: float, *, whole: bool) -> float:
    """A little less than ``rate``, so that no fixed window of the provider overflows wherever it begins."""
    per_window = rate * window_s
    if whole:
        fits = math.floor(per_window + 1e-9) if per_window >= 1 else per_window  # half a request never fits
        return fits / window_s * (1 - _kept_free(LATE_S / window_s))
    row = largest / per_window
    if row > 1:  # no window could take such a row, so this dimension is not counted in these windows
        row = 0.0
    return rate * (1 - _kept_free(row + LATE_S / window_s))


def _kept_free(share: float) -> float:
    return min(LARGEST_SHARE_KEPT_FREE, max(WINDOW_SHARE_KEPT_FREE, share))
