"""What a watcher shows of a run: the state gathered from the engine's events, and the words for it.

Belongs here: gathering and wording. Not here: drawing (cli/panel.py, log_lines.py, python/notebook.py), the
numbers themselves (engine).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from batch_llm.engine.events import (
    BY_USER,
    BudgetMark,
    Event,
    FallbackBegan,
    FallbackEnded,
    FirstFailure,
    NotPublished,
    PoolClosed,
    Progress,
    RunFinished,
    RunStarted,
    Stalled,
    Stopping,
    Waiting,
)
from batch_llm.watching.words import counted_as, duration, number, one_line, usd

__all__ = ["Board", "Fact", "counted", "remark"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the panel."""

    label: str
    text: str


class Board:
    """The state of one run as its events tell it."""

    def __init__(self, job: str, budget_usd: Decimal | None = None) -> None:
        """``budget_usd``: the job's cap, to show beside the cost."""
        self.job = job
        self.budget_usd = budget_usd
        self.started: RunStarted | None = None
        self.progress: Progress | None = None
        self.state = "starting"  # one word or two: what it is doing now

    def take(self, event: Event) -> None:
        """Learn from an event."""
        if isinstance(event, RunStarted):
            self.started, self.state = event, "running"
        elif isinstance(event, Progress):
            self.progress = event
            if self.state in ("starting", "waiting", "stalled", "running"):
                self.state = "stalled" if event.stalled else "running"
        elif isinstance(event, Waiting):
            self.state = "waiting"
        elif isinstance(event, Stalled):
            self.state = "draining" if self.state == "draining" else "stalled"
        elif isinstance(event, Stopping):
            self.state = "draining"
        elif isinstance(event, RunFinished):
            self.state = "finished" if event.summary.stopped is None else "stopped"

    @property
    def title(self) -> str:
        """The run's name and what it is doing."""
        name = self.started.run_id if self.started else self.job
        return f"{name} - {self.state}"

    @property
    def done(self) -> int:
        """Rows with a result."""
        return self.progress.ok + self.progress.failed if self.progress else 0

    @property
    def rows(self) -> int:
        """Rows of the run."""
        if self.progress:
            return self.progress.rows
        return self.started.rows if self.started else 0

    @property
    def share(self) -> str:
        """Of the rows, in whole percent; 100 only when all are done."""
        return f"{100 * self.done // self.rows if self.rows else 100} %"

    @property
    def _ended(self) -> bool:
        return self.state in ("finished", "stopped")

    def facts(self) -> list[Fact]:
        """The panel's lines, top to bottom; empty before the first progress."""
        now = self.progress
        if now is None:
            return []
        slices = f" · slices {now.slices_done}/{self.started.slices}" if self.started else ""
        return [
            Fact("rows", f"ok {now.ok:,} · failed {now.failed:,} · cached {now.cached:,}{slices}"),
            Fact("requests", _rate(now.requests_per_minute, now.limit_requests_per_minute)),
            Fact("tokens", _rate(now.tokens_per_minute, now.limit_tokens_per_minute)),
            Fact("used", f"{number(now.input_tokens)} tokens in, {number(now.output_tokens)} out"),
            Fact("cost", self._cost(now)),
            Fact("retries", _retries(now)),
            Fact("in flight", f"{now.in_flight:,}"),
            *([] if self._ended else [Fact("held by", now.holding_back), Fact("left", duration(now.eta_s))]),
        ]

    def line(self) -> str:
        """All of it on one line, for logs."""
        now = self.progress
        if now is None:
            return f"{self.title}"
        still = "" if self._ended else f", held by {now.holding_back}; left {duration(now.eta_s)}"
        return (
            f"{self.job}: {self.done:,}/{now.rows:,} rows ({self.share}), ok {now.ok:,}, failed {now.failed:,}, "
            f"cached {now.cached:,}; requests {_rate(now.requests_per_minute, now.limit_requests_per_minute)}; "
            f"tokens {_rate(now.tokens_per_minute, now.limit_tokens_per_minute)}; cost {self._cost(now)}; "
            f"retries {_retries(now)}; in flight {now.in_flight:,}; {self.state}{still}"
        )

    def _cost(self, now: Progress) -> str:
        spent = usd(now.cost_usd)
        return spent if self.budget_usd is None else f"{spent} of {usd(self.budget_usd)}"


def _rate(rate: float, limit: float | None) -> str:
    of = f"of {number(limit)}" if limit is not None else "(no limit)"
    return f"{number(round(rate, 1))} {of} per minute"


def _retries(now: Progress) -> str:
    return f"{now.retries:,}{counted(now.errors)}"


def counted(by_class: dict[str, int]) -> str:
    """Error classes with their counts, most frequent first, in brackets; nothing for none."""
    if not by_class:
        return ""
    order = sorted(by_class.items(), key=lambda item: (-item[1], item[0]))
    return " (" + ", ".join(f"{name} {count:,}" for name, count in order) + ")"


def remark(event: Event) -> str | None:
    """What an event is worth saying at once, beside the regular picture; None for nothing."""
    if isinstance(event, RunStarted):
        word = "resumed" if event.resumed else "started"
        rows, slices = counted_as(event.rows, "row"), counted_as(event.slices, "slice")
        return f"{event.run_id}: {word}, {rows} in {slices}, output {event.output}"
    if isinstance(event, Waiting):
        return f"waiting: {event.reason}"
    if isinstance(event, FirstFailure):
        place = f"slice {event.slice_number}, row {event.row}"
        return f"first row that failed with {event.error_class} ({place}): {one_line(event.message, 300)}"
    if isinstance(event, Stalled):
        return f"no answer for {duration(event.for_s)}: {event.reason}"
    if isinstance(event, NotPublished):
        return (
            f"slice {event.slice_number} is not published yet, its answers are in the journal; asking goes on, and it "
            f"is published at the end: {one_line(event.reason, 500)}"
        )
    if isinstance(event, BudgetMark):
        spent = f"{usd(event.spent_usd)} of {usd(event.cap_usd)} spent"
        if event.leaves_too_little:
            return f"the budget is used up: {spent}, and what is left does not pay for the next row"
        return f"{event.percent} % of the budget used: {spent}"
    if isinstance(event, Stopping):
        again = "; Ctrl-C again to stop at once" if event.reason == BY_USER and event.in_flight else ""
        return f"draining ({event.reason}), {event.in_flight:,} in flight{again}"
    return _where_rows_go(event)


def _where_rows_go(event: Event) -> str | None:
    if isinstance(event, PoolClosed):
        return f"pool {event.pool} is not asked any more, the others go on: {one_line(event.reason, 300)}"
    if isinstance(event, FallbackBegan):
        return f"rows go to {event.model} now: {one_line(event.reason, 300)}"
    if isinstance(event, FallbackEnded):
        return f"rows go to {event.model} again; {event.rows:,} calls went elsewhere"
    return None
