"""The server's time: the machine's, moved on by tests.

Belongs here: now, in the units of the API. Not here: what ends when.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

__all__ = ["Clock"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Never gives one microsecond twice, so that each version of a table has a time of its own."""

    def __init__(self) -> None:
        self._ahead_us = 0
        self._last_us = 0

    def now_us(self) -> int:
        """Microseconds since 1970."""
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000 + self._ahead_us)
        return self._last_us

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.now_us() // 1000

    def now(self) -> datetime:
        """As a datetime in UTC."""
        return EPOCH + timedelta(microseconds=self.now_us())

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead_us += round(seconds * 1_000_000)
