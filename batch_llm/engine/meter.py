"""Counting what this process does: rates, latency, errors, and what holds it back.

Belongs here: figures for progress and for sizing the window. Not here: the run's truth, which derives from stored
rows (warehouse.published).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from batch_llm.clock import Clock

__all__ = ["Meter"]

RATE_SPAN_S = 15.0  # rates are measured over the last so many seconds
LATENCY_SMOOTHING = 0.05  # weight of the newest answer
FIRST_LATENCY_S = 10.0  # assumed until answers came
CALL_TIMEOUT_FIRST_S = 120.0
CALL_TIMEOUT_MIN_S = 30.0
CALL_TIMEOUT_MAX_S = 600.0
CALL_TIMEOUT_FACTOR = 10.0  # times the slowest of the last answers
LATENCY_SAMPLES = 500
ANSWERS_TO_LEARN_FROM = 20


@dataclass(slots=True)
class Meter:
    """Figures of this process since its run (or slice) began."""

    clock: Clock
    requests: int = 0
    answers: int = 0
    retries: int = 0
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    began_s: float = 0.0
    last_answer_s: float = 0.0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_SAMPLES))
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)  # at, requests, tokens
    _latency_s: float | None = None

    def __post_init__(self) -> None:
        self.began_s = self.last_answer_s = self.clock.monotonic()

    def sent(self, tokens: int) -> None:
        """A call goes out that is expected to take so many tokens."""
        self.requests += 1
        self.in_flight += 1
        now = self.clock.monotonic()
        if self._recent and now - self._recent[-1][0] < 0.25:
            at, requests, total = self._recent[-1]
            self._recent[-1] = (at, requests + 1, total + tokens)
        else:
            self._recent.append((now, 1, tokens))
        while self._recent and self._recent[0][0] < now - RATE_SPAN_S:
            self._recent.popleft()

    def ended(self) -> None:
        """A call came back, one way or the other."""
        self.in_flight -= 1
        self.last_answer_s = self.clock.monotonic()

    def answered(self, latency_s: float) -> None:
        """A whole answer came after so many seconds."""
        self.answers += 1
        self.latencies_s.append(latency_s)
        before = self._latency_s
        self._latency_s = latency_s if before is None else before + LATENCY_SMOOTHING * (latency_s - before)

    @property
    def latency_s(self) -> float:
        """How long an answer takes, smoothed."""
        return FIRST_LATENCY_S if self._latency_s is None else self._latency_s

    @property
    def call_timeout_s(self) -> float:
        """How long one call may take, learned from the answers so far."""
        if self.answers < ANSWERS_TO_LEARN_FROM:
            return CALL_TIMEOUT_FIRST_S
        return min(CALL_TIMEOUT_MAX_S, max(CALL_TIMEOUT_MIN_S, CALL_TIMEOUT_FACTOR * max(self.latencies_s)))

    def rates_per_minute(self) -> tuple[float, float]:
        """Requests and tokens per minute over the last seconds."""
        now = self.clock.monotonic()
        recent = [entry for entry in self._recent if entry[0] >= now - RATE_SPAN_S]
        span_s = min(RATE_SPAN_S, max(1.0, now - self.began_s))
        requests = sum(entry[1] for entry in recent)
        tokens = sum(entry[2] for entry in recent)
        return requests * 60 / span_s, tokens * 60 / span_s

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return self.clock.monotonic() - self.began_s
