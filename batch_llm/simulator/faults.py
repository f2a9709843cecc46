"""Which attempt goes wrong, and how: a pure function of seed, prompt and attempt number.

Belongs here: the kinds of fault, the 5 % mix, the draw. Not here: putting a fault on the wire (delivery.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b

__all__ = ["CLOSES", "MIXED_SHARES", "FaultKind", "FaultPlan", "mixed", "parse_faults"]


class FaultKind(StrEnum):
    """What can go wrong with one attempt."""

    SERVER_ERROR = "server_error"  # 500
    OVERLOADED = "overloaded"  # 503
    RATE_LIMIT = "rate_limit"  # a 429 with retry-after although the limit has room
    RESET = "reset"  # the connection is reset before any byte
    HANG = "hang"  # never answers, until the client closes
    DRIP = "drip"  # the good answer, a few bytes at a time over drip_s
    TRUNCATED = "truncated"  # half of the body that content-length announced, then closed
    MALFORMED = "malformed"  # 200 with a body that is not JSON
    LENGTH = "length"  # half of the text, finish_reason length
    EMPTY = "empty"  # finish_reason stop and no text
    USAGE = "usage"  # the good text with negative, absurd or no usage


# These end with a connection that we close, or that we leave to the client to close.
CLOSES = frozenset({FaultKind.RESET, FaultKind.HANG, FaultKind.TRUNCATED})

# How a plain share is spread, in percent of it. Our own choice: no provider publishes such figures.
MIXED_SHARES: Mapping[FaultKind, int] = {
    FaultKind.SERVER_ERROR: 15,
    FaultKind.OVERLOADED: 10,
    FaultKind.RATE_LIMIT: 15,
    FaultKind.RESET: 15,
    FaultKind.HANG: 3,
    FaultKind.DRIP: 6,
    FaultKind.TRUNCATED: 12,
    FaultKind.MALFORMED: 8,
    FaultKind.LENGTH: 8,
    FaultKind.EMPTY: 4,
    FaultKind.USAGE: 4,
}


def mixed(share: float) -> dict[FaultKind, float]:
    """Faults of all kinds that together hit this share of the attempts."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of faults lies between 0 and 1, got {share}")
    return {kind: share * percent / 100 for kind, percent in MIXED_SHARES.items()}


def parse_faults(text: str | float) -> dict[FaultKind, float]:
    """Read ``0.05`` (a mix of all kinds) or ``reset=0.02,hang=0.01``; raises ValueError with the known kinds."""
    try:
        return mixed(float(text))
    except ValueError:
        if not isinstance(text, str) or "=" not in text:
            raise ValueError(f"faults are a share like 0.05 or kind=share pairs, got {text!r}") from None
    faults = {}
    for pair in text.split(","):
        kind, _, share = pair.partition("=")
        if kind.strip() not in set(FaultKind):
            raise ValueError(f"unknown kind of fault {kind.strip()!r}; known: {', '.join(FaultKind)}")
        faults[FaultKind(kind.strip())] = float(share)
    return faults


class FaultPlan:
    """Draws the fault of an attempt. The same seed, prompt and attempt always draw the same."""

    def __init__(self, seed: int, shares: Mapping[FaultKind, float]) -> None:
        """``shares``: probability per kind; together at most 1."""
        self._key = seed.to_bytes(16, "big", signed=True)
        self._steps = [(kind, share) for kind, share in shares.items() if share > 0]

    def draw(self, prompt: int, attempt: int) -> tuple[FaultKind | None, int]:
        """The fault of this attempt (None: none) and 32 random bits to vary it with.

        Args:
            prompt: the prompt's 64-bit hash.
            attempt: which attempt of that prompt, starting at 1.
        """
        if not self._steps:
            return None, 0
        digest = blake2b(b"%d/%d" % (prompt, attempt), digest_size=12, key=self._key).digest()
        point = int.from_bytes(digest[:8], "big") / 2**64
        variant = int.from_bytes(digest[8:], "big")
        for kind, share in self._steps:
            if point < share:
                return kind, variant
            point -= share
        return None, variant
