"""What the simulated provider saw: the witness for "sent no more than the limit" and "paid twice".

Belongs here: counting and the JSON of GET /stats. Not here: deciding anything.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from batch_llm.simulator.faults import FaultKind

__all__ = ["Stats"]

# Seconds of history in `per_second`; older ones are dropped.
HISTORY_S = 3_600


class Stats:
    """Counts since the start or the last reset. Prompts are kept as 64-bit hashes, never as text."""

    def __init__(self, now_s: float) -> None:
        """Start counting at ``now_s`` on the simulator's clock."""
        self.in_flight = 0
        self.restart(now_s)

    def restart(self, now_s: float) -> None:
        """Forget everything except what is in flight."""
        self._start_s = now_s
        self.accepted = 0
        self.answered = 0
        self.closed_before_answer = 0
        self.replayed = 0
        self.rejected: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.input_tokens = 0
        self.output_tokens = 0
        self.max_in_flight = self.in_flight
        self._attempts: dict[int, int] = {}
        self._answers: dict[int, int] = {}
        self._closed: Counter[int] = Counter()
        self._first_s: float | None = None  # of the accepted ones, on the simulator's clock
        self._last_s: float | None = None
        self._per_second: deque[int] = deque(maxlen=HISTORY_S)
        self._seconds = 0  # how many seconds `_per_second` has seen

    def next_attempt(self, prompt: int) -> int:
        """The number that the next attempt of this prompt has, from 1."""
        return self._attempts.get(prompt, 0) + 1

    def attempt(self, prompt: int) -> None:
        """An attempt of this prompt took its number."""
        self._attempts[prompt] = self.next_attempt(prompt)

    def accept(self, now_s: float) -> None:
        """A request passed every limit."""
        self.accepted += 1
        self._first_s = now_s if self._first_s is None else self._first_s
        self._last_s = now_s
        second = int(now_s - self._start_s)
        if second >= self._seconds + HISTORY_S:
            self._per_second.clear()
            self._seconds = second
        while self._seconds <= second:
            self._per_second.append(0)
            self._seconds += 1
        self._per_second[-1] += 1

    def begin(self) -> None:
        """A request is in flight from now on."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self) -> None:
        """A request is no longer in flight."""
        self.in_flight -= 1

    def fault(self, kind: FaultKind) -> None:
        """A fault was injected."""
        self.faults[kind.value] += 1

    def bill(self, input_tokens: int, output_tokens: int) -> None:
        """The provider would charge this."""
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def answer(self, prompt: int) -> None:
        """A full, good answer was sent."""
        self.answered += 1
        self._answers[prompt] = self._answers.get(prompt, 0) + 1

    def replay(self) -> None:
        """A stored answer was sent again, unbilled."""
        self.replayed += 1

    def closed(self, prompt: int) -> None:
        """The client closed the connection before its answer could be sent."""
        self.closed_before_answer += 1
        self._closed[prompt] += 1

    def as_dict(self, *, detail: bool = False) -> dict[str, Any]:
        """The JSON of GET /stats; ``detail`` adds the counts of every prompt (hash in hex)."""
        twice = [count for count in self._answers.values() if count > 1]
        shown: dict[str, Any] = {
            "accepted": self.accepted,
            "rejected": dict(self.rejected),
            "rejected_total": self.rejected.total(),
            "answered": self.answered,
            "replayed": self.replayed,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "closed_before_answer": self.closed_before_answer,
            "duplicates": {
                "answered_twice": len(twice),
                "extra_answers": sum(twice) - len(twice),
                "prompts": len(self._attempts),
            },
            "faults": dict(self.faults),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "per_second": list(self._per_second),
            "per_second_from": self._seconds - len(self._per_second),
            "first_accepted_s": self._since_start(self._first_s),
            "last_accepted_s": self._since_start(self._last_s),
        }
        if detail:
            shown["prompts"] = {f"{prompt:016x}": self._of(prompt) for prompt in self._attempts}
        return shown

    def _since_start(self, at_s: float | None) -> float | None:
        return None if at_s is None else round(at_s - self._start_s, 6)

    def _of(self, prompt: int) -> dict[str, int]:
        return {
            "attempts": self._attempts[prompt],
            "answered": self._answers.get(prompt, 0),
            "closed_before_answer": self._closed[prompt],
        }
