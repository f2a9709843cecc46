"""``batch-llm forget JOB``, ``batch-llm forget --older-than 30d [JOB]``: erase what jobs left in the home.

Belongs here: the question, the order of erasing. Not here: how a warehouse or journal erases.
"""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack, closing

import typer

from batch_llm.cli.jobs import name_of, open_home
from batch_llm.cli.speech import print_json, say, tell
from batch_llm.errors import BatchLLMError, Cancelled, ConfigurationError, JobFileError, JournalRefused

__all__ = ["days_of", "forget", "forget_older", "forget_runs"]

DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}


def forget(reference: str, *, yes: bool, json: bool) -> None:
    """Erase journals, frozen slices and published work tables of all runs of a job; the output table stays."""
    name = name_of(reference)
    store = open_home()
    count = len(store.runs.all(name))
    if not count:
        raise JobFileError(f"{name} has not run in {store.settings.home}; there is nothing to forget")
    if not yes:
        _ask(f"{count} run(s) of {name} with all raw answers")
    forgotten = forget_runs(name)
    if json:
        print_json({"job": name, "runs": forgotten})
    else:
        say(f"{name}: {len(forgotten)} run(s) erased: journals, frozen input, work tables. The output table stays.")


def forget_runs(name: str) -> list[str]:
    """Erase every run of a job, newest last, and the frames they were given; the ids.

    Raises `SliceBusy` while a process works on one of them.
    """
    from batch_llm.warehouse.uploads import drop_uploads
    from batch_llm.wiring import answer_index

    store = open_home()
    answers = answer_index(store.settings, "", tell)  # a run is forgotten whoever's it is
    with closing(answers), ExitStack() as alone:
        alone.enter_context(store.runs.starting(name))
        records = store.runs.all(name)
        runs = [record.run_id for record in reversed(records)]
        for run_id in runs:  # all of them before the first is erased
            alone.enter_context(store.runs.alone(run_id))
        for run_id in runs:
            answers.forget(run_id)
            store.warehouse.forget(run_id)  # first: the record that leads here goes last
            store.runs.delete(run_id)
        named = {record.source for record in store.runs.all()}
        for source in {record.source for record in records}:
            store.warehouse.forget_drafts(source)
        drop_uploads(store.settings.uploads_dir, {record.source for record in records}, named)
        store.learned.forget(name)
    return runs


def forget_older(older_than: str, reference: str | None, *, yes: bool, json: bool) -> None:
    """Erase the runs that ended so long ago, of one job or of all; output tables and unfinished runs stay."""
    from batch_llm.journal.retention import Retention, erase_expired, expired

    days = days_of(older_than)
    name = None if reference is None else name_of(reference)
    store = open_home()
    retention = Retention(days, store.warehouse.forget)
    count = len(expired(store.runs.all(), retention, name))
    if count and not yes:
        _ask(f"{count} run(s) of {name or 'all jobs'} that ended more than {days:g} days ago, with all raw answers")
    kept: list[BatchLLMError] = []
    forgotten = erase_expired(store.runs, retention, name, lambda _, error: kept.append(error)) if count else []
    if json:
        print_json({"job": name, "older_than_days": days, "runs": forgotten})
    else:
        say(f"{len(forgotten)} run(s) erased: journals, frozen input, work tables. Output tables stay.")
    if kept:
        raise JournalRefused(f"{len(kept)} run(s) are not erased, at least not wholly: {'; '.join(map(str, kept))}")


def days_of(text: str) -> float:
    """Days from ``30d``, ``12h``, ``4w`` or ``30``. Raises `ConfigurationError`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in DAYS else (text, "d")
    try:
        days = float(number) * DAYS[unit]
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise ConfigurationError(f"--older-than must be a time such as 30d, 4w or 12h, got {text!r}")
    return days


def _ask(what: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(f"this erases {what} for good; without a terminal to ask in, add --yes")
    if not typer.confirm(f"Erase {what}, for good?", err=True):
        raise Cancelled("nothing was erased")
