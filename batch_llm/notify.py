"""Telling somebody elsewhere that a run has ended.

Belongs here: the words of a notice, and its delivery through apprise. Not here: when a run ends (the callers: cli,
the Dagster layer). A notice holds counts and the run's name: no row, no answer, no secret. A delivery that fails is
reported to the caller and never fails the run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from batch_llm.config.secrets import known_secrets, resolve, scrub
from batch_llm.engine.events import RunSummary
from batch_llm.errors import BatchLLMError, Cancelled, ConfigurationError, ErrorClass
from batch_llm.job.model import Job

__all__ = ["Delivery", "Notice", "RunNotice", "check_channels", "deliver", "notice_of_error", "notice_of_summary"]

TIMEOUT_S = 20.0  # for all channels together: a dead channel must not hold back the end of a run


@dataclass(frozen=True, slots=True)
class Notice:
    """One message."""

    title: str
    body: str
    good: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a notice on one channel."""

    reference: str  # ${env:NAME}, as the job names the channel; never the URL
    problem: str | None = None  # None: delivered


def notice_of_summary(summary: RunSummary) -> Notice | None:
    """The notice of a run that came to an end; None when it is not worth one.

    Not worth one: nothing was to be done, a sample, a stop by the user, an end that another process tells.
    """
    if summary.nothing_to_do or summary.ended_elsewhere or summary.stopped in ("sample", ErrorClass.CANCELLED):
        return None
    how = "finished" if summary.stopped is None else f"stopped early ({summary.stopped})"
    cost = "unknown" if summary.cost_usd is None else f"{summary.cost_usd:.4f} USD"
    classes = ", ".join(f"{name} {count:,}" for name, count in sorted(summary.failed_by_class.items()))
    lines = [
        f"{summary.rows:,} rows: {summary.ok:,} ok, {summary.failed:,} failed, {summary.pending:,} pending",
        *([f"failed: {classes}"] if classes else []),
        f"cost {cost}, {summary.wall_s:,.0f} s, output {summary.output}",
        f"run {summary.run_id}",
    ]
    good = summary.stopped is None and summary.failed == 0
    return Notice(f"{summary.job} {how}", "\n".join(lines), good)


def notice_of_error(job: str, error: BaseException) -> Notice | None:
    """The notice of a run that an error ended; None for a stop by the user and for a run refused at its start."""
    if isinstance(error, (Cancelled, ConfigurationError)) or not isinstance(error, Exception):
        return None
    # The text of a foreign error may quote a row: only ours, which never do, are passed on
    reason = scrub(str(error), known_secrets()) if isinstance(error, BatchLLMError) else type(error).__name__
    return Notice(f"{job} failed", f"{reason}\nWhat was paid for is kept; run again, it goes on.", good=False)


def deliver(references: Sequence[str], notice: Notice, environ: Mapping[str, str] | None = None) -> list[Delivery]:
    """Send a notice to each channel once; blocking, never raises for a channel that fails.

    ``references``: apprise URLs by reference, as in the job's `notify`.
    """
    variables = os.environ if environ is None else environ
    return [Delivery(reference, _send(reference, notice, variables)) for reference in dict.fromkeys(references)]


def check_channels(references: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Raise `ConfigurationError` for the first channel whose variable is not set: better known before a run."""
    for reference in references:
        resolve(reference, os.environ if environ is None else environ, needed_by="notify")


def _send(reference: str, notice: Notice, environ: Mapping[str, str]) -> str | None:
    """The problem, if there was one."""
    try:
        url = resolve(reference, environ, needed_by="notify").get_secret_value()
    except ConfigurationError as error:
        return str(error)
    import apprise

    kind = apprise.NotifyType.SUCCESS if notice.good else apprise.NotifyType.FAILURE
    text = apprise.NotifyFormat.TEXT
    with _apprise_silent():
        channel = apprise.Apprise()
        if not channel.add(url):
            return "the value is not a URL that apprise knows (see its list of services; the value is not shown)"
        sent = channel.notify(notice.body, notice.title, kind, body_format=text, timeout=TIMEOUT_S)
    return None if sent else "the service did not take the message (wrong address or token, or not reachable)"


@contextmanager
def _apprise_silent() -> Iterator[None]:
    """Apprise's own log lines name hosts and tokens of the channel, whoever listens to them."""
    log = logging.getLogger("apprise")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class RunNotice:
    """A context manager around one run: at its end, however it ends, the job's channels get one notice.

    Set `summary` when the run returns one. `deliveries` then says what became of the notice.
    """

    def __init__(self, job: Job, environ: Mapping[str, str] | None = None) -> None:
        """Nothing is resolved before the end."""
        self._job = job
        self._environ = environ
        self.summary: RunSummary | None = None
        self.deliveries: list[Delivery] = []

    def __enter__(self) -> RunNotice:
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send; lets the error go on."""
        notice = self._notice(error)
        if notice is not None and self._job.notify:
            self.deliveries = deliver(self._job.notify, notice, self._environ)

    def _notice(self, error: BaseException | None) -> Notice | None:
        if error is not None:
            return notice_of_error(self._job.name, error)
        return None if self.summary is None else notice_of_summary(self.summary)
