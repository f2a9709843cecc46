"""Counting what this process does: rates, latency, errors, and what holds it back.

Belongs here: figures for progress, for sizing the window and for bounding calls. Not here: what follows from them
(window.py, deadlines.py), the run's truth, which derives from stored rows (warehouse.published).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from batch_llm.clock import Clock

__all__ = ["Meter", "Pace"]

RATE_SPAN_S = 15.0  # rates are measured over the last so many seconds
RATE_STEP_S = 0.25  # what is sent within it is one entry
SMOOTHING = 0.05  # weight of the newest answer
FIRST_LATENCY_S = 10.0  # assumed until answers came
LATENCY_SAMPLES = 500
LOOK_EVERY = 250  # answers between two looks at the slowest of them
SHORTEST_FADE = 1.001  # per answer: how fast the shortest latency is forgotten


class Pace(NamedTuple):
    """What was sent over the last seconds, per minute."""

    requests: float
    rows: float  # that these asked: a call for vectors asks many
    tokens: float  # as used where that is known, else expected


@dataclass(slots=True)
class Meter:
    """Figures of this process since its run (or slice) began. Seconds are those of the clock."""

    clock: Clock
    requests: int = 0
    answers: int = 0
    retries: int = 0
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    request_bytes: float = 0.0  # of a prompt, smoothed
    latency_s: float = FIRST_LATENCY_S  # of an answer, smoothed
    shortest_latency_s: float = math.inf  # the least that `latency_s` was lately
    slowest_start_s: float = 0.0  # until one of the last answers began, as of the last look
    slowest_body_s: float = 0.0  # from there to its end
    errors: Counter[str] = field(default_factory=Counter)
    began_s: float = 0.0
    last_answer_s: float = 0.0
    _phases_s: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LATENCY_SAMPLES))
    _recent: deque[tuple[float, int, int, int]] = field(default_factory=deque)  # at, requests, rows, tokens

    def __post_init__(self) -> None:
        self.began_s = self.last_answer_s = self.clock.monotonic()

    def sent(self, now_s: float, tokens: int, size_bytes: int, rows: int = 1) -> None:
        """A call for so many rows goes out that is expected to take so many tokens."""
        self.requests += 1
        self.in_flight += 1
        self.request_bytes += SMOOTHING * (size_bytes - self.request_bytes)
        if self._recent and now_s - self._recent[-1][0] < RATE_STEP_S:
            at, requests, asked, total = self._recent[-1]
            self._recent[-1] = (at, requests + 1, asked + rows, total + tokens)
        else:
            self._recent.append((now_s, 1, rows, tokens))
            while self._recent[0][0] < now_s - RATE_SPAN_S:
                self._recent.popleft()

    def corrected(self, tokens: int) -> None:
        """A call that was sent used so many tokens more than expected, or fewer: the limit was charged with those."""
        if self._recent:
            at, requests, asked, total = self._recent[-1]
            self._recent[-1] = (at, requests, asked, total + tokens)

    def ended(self, now_s: float) -> None:
        """A call came back, one way or the other."""
        self.in_flight -= 1
        self.last_answer_s = now_s

    def answered(self, latency_s: float, start_share: float = 1.0) -> None:
        """A whole answer came after so many seconds; it began after this share of them."""
        first = not self.answers
        self.answers += 1
        self.latency_s = latency_s if first else self.latency_s + SMOOTHING * (latency_s - self.latency_s)
        self.shortest_latency_s = min(self.latency_s, self.shortest_latency_s * SHORTEST_FADE)
        start_s = latency_s * start_share
        self._phases_s.append((start_s, latency_s - start_s))
        if self.answers % LOOK_EVERY == 0:  # those that are long over are forgotten
            self.slowest_start_s = max(phases[0] for phases in self._phases_s)
            self.slowest_body_s = max(phases[1] for phases in self._phases_s)
        else:
            self.slowest_start_s = max(self.slowest_start_s, start_s)
            self.slowest_body_s = max(self.slowest_body_s, latency_s - start_s)

    @property
    def tokens_per_answer(self) -> tuple[float, float]:
        """Input and output tokens of an answer, on average."""
        answers = max(1, self.answers)
        return self.input_tokens / answers, self.output_tokens / answers

    def pace(self) -> Pace:
        """How fast it goes."""
        now = self.clock.monotonic()
        recent = [entry for entry in self._recent if entry[0] >= now - RATE_SPAN_S]
        per_minute = 60 / min(RATE_SPAN_S, max(1.0, now - self.began_s))
        requests, rows, tokens = (sum(entry[at] for entry in recent) for at in (1, 2, 3))
        return Pace(requests * per_minute, rows * per_minute, max(0, tokens) * per_minute)

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return self.clock.monotonic() - self.began_s
