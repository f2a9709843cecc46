"""What is known of one row of a slice.

Belongs here: the record and its status. Not here: how it follows from a journal, what most rows are kept as (rows.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from batch_llm.engine.retry import RULES, Action
from batch_llm.errors import ErrorClass

__all__ = ["RowState", "RowStatus"]


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
    re_asks_used: int = 0  # of them, those whose class uses up a re-ask (retry.py)
    cuts: int = 0  # of them, those that were cut short
    request_hash: str = ""
    good_place: int = -1  # where the journal keeps the good answer
    failed_place: int = -1  # where the journal notes that the row failed
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    usage_unknown: bool = False  # an answer came without a believable usage
    price_unknown: bool = False  # of an answer
    cost_nano: int | None = None  # None: nothing paid yet, or unknown
    answers: int = 0
    lost: int = 0  # calls with an unknown outcome: may be billed
    last_output_tokens: int | None = None  # of its last answer; None: no answer yet, or its usage is unknown
    latency_s: float | None = None
    finished_at: datetime | None = None
    error_class: str | None = None
    error: str | None = None
    cached: bool = False  # its last answer was paid for elsewhere
    price_version: str | None = None  # of the price of its last answer; None: unknown
    fallback: str | None = None  # the model that gave it, where it was not the job's own

    @property
    def is_plain(self) -> bool:
        """Whether the entry of its good answer says everything."""
        once = self.attempts == self.answers == (0 if self.cached else 1)
        return once and not self.lost and not self.usage_unknown

    def count_bad(self, error_class: ErrorClass) -> None:
        """A paid answer was not good, of this class."""
        self.bad_answers += 1
        self.re_asks_used += RULES[error_class].action is Action.RE_ASK
        self.cuts += error_class is ErrorClass.TRUNCATED
