"""The engine's events, told to Dagster.

Belongs here: which event becomes a log line or an observation, and how often. Not here: the events (batch_llm/engine).
A Dagster event costs a database write, so progress is told rarely: a line per 10 s, an observation per 30 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from logging import Logger
from typing import Protocol

from batch_llm.engine.events import (
    BudgetMark,
    Event,
    FirstFailure,
    NotPublished,
    PoolClosed,
    Progress,
    RunStarted,
    SlicePublished,
    Stalled,
    Stopping,
    Waiting,
)
from batch_llm.pricing import in_full

__all__ = ["ProgressLog"]

LOG_EVERY_S = 10.0
OBSERVE_EVERY_S = 30.0

Facts = Mapping[str, int | float | str]


class _Log(Protocol):
    def info(self, msg: str) -> None: ...
    def warning(self, msg: str) -> None: ...


class ProgressLog:
    """A listener of the engine that writes to a Dagster run's log."""

    def __init__(
        self,
        log: Logger | _Log,
        *,
        observe: Callable[[Facts], None] | None = None,
        on_published: Callable[[SlicePublished], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``observe`` receives the numbers every 30 s, ``on_published`` each slice that was stored."""
        self._log = log
        self._observe = observe
        self._on_published = on_published
        self._monotonic = monotonic
        self._logged_at_s = self._observed_at_s = monotonic()
        self.last: Progress | None = None
        self.stopped: str | None = None  # why the engine stopped early

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, SlicePublished):
            self._published(event)
        elif isinstance(event, Stopping):
            self.stopped = event.reason
            self._log.warning(_sentence(event))
        elif isinstance(event, FirstFailure | Stalled | BudgetMark | NotPublished | PoolClosed):
            self._log.warning(_sentence(event))
        elif isinstance(event, RunStarted | Waiting):
            self._log.info(_sentence(event))

    @property
    def rows_per_s(self) -> float | None:
        """Rows that were asked (not found) per second; None when none was."""
        if self.last is None or self.last.elapsed_s <= 0 or self.last.requests <= self.last.retries:
            return None
        return (self.last.requests - self.last.retries) / self.last.elapsed_s

    def _progress(self, event: Progress) -> None:
        self.last = event
        now_s = self._monotonic()
        if now_s - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = now_s
            self._log.info(_progress_line(event))
        if self._observe is not None and now_s - self._observed_at_s >= OBSERVE_EVERY_S:
            self._observed_at_s = now_s
            self._observe(_facts(event))

    def _published(self, event: SlicePublished) -> None:
        self._log.info(
            f"slice {event.slice_number + 1} of {event.slices} is published: {event.rows} rows, {event.ok} ok, "
            f"{event.failed} failed, {event.pending} pending"
        )
        if self._on_published is not None:
            self._on_published(event)


def _facts(event: Progress) -> dict[str, int | float | str]:
    facts: dict[str, int | float | str] = {
        "rows_done": event.ok + event.failed,
        "rows_pending": event.pending,
        "failed": event.failed,
        "in_flight": event.in_flight,
        "requests_per_minute": event.requests_per_minute,
        "tokens_per_minute": event.tokens_per_minute,
        "holding_back": event.holding_back,
    }
    if event.cost_usd is not None:
        facts["cost_usd"] = float(event.cost_usd)
    return facts


def _progress_line(event: Progress) -> str:
    cost = "cost unknown" if event.cost_usd is None else f"{event.cost_usd:.4f} USD"
    left = "" if event.eta_s is None else f", about {event.eta_s:.0f} s left"
    calls = f"{event.in_flight} in flight{' (stalled)' if event.stalled else ''}"
    return (
        f"{event.ok + event.failed} of {event.rows} rows ({event.failed} failed), {calls}, "
        f"{event.requests_per_minute:.0f} requests per minute, {cost}; held back by {event.holding_back}{left}"
    )


def _sentence(event: Event) -> str:
    if isinstance(event, FirstFailure):
        where = f"slice {event.slice_number}, row {event.row}"
        return f"first row that failed with {event.error_class}: {where}: {event.message}"
    if isinstance(event, Stalled):
        return f"no answer for {event.for_s:.0f} s: {event.reason}"
    if isinstance(event, NotPublished):
        return f"slice {event.slice_number} is not published, its answers are in the journal: {event.reason}"
    if isinstance(event, PoolClosed):
        return f"pool {event.pool} is not asked any more, the others go on: {event.reason}"
    if isinstance(event, BudgetMark):
        spent = f"{in_full(event.spent_usd)} of {in_full(event.cap_usd)} USD spent"
        if event.leaves_too_little:
            return f"the budget is used up: {spent}, and what is left does not pay for the next row"
        return f"{event.percent} % of the budget are used: {spent}"
    if isinstance(event, Stopping):
        return f"stopping ({event.reason}): waiting for {event.in_flight} calls in flight, sending no more"
    if isinstance(event, RunStarted):
        return f"run {event.run_id}: {event.rows} rows in {event.slices} slices{', resumed' if event.resumed else ''}"
    return event.reason if isinstance(event, Waiting) else ""
