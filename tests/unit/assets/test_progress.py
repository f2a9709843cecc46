"""Progress is told rarely."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from assets.progress import Facts, ProgressLog
from batch_llm.engine.events import Progress, Stopping, Waiting


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, msg: str) -> None:
        self.lines.append(msg)

    warning = info


def progress(ok: int = 0, requests: int = 0, retries: int = 0, elapsed_s: float = 0.0) -> Progress:
    return Progress(
        "r", datetime(2026, 1, 1, tzinfo=UTC), elapsed_s, 100, ok, 0, 0, 1, requests, retries, 0, 0, None,
        60.0, 0.0, None, None, "the provider's answers", None,
    )  # fmt: skip


def test_a_line_per_10_s_and_an_observation_per_30_s() -> None:
    log, seen, now = Log(), list[Facts](), [0.0]
    listener = ProgressLog(log, observe=seen.append, monotonic=lambda: now[0])
    for second in range(61):
        now[0] = float(second)
        listener(progress(ok=second))
    assert len(log.lines) == 6
    assert [facts["rows_done"] for facts in seen] == [30, 60]


def test_a_stall_is_seen_in_every_line_while_it_lasts() -> None:
    log, now = Log(), [0.0]
    listener = ProgressLog(log, monotonic=lambda: now[0])
    for now[0], stalled in ((10.0, True), (20.0, True), (30.0, False)):
        listener(replace(progress(), stalled=stalled))
    assert ["stalled" in line for line in log.lines] == [True, True, False]


def test_why_it_waits_and_stops_is_told_at_once() -> None:
    log = Log()
    listener = ProgressLog(log)
    listener(Waiting("another process is calling"))
    listener(Stopping("the budget is used up", 3))
    assert len(log.lines) == 2
    assert listener.stopped == "the budget is used up"


def test_speed_counts_rows_that_were_asked() -> None:
    listener = ProgressLog(Log())
    assert listener.rows_per_s is None
    listener(progress(requests=30, retries=10, elapsed_s=10.0))
    assert listener.rows_per_s == 2.0
