"""Letting one tenant's rows out of the slices that were booked for it.

Belongs here: which rows may go now, when the next one may, what becomes of the rest of a slice. Not here: waiting
(leasing.py), booking (lease_caller.py). Nothing here knows asyncio or a clock.

A row goes when its slice has begun and its time has come in every dimension; then each dimension's time moves on by
what the row takes, from the planned time, not from now: timers wake 0.2-2 ms late, and that must not cost 10-50 % of
1,000 rows per second. Lateness beyond the slack is lost for good. Nothing is ever early. What a slice still holds when
its time has passed is void: reported as used, so that nobody sends it later. Only a rest smaller than the next row
moves on to the next slice.
Invariant: in any window of t seconds one line sends at most rate * (t + slack) + one row, per dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from batch_llm.limiter.base import Cost, Reservation
from batch_llm.limiter.lease_line import EPSILON_S, Leased, Line, Slice
from batch_llm.limiter.measures import Amounts

__all__ = ["follow", "hand_back", "is_to_come", "put_back", "ready_at_s", "take", "void_begun"]

TINY = 1e-6  # units; floating point only


def take(line: Line, costs: Sequence[Cost], now_s: float) -> list[Reservation]:
    """Let out the rows at the front of ``costs`` that may go now."""
    pace = line.pace
    rows: list[Reservation] = []
    stop = len(costs)
    if 0 <= line.permits < line.in_flight + stop:
        stop, line.short_s = line.permits - line.in_flight, now_s
    if stop <= 0 or now_s < pace.paused_until_s:
        return rows
    while True:
        if pace.count:
            _take_from_slices(line, costs, rows, (stop, now_s))
        if len(rows) == stop or any(pace.measures.reserved(costs[len(rows)])):
            break
        rows.append(Leased(None, line, costs[len(rows)], (0.0,) * pace.count, now_s))  # takes nothing that is limited
    if rows:
        line.in_flight += len(rows)
        line.last_granted_s = now_s
    return rows


def _take_from_slices(line: Line, costs: Sequence[Cost], rows: list[Reservation], until: tuple[int, float]) -> None:
    """Go along the slices that have begun; several may run at once, where refunds brought the schedule back."""
    (stop, now_s), pace, slices = until, line.pace, line.slices
    walk = _WALKS.get(pace.count, _walk)
    number = 0
    while len(rows) < stop and number < len(slices):
        piece = slices[number]
        if piece.start_s > now_s + EPSILON_S:
            number += 1
            continue
        if now_s > piece.end_s + pace.slack_s and _holds(piece.left, pace.measures.reserved(costs[len(rows)])):
            if number + 1 < len(slices):
                slices[number + 1].next_s = _behind(piece, slices[number + 1])
            else:
                _remember(line, piece)
            _void(line, piece)
            del slices[number]
            continue
        if number:
            piece.next_s = _behind(slices[number - 1], piece)
        before, had = len(rows), list(piece.left)
        waits = walk(line, piece, (costs, rows), until)
        if len(rows) > before:
            line.count_rows([was - left for was, left in zip(had, piece.left, strict=True)], len(rows) - before)
            line.last_piece = piece
        if waits or not _move_on(line, number, pace.measures.reserved(costs[len(rows)]), now_s):
            number += 1


def ready_at_s(line: Line, cost: Cost) -> float:
    """When a row may go, as far as is booked; infinite while nothing is, or no permit is free."""
    if 0 <= line.permits <= line.in_flight:
        return math.inf
    pace = line.pace
    amounts = pace.measures.reserved(cost)
    if not pace.count:
        return pace.paused_until_s
    best_s = math.inf
    before: Slice | None = None
    for piece in line.slices:
        left, next_s, start_s = piece.left, piece.next_s, piece.start_s
        if before is not None and _holds(before.left, amounts):
            next_s = _behind(before, piece)
        elif before is not None:
            left, next_s, start_s = _after(line, before, piece, amounts)
        before = piece
        if _holds(left, amounts):
            times = [at_s - _early_s(line, n, amounts) for n, at_s in enumerate(next_s) if amounts[n] > 0]
            at_s = max([start_s, *times])
            if at_s <= piece.end_s + pace.slack_s:  # else it is void by then
                best_s = min(best_s, at_s)
    return max(best_s, pace.paused_until_s)


def _behind(before: Slice, piece: Slice) -> list[float]:
    """When the next row may start in a slice, after what a late slice before it still sent."""
    if before.end_s > piece.begins_s + EPSILON_S or before.epoch != piece.epoch:
        return piece.next_s
    return [max(pair) for pair in zip(piece.next_s, before.next_s, strict=True)]


def put_back(line: Line, row: Leased, now_s: float) -> None:
    """A row was never sent: its place may be taken again as far as its time has not passed; the rest is void."""
    pace, piece = line.pace, row.piece
    if piece is None:
        return
    to_come = is_to_come(line, row, now_s)
    if to_come and piece not in line.slices:
        line.slices.appendleft(piece)
    for place, amount in enumerate(row.amounts):
        line.let_out[place] -= amount
        if to_come and (now_s <= piece.ends_s[place] or not pace.clocks[place]):
            piece.left[place] += amount
            earlier_s = piece.next_s[place] - amount * pace.unit_s[place]
            piece.next_s[place] = min(piece.next_s[place], max(earlier_s, now_s - piece.slack_s[place]))
        elif pace.clocks[place]:
            line.done[place] += amount
            line.used[place] += amount
        else:
            line.unused[place] += amount


def is_to_come(line: Line, row: Leased, now_s: float) -> bool:
    """Whether the time of a row's slice has not passed, and nothing was let out after it: that keeps its distance."""
    piece = row.piece
    if piece is None or piece is not line.last_piece or row.granted_at_s < line.last_granted_s:
        return False
    return now_s <= piece.end_s


def hand_back(line: Line, now_s: float, *, begun: bool) -> None:
    """Report slices as not used, as far as their time has not come; the rest is void. ``begun``: those as well."""
    kept = []
    line.covered = False
    while line.slices:
        piece = line.slices.popleft()
        if not begun and piece.begins_s <= now_s:
            kept.append(piece)
            continue
        _remember(line, piece)
        for place in range(line.pace.count):
            _give_up(line, piece, place, (piece.left[place], now_s))
        piece.left = [0.0] * line.pace.count  # a row that comes back finds it empty
    line.slices.extend(kept)


def void_begun(line: Line, now_s: float) -> None:
    """Nothing of what has begun may be sent any more."""
    for piece in [piece for piece in line.slices if piece.begins_s <= now_s]:
        _remember(line, piece)
        _void(line, piece)
        line.slices.remove(piece)


def follow(line: Line, piece: Slice) -> None:
    """Add a slice that was booked; what was sent beyond the slices before it still keeps its distance."""
    if not line.slices and line.beyond is not None:
        ends_s, beyond_s = line.beyond
        piece.next_s = [
            max(at_s, min(at_s, end_s) + late_s)
            for at_s, end_s, late_s in zip(piece.next_s, ends_s, beyond_s, strict=True)
        ]
        line.beyond = None
    line.slices.append(piece)


def _remember(line: Line, piece: Slice) -> None:
    """A slice goes whose last row is still paying for itself."""
    beyond_s = [max(0.0, at_s - end_s) for at_s, end_s in zip(piece.next_s, piece.ends_s, strict=True)]
    if any(beyond_s):
        line.beyond = (piece.ends_s, beyond_s)


def _move_on(line: Line, number: int, amounts: Amounts, now_s: float) -> bool:
    """The next row does not fit into a slice: its rest goes into the next one. False: there is none yet."""
    head = line.slices[number]
    head.spent = True
    line.covered = False
    for place, (left, amount) in enumerate(zip(head.left, amounts, strict=True)):
        if left > amount:
            _give_up(line, head, place, (left - amount, now_s))
            head.left[place] = amount
    if number + 1 == len(line.slices):
        return False
    del line.slices[number]
    following = line.slices[number]
    following.left, following.next_s, following.start_s = _after(line, head, following, amounts)
    head.left = [0.0] * len(head.left)  # a row that comes back finds it empty
    return True


def _after(line: Line, head: Slice, following: Slice, amounts: Amounts) -> tuple[list[float], list[float], float]:
    """What the next slice holds, and from when, once the rest of the one before it is added.

    A rest smaller than a row moves on. Where the two slices meet, the row may begin in the first one; else it was sent
    beyond its slice before, and the next slice begins so much later.
    """
    meet = any(following.joined)
    left, next_s = [], []
    for place, held in enumerate(head.left):
        rest = min(held, amounts[place])
        at_s = following.next_s[place]
        left.append(following.left[place] + rest)
        if following.joined[place]:
            next_s.append(max(head.next_s[place], at_s - rest * line.pace.unit_s[place]))
        elif meet and held >= amounts[place]:
            next_s.append(head.next_s[place])  # the first slice has enough of it for this row
        elif following.left[place] < amounts[place]:  # the row needs the rest, whose time is the first slice's
            next_s.append(max(at_s, head.next_s[place]))
        else:
            end_s = head.ends_s[place]
            next_s.append(max(at_s, min(at_s, end_s) + max(0.0, head.next_s[place] - end_s)))
    return left, next_s, -math.inf if meet else following.start_s


def _give_up(line: Line, piece: Slice, place: int, rest: tuple[float, float]) -> None:
    """Report a part of a slice: not used as far as it could still be sent after ``rest[1]``, else void."""
    amount, now_s = rest
    if piece.epoch != line.pace.epoch or amount <= 0:
        return
    to_come = amount
    if line.pace.clocks[place]:
        left_s = max(0.0, piece.end_s - max(now_s, piece.next_s[place]))
        to_come = min(amount, piece.booked[place], left_s * line.pace.rates[place])
    line.unused[place] += to_come
    line.done[place] += amount - to_come
    line.used[place] += amount - to_come


def _void(line: Line, piece: Slice) -> None:
    line.covered = False
    if piece.epoch == line.pace.epoch:
        for place, amount in enumerate(piece.left):
            if line.pace.clocks[place]:
                line.done[place] += amount
                line.used[place] += amount
            else:
                line.unused[place] += amount  # a day's limit does not pass by unused
    piece.left = [0.0] * line.pace.count


def _holds(left: Sequence[float], amounts: Amounts) -> bool:
    return all(amount - held <= TINY for held, amount in zip(left, amounts, strict=True))


def _early_s(line: Line, place: int, amounts: Amounts) -> float:
    """How much earlier than its time a row may go in one dimension, being smaller than the largest."""
    if line.pace.play_s <= 0:
        return 0.0
    smaller = max(0.0, line.largest[place] - amounts[place])
    return min(line.pace.play_s, smaller * line.pace.unit_s[place])


# -- the walk along one slice -----------------------------------------------------------------------------------------
_Table = tuple[Sequence[Cost], list[Reservation]]  # what wants to go, and what goes
# One function per number of dimensions: this is the innermost loop, run for every row of every table. Each lets out
# rows until one must wait (True, also at the end of the list) or does not fit (False).


def _walk_one(line: Line, piece: Slice, table: _Table, until: tuple[int, float]) -> bool:
    (costs, rows), (stop, now_s) = table, until
    measure = line.pace.measures.reserved
    (unit_s,) = piece.unit_s or line.pace.unit_s
    next_s, left, soon_s = piece.next_s[0], piece.left[0] + TINY, now_s + EPSILON_S
    next_s = max(next_s, now_s - piece.slack_s[0])
    first = len(rows)
    waits = True
    for cost in costs[first:stop]:
        amounts = measure(cost)
        amount = amounts[0]
        if amount > left:
            waits = False
            break
        if next_s > soon_s and amount > 0:
            break
        left -= amount
        next_s += amount * unit_s
        rows.append(Leased(piece, line, cost, amounts, now_s))
    if len(rows) > first:
        piece.next_s[0] = next_s
        piece.left[0] = max(0.0, left - TINY)
    return waits


def _walk_two(line: Line, piece: Slice, table: _Table, until: tuple[int, float]) -> bool:
    (costs, rows), (stop, now_s) = table, until
    measure = line.pace.measures.reserved
    unit_0_s, unit_1_s = piece.unit_s or line.pace.unit_s
    next_0_s, next_1_s = piece.next_s
    next_0_s = max(next_0_s, now_s - piece.slack_s[0])
    next_1_s = max(next_1_s, now_s - piece.slack_s[1])
    left_0, left_1 = piece.left[0] + TINY, piece.left[1] + TINY
    soon_s, first = now_s + EPSILON_S, len(rows)
    waits = True
    for cost in costs[first:stop]:
        amounts = measure(cost)
        amount_0, amount_1 = amounts
        if amount_0 > left_0 or amount_1 > left_1:
            waits = False
            break
        if (next_0_s > soon_s or next_1_s > soon_s) and not _may_go((next_0_s, next_1_s), line, amounts, soon_s):
            break
        left_0 -= amount_0
        left_1 -= amount_1
        next_0_s += amount_0 * unit_0_s
        next_1_s += amount_1 * unit_1_s
        rows.append(Leased(piece, line, cost, amounts, now_s))
    if len(rows) > first:
        piece.next_s[0], piece.next_s[1] = next_0_s, next_1_s
        piece.left[0], piece.left[1] = max(0.0, left_0 - TINY), max(0.0, left_1 - TINY)
    return waits


def _walk(line: Line, piece: Slice, table: _Table, until: tuple[int, float]) -> bool:
    (costs, rows), (stop, now_s) = table, until
    measure, left, unit_s = line.pace.measures.reserved, piece.left, piece.unit_s or line.pace.unit_s
    for cost in costs[len(rows) : stop]:
        amounts = measure(cost)
        if not _holds(left, amounts):
            return False
        next_s = [max(at_s, now_s - late_s) for at_s, late_s in zip(piece.next_s, piece.slack_s, strict=True)]
        if not _may_go(next_s, line, amounts, now_s + EPSILON_S):
            return True
        for place, amount in enumerate(amounts):
            left[place] = max(0.0, left[place] - amount)
            piece.next_s[place] = next_s[place] + amount * unit_s[place]
        rows.append(Leased(piece, line, cost, amounts, now_s))
    return True


def _may_go(next_s: Sequence[float], line: Line, amounts: Amounts, soon_s: float) -> bool:
    """Whether a row's time has come in every dimension that it takes something of."""
    return all(
        at_s <= soon_s or amount <= 0 or at_s - _early_s(line, place, amounts) <= soon_s
        for place, (at_s, amount) in enumerate(zip(next_s, amounts, strict=True))
    )


_WALKS: dict[int, Callable[[Line, Slice, _Table, tuple[int, float]], bool]] = {
    1: _walk_one,
    2: _walk_two,
}
