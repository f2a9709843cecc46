"""Cheap random numbers and words from a few bytes.

Belongs here: the stream of random numbers behind answers and latencies. Not here: what is made of them.
"""

from __future__ import annotations

import math
import random
from functools import cache
from statistics import NormalDist

__all__ = ["Draw", "lognormal", "words"]

MASK = 2**64 - 1
CORPUS_WORDS = 12_000
_VOCABULARY = """
able above across after again along among answer around aside basin before below beside better between bridge
bright broad calm carry center change clear close common coast corner course daily deeper demand distant early
either enough equal every fair field figure firm first follow forest former gentle given growth half harbor
higher hill hour inner island just keep larger later lead level light little lower main market matter measure
middle modest month morning narrow near next north often only open order other outer over pace part path plain
point price quarter quiet rather reach region report rise river road same season second short side slow small
south spring stable steady still stone stream summer table third time toward trade under upper valley very
view village warm water week west while wider wind winter within work year
"""


class Draw:
    """A stream of random numbers (splitmix64): the same start gives the same numbers."""

    __slots__ = ("_state",)

    def __init__(self, start: int) -> None:
        """``start``: any 64 bits."""
        self._state = start & MASK

    def below(self, end: int) -> int:
        """A whole number from 0 to ``end`` - 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        bits = self._state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
        return (bits ^ (bits >> 31)) % end

    def share(self) -> float:
        """A number strictly between 0 and 1."""
        return (self.below(2**53) + 0.5) / 2**53


_inverse_normal = NormalDist().inv_cdf


def lognormal(draw: Draw, median: float, sigma: float) -> float:
    """A lognormal number with this median and this standard deviation of its logarithm."""
    return median * math.exp(sigma * _inverse_normal(draw.share())) if sigma else median


@cache
def _corpus() -> tuple[str, tuple[int, ...]]:
    """Plain text without meaning, and where its words begin."""
    chosen = random.Random(1).choices(_VOCABULARY.split(), k=CORPUS_WORDS)
    starts, at = [], 0
    for word in chosen:
        starts.append(at)
        at += len(word) + 1
    return " ".join(chosen) + " ", tuple(starts)


def words(draw: Draw, length: int) -> str:
    """Exactly ``length`` characters of ASCII words; never begins or ends with a space."""
    text, starts = _corpus()
    start = starts[draw.below(len(starts))]
    while len(text) < start + length:
        text += text
    piece = text[start : start + length]
    return piece[:-1] + "s" if piece.endswith(" ") else piece
