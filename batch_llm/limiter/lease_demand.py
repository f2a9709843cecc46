"""What one tenant asks the schedule for, and when.

Belongs here: from waiting rows to an item of a call. Not here: making the call (lease_caller.py), letting rows out
(pacing.py).

The next slice is booked when the last one begins and rows still wait or are said to follow: so slices follow each
other without a gap, and nobody holds more of the future than one slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batch_llm.limiter.lease_line import Line, Slice
from batch_llm.limiter.pacing import ready_at_s
from batch_llm.limiter.wire import Item

__all__ = [
    "MUCH_S",
    "Question",
    "ask_at_s",
    "hand_back_at_s",
    "has_demand",
    "is_short_of_permits",
    "item_of",
    "keep_more",
    "much_s",
    "question_of",
    "says_more",
    "take_back",
]

LISTED_ROWS = 256  # rows whose costs are added up for one question, at most ..
COVERED_ROWS = 1024  # .. behind so many that are covered; further ones are asked for again
HALF = 0.5
MOST_PERMITS = 4096
SLICES_PER_PERMITS = 6  # so many slices use up the permits: in longer ones rows would miss their moment for want of one
SHORT_FOR_S = 2.0  # so long after a row had to wait for a permit they are scarce
IDLE_S = 0.05  # what nobody has wanted for so long is handed back
FREE_S = 0.02  # permits likewise: so long, that requests which end together are reported together
BACK_IN_S, BACK_AT_MOST_S = 0.5, 2.0  # so soon a consumer that said `more` is expected back
ENDED_FOR_S = 0.5  # requests that ended in so many seconds tell how many will until a slice begins
MUCH_S, MUCH_OF_SLICE, MOST_S = 0.02, 0.1, 0.05  # refunds and debts above this are told soon
TINY = 1e-6  # units; floating point only


def says_more(line: Line, now_s: float) -> bool:
    """Whether rows will follow those that are listed."""
    return now_s < line.more_until_s or any(waiter.more for waiter in line.waiters)


def has_demand(line: Line, now_s: float) -> bool:
    """Whether anybody waits, or will be back soon."""
    return bool(line.waiters) or now_s < line.more_until_s


def keep_more(line: Line, now_s: float) -> None:
    """The consumer said `more` and goes: it is expected back within about one slice."""
    length_s = 0.0
    if line.slices and line.slices[-1].end_s < math.inf:
        length_s = 1.5 * (line.slices[-1].end_s - line.slices[-1].begins_s)
    line.more_until_s = now_s + min(BACK_AT_MOST_S, max(BACK_IN_S, length_s))


def is_short_of_permits(line: Line) -> bool:
    """Rows wait, and every permit is taken."""
    return 0 <= line.permits <= line.in_flight and bool(line.waiters)


def ask_at_s(line: Line, now_s: float) -> float:
    """When to ask for the next slice or for permits; infinite while there is no reason to."""
    if not has_demand(line, now_s):
        return math.inf
    if is_short_of_permits(line):
        return line.permits_at_s
    if line.pace.count == 0 or line.covered:
        return math.inf
    if not line.slices:
        return line.ask_at_s
    if not line.waiters and sum(_is_live(line, piece, now_s) for piece in line.slices) > 1:
        return math.inf  # it does not use what it has
    last = line.slices[-1]
    idle = last.spent and line.pace.seconds(last.left) > IDLE_S  # a long row does not fit, and time goes by
    return max(line.ask_at_s, last.begins_s + (0.0 if idle else line.patience_s()))


def _is_live(line: Line, piece: Slice, now_s: float) -> bool:
    if not piece.start_s <= now_s < piece.end_s:
        return False
    return all(held > TINY or total == 0 for held, total in zip(piece.left, line.mean_sum, strict=True))


def hand_back_at_s(line: Line, now_s: float) -> float:
    """When slices or permits that nobody wants are handed back; infinite without any."""
    if has_demand(line, now_s):
        return math.inf
    at_s = math.inf
    if line.slices:
        at_s = max(line.idle_from_s, line.more_until_s) + IDLE_S
    if line.permits > line.in_flight:
        free_from_s = line.free_from_s if line.free_from_s < math.inf else line.idle_from_s
        at_s = min(at_s, max(free_from_s, line.more_until_s) + FREE_S)
    return at_s


@dataclass(slots=True)
class Question:
    """What to book: see `wire.Item`."""

    rows: int
    more: bool
    cost: list[float]
    first: list[float]
    seen: int = 0  # with the rows that what is booked covers
    is_full: bool = False  # one row more, and it would be longer than suits


def question_of(line: Line, now_s: float) -> Question | None:
    """What to ask for now; None when what is booked covers it."""
    room = _room(line, now_s)
    question = _listed(line, now_s, room, _held(line, now_s))
    if room >= LISTED_ROWS:
        question.more = question.more or says_more(line, now_s)
    elif question.seen < room and line.mean_of and says_more(line, now_s):
        _add_rows(line, question, room - question.seen)
    if line.pace.seconds(question.cost if question.rows else line.mean_sum) <= 0:
        question.more = False  # only a limit per minute bounds a slice: else it would be all that is left of the day
    if question.more and line.mean_of and not question.is_full:
        _fill_up(line, question)
    if question.rows == 0 or (line.pace.count and max(question.cost) <= TINY):
        return None
    return question


def _held(line: Line, now_s: float) -> list[float]:
    """What is booked already and can still be sent, units.

    Nothing, where it seems to be enough for the first row, but has no time left for it: that row would wait for ever.
    """
    nothing = [0.0] * line.pace.count
    held = list(nothing)
    for piece in line.slices:
        until_s = piece.end_s + line.pace.slack_s
        if (now_s <= until_s or piece.spent) and max(piece.next_s) <= until_s:
            held = [total + left for total, left in zip(held, piece.left, strict=True)]
    first = next((waiter.costs[0] for waiter in line.waiters if not waiter.future.done()), None)
    if first is None or is_short_of_permits(line) or not _covers(held, line.pace.measures.reserved(first)):
        return held
    return held if ready_at_s(line, first) < math.inf else nothing


def _covers(held: Sequence[float], amounts: Sequence[float]) -> bool:
    return all(amount - has <= TINY for amount, has in zip(amounts, held, strict=True))


def _fill_up(line: Line, question: Question) -> None:
    """Rows that are not here yet will be like those before."""
    missing_s = max(0.0, line.suits_s - line.pace.seconds(question.cost))
    mean_s = line.pace.seconds(line.mean_sum) / line.mean_of
    _add_rows(line, question, missing_s / mean_s if mean_s > 0 else 0.0)


def _add_rows(line: Line, question: Question, count: float) -> None:
    mean = [total / line.mean_of for total in line.mean_sum]
    count = max(0 if question.rows else 1, round(count))
    if not question.rows:
        question.first = mean
    question.rows += count
    question.cost = [total + count * each for total, each in zip(question.cost, mean, strict=True)]


def item_of(line: Line, now_s: float, question: Question | None) -> Item:
    """What one tenant reports and asks for; takes the report out of the line."""
    nothing = [0.0] * line.pace.count
    question = question or Question(0, False, nothing, nothing)
    waiting = line.rows_waiting()
    wanted = MOST_PERMITS if says_more(line, now_s) else line.in_flight + waiting
    if line.permits >= 0:
        line.permits = min(line.permits, line.in_flight)  # until the reply: the schedule may give the others away
    done, used, unused = line.done, line.used, line.unused
    line.done, line.used, line.unused = list(nothing), list(nothing), list(nothing)
    line.reported_at_s = now_s
    line.tell_at_s = math.inf
    return Item(
        user=line.tenant.user,
        job=line.tenant.job,
        lane=line.lane,
        weight=line.tenant.weight,
        rows=question.rows,
        more=question.more,
        cost=question.cost,
        first=question.first,
        largest=list(line.largest),
        done=done,
        used=used,
        unused=unused,
        waiting=waiting,
        in_flight=line.in_flight,
        permits_wanted=min(MOST_PERMITS, wanted),
    )


def much_s(line: Line) -> float:
    """Refunds and debts above so many seconds of the pool are told soon.

    Else waves arise: what is told late is booked by everybody at once.
    """
    return max(MUCH_S, min(MOST_S, MUCH_OF_SLICE * line.slice_s))


def take_back(line: Line, item: Item) -> None:
    """The call did not arrive: what it reported is still to be reported."""
    for kept, sent in ((line.done, item.done), (line.used, item.used), (line.unused, item.unused)):
        for place, amount in enumerate(sent):
            kept[place] += amount


def _listed(line: Line, now_s: float, room: int, held: list[float]) -> Question:
    """Add up the rows waiting that what is ``held`` does not cover: about as many as a slice best holds.

    Then the slice holds just these rows: none stands across its end, and no dimension runs out before the others. Of
    the first row what is missing; but a dimension that it finds enough of is asked for in full: it is not what binds,
    and what is held of it may pass. ``room``: no rows behind so many are worth a booking.
    """
    measure, most, seconds = line.pace.measures.reserved, line.pace.most, line.pace.seconds
    rows, seen, cost, first, largest = 0, 0, *([0.0] * line.pace.count for _ in range(3))
    more = is_full = False
    every = (cost for waiter in line.waiters if not waiter.future.done() for cost in waiter.costs)
    for amounts in map(measure, every):
        if (rows if room >= LISTED_ROWS else seen) == room:
            more = True
            break
        if any(amount > limit for amount, limit in zip(amounts, most, strict=True)):
            break  # it will be refused when it is its turn
        seen += 1
        if not any(amounts):
            continue  # takes nothing that is limited
        largest = [max(pair) for pair in zip(largest, amounts, strict=True)]
        missing: Sequence[float] = amounts
        if not rows:
            if seen <= COVERED_ROWS and _covers(held, amounts):
                held = [has - amount for has, amount in zip(held, amounts, strict=True)]
                continue
            missing = first = [
                amount - has if has < amount else amount for amount, has in zip(amounts, held, strict=True)
            ]
        elif room >= LISTED_ROWS and 0 < line.suits_s < seconds(cost) + HALF * seconds(missing):
            more = is_full = True
            break
        cost = [total + amount for total, amount in zip(cost, missing, strict=True)]
        rows += 1
    line.note_largest(tuple(largest), now_s)
    return Question(rows, more and room >= LISTED_ROWS, cost, first, seen, is_full)


def _room(line: Line, now_s: float) -> int:
    """How many rows are worth a booking: those that will have a permit when the slice begins.

    Else the slice would go by unused, and the rate would seem to be used up.
    """
    if line.permits < 0:
        return LISTED_ROWS
    if now_s - line.ended_from_s > ENDED_FOR_S:
        line.ended_before, line.ended, line.ended_from_s = line.ended, 0, now_s
    if line.reported_at_s == -math.inf:
        return 1  # nobody knows yet how many permits there will be
    if now_s - line.short_s > SHORT_FOR_S and 2 * line.in_flight <= line.permits:
        return LISTED_ROWS  # there are plenty
    ended_per_s = max(line.ended, line.ended_before) / ENDED_FOR_S
    free = line.permits - line.in_flight + math.floor(ended_per_s * line.ahead_s)
    return max(0, min(LISTED_ROWS, math.ceil(line.permits / SLICES_PER_PERMITS), free))
