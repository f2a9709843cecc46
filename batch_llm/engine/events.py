"""The one stream of events: what the engine tells while it works.

Belongs here: the event records and the Listener type. Not here: drawing them (cli/panel.py, the Dagster layer).
No event carries a prompt, an answer or a key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from batch_llm.statement_costs import WarehouseBill

__all__ = [
    "BY_USER",
    "BudgetMark",
    "Event",
    "FallbackBegan",
    "FallbackEnded",
    "FirstFailure",
    "Listener",
    "NotPublished",
    "PlanFigures",
    "PoolClosed",
    "Progress",
    "RunFinished",
    "RunStarted",
    "RunSummary",
    "SlicePublished",
    "Stalled",
    "Stopping",
    "Waiting",
]


BY_USER = "stopped by the user"  # reason of `Stopping` where somebody said so


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins, or goes on."""

    job: str
    run_id: str
    rows: int
    slices: int
    resumed: bool
    output: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is left to do is being done by another process: nothing is sent until it ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run (or the slice) stands; about once a second while rows move."""

    run_id: str
    at: datetime
    elapsed_s: float
    rows: int
    ok: int
    failed: int
    cached: int
    in_flight: int
    requests: int  # calls sent since this process began
    retries: int
    input_tokens: int  # of the run, as the cost: what was paid before this process began is in it
    output_tokens: int
    cost_usd: Decimal | None  # of the answers stored so far; None: unknown
    requests_per_minute: float  # measured over the last seconds
    tokens_per_minute: float
    limit_requests_per_minute: float | None
    limit_tokens_per_minute: float | None
    holding_back: str  # what keeps it from going faster, in words
    eta_s: float | None
    errors: dict[str, int] = field(default_factory=dict)  # error class: attempts that ended so
    slices_done: int = 0  # published, with nothing left to ask
    stalled: bool = False  # no call has come back since `Stalled` was told

    @property
    def pending(self) -> int:
        """Rows without a result yet."""
        return self.rows - self.ok - self.failed


@dataclass(frozen=True, slots=True)
class FirstFailure:
    """The first row that failed with this class, in its calls or before any; not one that failed before a resume."""

    error_class: str
    message: str
    slice_number: int
    row: int


@dataclass(frozen=True, slots=True)
class Stalled:
    """No answer for a long time, and why; `Progress.stalled` says until when."""

    reason: str
    for_s: float


@dataclass(frozen=True, slots=True)
class BudgetMark:
    """50, 80 or 100 per cent of the budget are spent; or, at 100, what is left is too little for the next row.

    Each once, the highest of those passed at once; none that the run had passed before it was resumed.
    """

    percent: int
    spent_usd: Decimal
    cap_usd: Decimal

    @property
    def leaves_too_little(self) -> bool:
        """Less is spent, and the rest does not pay for the next row."""
        return self.spent_usd * 100 < self.percent * self.cap_usd


@dataclass(frozen=True, slots=True)
class PoolClosed:
    """One of several pools is not asked any more, or not until its quota is there again; the others go on."""

    pool: str
    reason: str


@dataclass(frozen=True, slots=True)
class FallbackBegan:
    """Rows go to another model, for every pool of those before it is held up."""

    model: str  # provider/model
    reason: str  # what holds up which pool


@dataclass(frozen=True, slots=True)
class FallbackEnded:
    """Rows go to an earlier model again."""

    model: str  # provider/model
    rows: int  # calls that went elsewhere meanwhile


@dataclass(frozen=True, slots=True)
class Stopping:
    """The run drains: nothing new is sent."""

    reason: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class SlicePublished:
    """A slice's rows are in the warehouse; counters from the stored rows."""

    run_id: str
    slice_number: int
    slices: int
    rows: int
    ok: int
    failed: int
    pending: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class NotPublished:
    """The warehouse did not take a slice's rows: its answers are in the journal, the rest is asked all the same."""

    slice_number: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """What a whole run was planned to take (engine/planned.py); money is None when the price is unknown."""

    rows: int
    cost_low_usd: Decimal | None
    cost_high_usd: Decimal | None
    input_tokens: int
    output_tokens: int
    output_from: str  # what the output was estimated by, in words
    after_answers: int = 0  # when it was looked at again; 0: planned before the first answer
    first_cost_usd: Decimal | None = None  # planned before the first answer, if it was looked at again


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run stands at its end; the last line of `run --json`. Counters from the stored rows."""

    job: str
    run_id: str
    rows: int
    ok: int
    failed: int
    pending: int
    cached: int
    requests: int  # calls sent by this process
    attempts: int  # attempts of all rows in this run
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    wall_s: float
    output: str
    stopped: str | None = None  # why it left rows unasked: an ErrorClass value, or "sample"
    nothing_to_do: bool = False  # finished before, and nothing changed
    cost_unknown_rows: int = 0  # rows asked in this run whose cost is NULL: `cost_usd` is the sum of the others
    blocked: str | None = None  # why the job's own check kept the rows out of the output table
    failed_by_class: dict[str, int] = field(default_factory=dict)
    planned_cost_usd: Decimal | None = None  # None: the price was unknown, or nothing was planned
    planned: PlanFigures | None = None
    warehouse: WarehouseBill | None = None  # what the run's statements cost so far; None: the warehouse bills nothing
    ended_elsewhere: bool = False  # another process brought these rows in, or still works on the run: it tells
    partition: str | None = None  # the date partition that it is over, by its first day; None: all of the input
    rows_by_model: dict[str, int] = field(default_factory=dict)  # of a job with `fallback`: provider/model: ok rows
    throttled: int = 0  # calls of this process that a rate limit refused: no attempts of their rows
    kind: str = "chat"  # of the job


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run ended, early or not."""

    summary: RunSummary


Event = (
    RunStarted
    | Waiting
    | Progress
    | FirstFailure
    | Stalled
    | BudgetMark
    | PoolClosed
    | FallbackBegan
    | FallbackEnded
    | Stopping
    | SlicePublished
    | NotPublished
    | RunFinished
)
Listener = Callable[[Event], None]
