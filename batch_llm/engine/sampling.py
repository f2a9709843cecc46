"""A fair sample of rows that pass by, and what it says of all of them.

Belongs here: which rows are looked at, the extrapolation. Not here: counting a row's tokens (estimating.py).

One row is drawn from each stretch of equal length, so that a sorted table, a table whose kinds of rows take turns, and
one whose texts grow are all seen as they are. What is counted hangs on the size of a row's text, and that is known of
every row for nothing: the sample says how they hang together, the known sizes give the total.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["EvenSample", "Total", "extrapolated", "is_drawn"]

_MIX = 0x9E3779B97F4A7C15  # spreads neighbouring numbers over 64 bits (Fibonacci hashing)
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Total:
    """What all rows together have, and how far the sample may be off."""

    amount: float
    error: float  # one standard error; 0: every row was looked at


def is_drawn(place: int, stretch: int) -> bool:
    """Whether the row at this place is the one that is drawn from its stretch of so many rows."""
    return place % stretch == _draw(place // stretch, stretch)


@dataclass(slots=True)
class EvenSample:
    """At least half of ``most`` and at most ``most`` rows of however many pass by, evenly; all of them if they fit."""

    most: int  # odd: the drawn rows are thinned out in whole pairs
    stretch: int = 1  # rows of which one is drawn; grows
    seen: int = 0  # rows that passed by
    sizes: int = 0  # of their texts, bytes
    # of a row: (text bytes, tokens, prompt bytes, tokens of its images)
    drawn: list[tuple[int, int, int, int]] = field(default_factory=list)

    def wants(self, size: int) -> bool:
        """A row whose text has ``size`` bytes passes by: whether it is drawn. Then `take` is to be called."""
        place = self.seen
        self.seen += 1
        self.sizes += size
        return is_drawn(place, self.stretch)

    def pass_by(self, rows: int, sizes: int) -> Iterator[int]:
        """So many rows pass by at once: which of them are drawn (0-based); each is to be taken before the next."""
        first, end = self.seen, self.seen + rows
        self.seen = end
        self.sizes += sizes
        number = first // self.stretch
        while number * self.stretch < end:
            place = number * self.stretch + _draw(number, self.stretch)
            if first <= place < end:
                yield place - first
            number = place // self.stretch + 1  # the stretch may have grown meanwhile

    def take(self, size: int, tokens: int, prompt_bytes: int, image_tokens: int = 0) -> None:
        """Keep a drawn row's figures; ``image_tokens``: of its tokens."""
        self.drawn.append((size, tokens, prompt_bytes, image_tokens))
        if len(self.drawn) > self.most:
            self.drawn = [self.drawn[2 * pair + _draw(pair, 2)] for pair in range(len(self.drawn) // 2)]
            self.stretch *= 2

    @property
    def whole(self) -> bool:
        """Whether every row was drawn."""
        return len(self.drawn) == self.seen

    def total_tokens(self) -> Total:
        """Of all rows that passed by."""
        return extrapolated([(size, tokens) for size, tokens, *_ in self.drawn], self.seen, self.sizes)

    def total_bytes(self) -> Total:
        """Of the prompts of all rows that passed by."""
        return extrapolated([(size, prompt) for size, _, prompt, _ in self.drawn], self.seen, self.sizes)

    def total_image_tokens(self) -> Total:
        """Of the images of all rows that passed by."""
        return extrapolated([(size, images) for size, _, _, images in self.drawn], self.seen, self.sizes)


def extrapolated(drawn: list[tuple[int, int]], rows: int, sizes: int) -> Total:
    """The total of all ``rows``, of which ``drawn`` are (size, amount), when all of them have these ``sizes`` together.

    A line through the sample, read at the mean size of all rows.
    """
    count = len(drawn)
    if not count:
        return Total(0.0, 0.0)
    if count >= rows:
        return Total(float(sum(amount for _, amount in drawn)), 0.0)
    mean_size = sum(size for size, _ in drawn) / count
    mean = sum(amount for _, amount in drawn) / count
    spread = sum((size - mean_size) ** 2 for size, _ in drawn)
    slope = sum((size - mean_size) * (amount - mean) for size, amount in drawn) / spread if spread else 0.0
    at_mean = mean + slope * (sizes / rows - mean_size)
    rest = sum((amount - mean - slope * (size - mean_size)) ** 2 for size, amount in drawn)
    error = rows * math.sqrt(rest / max(1, count - 2) / count * (1 - count / rows))
    return Total(max(0.0, at_mean * rows), error)


def _draw(number: int, among: int) -> int:
    """One of ``among``, as good as random, always the same for the same number."""
    mixed = ((number + 1) * _MIX) & _MASK
    mixed ^= mixed >> 32
    return ((mixed * _MIX) & _MASK) * among >> 64
