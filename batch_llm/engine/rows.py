"""What a slice's journal says of each of its rows.

Belongs here: folding journal entries into the state of rows, and into money. Not here: reading files (journal),
deciding what to do next (pipeline.py, retry.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from batch_llm.engine.answers import Judge, Verdict
from batch_llm.errors import ErrorClass
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.pricing import Price
from batch_llm.providers.base import Usage

__all__ = ["RowState", "RowStatus", "Rows"]

ZERO = Decimal(0)


class RowStatus:
    """The values of the output column ``llm_status``."""

    OK = "ok"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(slots=True)
class RowState:
    """One row of a slice, as far as this run's journal knows it."""

    status: str = RowStatus.PENDING
    attempts: int = 0  # of this run
    bad_answers: int = 0  # paid answers since the row was (re)opened that were not good
    request_hash: str = ""
    good_place: int = -1  # where the journal keeps the good answer
    failed_place: int = -1  # where the journal notes that the row failed
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    usage_unknown: bool = False  # an answer came without a believable usage
    cost_usd: Decimal | None = None  # None: nothing paid yet, or unknown
    answers: int = 0
    lost: int = 0  # calls with an unknown outcome: may be billed
    last_output_tokens: int = 0
    latency_s: float | None = None
    finished_at: datetime | None = None
    error_class: str | None = None
    error: str | None = None


@dataclass(slots=True)
class Rows:
    """The rows of one slice and what they cost. Rows nobody asked yet are absent from `states`."""

    judge: Judge
    price: Price | None
    states: dict[int, RowState] = field(default_factory=dict)
    spent_usd: Decimal = ZERO  # settled; unknown outcomes in full
    _held_usd: dict[tuple[int, int], Decimal] = field(default_factory=dict)

    def replay(self, entries: Iterable[Entry]) -> None:
        """Fold a whole journal. What was sent and never heard of again counts as spent."""
        for entry in entries:
            self.apply(entry)
        self.spent_usd += sum(self._held_usd.values(), ZERO)
        self._held_usd.clear()

    def apply(self, entry: Entry) -> Verdict | None:
        """Fold one entry; the verdict when it is an answer."""
        state = self.states.get(entry.row)
        if state is None:
            state = self.states[entry.row] = RowState()
        state.attempts = max(state.attempts, entry.attempt)
        if entry.request_hash:
            state.request_hash = entry.request_hash
        match entry.kind:
            case EntryKind.SENT:
                self._held_usd[entry.row, entry.attempt] = Decimal(entry.detail["held_usd"])
            case EntryKind.ANSWER:
                return self._answer(state, entry)
            case EntryKind.LOST:
                state.lost += 1
                self.spent_usd += self._held_usd.pop((entry.row, entry.attempt), ZERO)
            case EntryKind.UNBILLED:
                self._held_usd.pop((entry.row, entry.attempt), None)
            case EntryKind.FAILED:
                state.status = RowStatus.FAILED
                state.failed_place = entry.place
                state.finished_at = entry.at
                state.error_class = entry.detail["error_class"]
                state.error = entry.detail["message"]
            case EntryKind.REOPENED:
                state.status = RowStatus.PENDING
                state.bad_answers = 0
                state.error_class = state.error = None
        return None

    def _answer(self, state: RowState, entry: Entry) -> Verdict:
        verdict = self.judge.judge(entry.body)
        held = self._held_usd.pop((entry.row, entry.attempt), ZERO)
        cost = self.cost_usd(verdict.usage)
        self.spent_usd += held if cost is None else cost
        state.answers += 1
        state.latency_s = entry.latency_s
        if verdict.usage is None:
            state.usage_unknown = True
        else:
            state.input_tokens += verdict.usage.input_tokens
            state.output_tokens += verdict.usage.output_tokens
            state.last_output_tokens = verdict.usage.output_tokens
            state.cached_input_tokens += verdict.usage.cached_input_tokens
        if cost is not None:
            state.cost_usd = (state.cost_usd or ZERO) + cost
        if verdict.error_class is None:
            state.status = RowStatus.OK
            state.good_place = entry.place
            state.finished_at = entry.at
        else:
            state.bad_answers += 1
        return verdict

    def cost_usd(self, usage: Usage | None) -> Decimal | None:
        """What an answer with this usage cost; None when the price or the usage is unknown."""
        if usage is None or self.price is None:
            return None
        return self.price.cost(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)

    def is_done(self, row: int) -> bool:
        """The row ended, ok or failed."""
        state = self.states.get(row)
        return state is not None and state.status != RowStatus.PENDING

    def failed(self, below: int) -> list[int]:
        """The rows that ended as failed, noted below this place of the journal, in order."""
        return sorted(
            row for row, state in self.states.items() if state.status == RowStatus.FAILED and state.failed_place < below
        )

    def failure_counts(self) -> dict[str, int]:
        """error class: rows that ended so."""
        counts: dict[str, int] = {}
        for state in self.states.values():
            if state.status == RowStatus.FAILED:
                name = state.error_class or ErrorClass.MALFORMED.value
                counts[name] = counts.get(name, 0) + 1
        return counts
