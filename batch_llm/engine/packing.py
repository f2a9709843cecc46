"""Which rows go into one call, where a call takes many.

Belongs here: the bounds of a call, packing rows in their order, halving a call. Not here: sending (providers), when a
call may go (limiter), what it may cost (money.py), splitting its bill (shares.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from batch_llm.errors import ErrorClass
from batch_llm.limiter.base import Limits
from batch_llm.providers.call_size import AS_OPENAI, CallSize

__all__ = ["CallBounds", "Packable", "Packer", "calls_needed", "halved", "packed"]

# What a call's request, and its answer, may weigh. 4 MiB are 512 vectors of 1,536 numbers: large enough that a call's
# own cost is nothing beside its rows', small enough that many may be in flight, and be read, in little memory.
CALL_BYTES = 4 << 20
BASE64_BYTES_PER_NUMBER = 16 / 3  # 4 bytes, 3 of which are 4 characters
# A predicted count may be low by 60 % (tokens.py), and a call that is too large is refused whole.
ESTIMATED_SHARE = 0.6
# Of a provider's fixed window, at most so much in one call: what is kept free for a late one is lost.
WINDOW_SHARE = 0.05

# What half of the rows may escape: a refusal that may be the fault of one, for which the others must not suffer, and
# money that is left for fewer.
FEWER_MAY_DO = frozenset(
    {ErrorClass.INVALID_REQUEST, ErrorClass.TOO_LARGE, ErrorClass.CONTENT_FILTER, ErrorClass.BUDGET}
)


class Packable(Protocol):
    """A row that waits for a call."""

    @property
    def input_tokens(self) -> int:
        """Predicted tokens of its text."""
        ...

    @property
    def input_bytes(self) -> int:
        """UTF-8 bytes of its text."""
        ...


Row = TypeVar("Row", bound=Packable)


@dataclass(frozen=True, slots=True)
class CallBounds:
    """How large one call may be. A row that alone is beyond `tokens` or `request_bytes` gets a call of its own."""

    rows: int = AS_OPENAI.texts
    tokens: int = AS_OPENAI.tokens
    request_bytes: int = CALL_BYTES
    row_tokens: int = AS_OPENAI.text_tokens  # the most one row may have; a longer one goes alone
    row_is_request: bool = False  # whether each row counts as a request on the limits

    @classmethod
    def of(cls, limits: Limits, dimensions: int, *, exact: bool, size: CallSize = AS_OPENAI) -> CallBounds:
        """The bounds for a pool and a size of vectors; ``exact``: tokens are counted; ``size``: what is taken there.

        A call takes from each limit on tokens at most what comes back in a second, so that the limiter's slack of one
        row stays small; where fewer than one request per second is allowed, what comes back per request, for smaller
        calls would waste it. Never more than the limit itself, for such a call could never go. Likewise of the limit on
        requests, where each text counts as one.
        """
        seconds = _seconds(limits, by_request=not size.text_is_request)
        tokens = size.tokens if exact else int(size.tokens * ESTIMATED_SHARE)
        for limit in (limits.tokens_per_minute, limits.input_tokens_per_minute):
            if limit is not None:
                tokens = min(tokens, int(limit / 60 * min(60.0, seconds)))
        if limits.tokens_per_day is not None:
            tokens = min(tokens, int(limits.tokens_per_day))
        answered = int(CALL_BYTES / (dimensions * BASE64_BYTES_PER_NUMBER))
        rows = min(size.texts, answered)
        if size.text_is_request and limits.requests_per_minute is not None:
            rows = min(rows, int(limits.requests_per_minute / 60 * seconds))
        if size.text_is_request and limits.requests_per_day is not None:
            rows = min(rows, int(limits.requests_per_day))
        return cls(max(1, rows), max(1, tokens), row_tokens=size.text_tokens, row_is_request=size.text_is_request)

    @classmethod
    def least(cls, each: Sequence[CallBounds]) -> CallBounds:
        """What holds whichever pool a call goes to."""
        return cls(
            rows=min(one.rows for one in each),
            tokens=min(one.tokens for one in each),
            request_bytes=min(one.request_bytes for one in each),
            row_tokens=min(one.row_tokens for one in each),
            row_is_request=any(one.row_is_request for one in each),
        )

    def holds(self, rows: int, tokens: int, size_bytes: int) -> bool:
        """Whether so much fits into one call."""
        return rows <= self.rows and tokens <= self.tokens and size_bytes <= self.request_bytes


def _seconds(limits: Limits, *, by_request: bool) -> float:
    """How many seconds of a limit one call may take; ``by_request``: a call counts as one, whatever it holds."""
    seconds = 1.0
    if by_request and limits.requests_per_minute is not None:
        seconds = max(seconds, 60 / limits.requests_per_minute)
    if limits.window_s is not None:
        seconds = min(seconds, limits.window_s * WINDOW_SHARE)
    return seconds


class Packer(Generic[Row]):
    """Packs rows as they come: `add` gives back the call that a row completes, `rest` what is left at the end."""

    def __init__(self, bounds: CallBounds) -> None:
        """Nothing waits yet."""
        self._bounds = bounds
        self._empty()

    def _empty(self) -> None:
        self._rows: list[Row] = []
        self._tokens = self._bytes = 0

    @property
    def row_is_request(self) -> bool:
        """See `CallBounds`."""
        return self._bounds.row_is_request

    def add(self, row: Row) -> list[list[Row]]:
        """Take a row; the calls that are full because of it, in order: none, one, or two."""
        full = []
        tokens, size_bytes = self._tokens + row.input_tokens, self._bytes + row.input_bytes
        alone = row.input_tokens > self._bounds.row_tokens
        if self._rows and (alone or not self._bounds.holds(len(self._rows) + 1, tokens, size_bytes)):
            full.append(self._rows)
            self._empty()
        self._rows.append(row)
        self._tokens += row.input_tokens
        self._bytes += row.input_bytes
        if alone or len(self._rows) == self._bounds.rows:
            full.append(self._rows)
            self._empty()
        return full

    def rest(self) -> list[list[Row]]:
        """What waits for more rows, when none will come."""
        rows = self._rows
        self._empty()
        return [rows] if rows else []


def packed(rows: Iterable[Row], bounds: CallBounds) -> Iterator[list[Row]]:
    """Calls for these rows, in their order: every row in exactly one, each as full as its neighbours allow."""
    packer: Packer[Row] = Packer(bounds)
    for row in rows:
        yield from packer.add(row)
    yield from packer.rest()


def halved(rows: Sequence[Row], refused: ErrorClass) -> list[list[Row]]:
    """What to ask instead of a call that was refused: two halves; nothing when the refusal is about this very row.

    A row that makes the provider refuse is found after at most log2(rows) halvings, and all others are answered. Empty
    also for failures that fewer rows would meet as well: those calls are tried again as they are (retry.py).
    """
    if refused not in FEWER_MAY_DO or len(rows) < 2:
        return []
    middle = len(rows) // 2
    return [list(rows[:middle]), list(rows[middle:])]


def calls_needed(rows: int, tokens: int, bounds: CallBounds) -> int:
    """About how many calls ask so many rows with so many tokens in all."""
    return max(math.ceil(rows / bounds.rows), math.ceil(tokens / bounds.tokens))
