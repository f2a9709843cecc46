"""``batch-llm forget JOB``: erase what a job left in the home.

Belongs here: the question, the order of erasing. Not here: how a warehouse or journal erases.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing

import typer

from batch_llm.cli.jobs import name_of, open_home
from batch_llm.cli.speech import print_json, say, tell
from batch_llm.errors import Cancelled, ConfigurationError, JobFileError

__all__ = ["forget", "forget_runs"]


def forget(reference: str, *, yes: bool, json: bool) -> None:
    """Erase journals, frozen slices and published work tables of all runs of a job; the output table stays."""
    name = name_of(reference)
    store = open_home()
    count = len(store.runs.all(name))
    if not count:
        raise JobFileError(f"{name} has not run in {store.settings.home}; there is nothing to forget")
    if not yes:
        _ask(name, count)
    forgotten = forget_runs(name)
    if json:
        print_json({"job": name, "runs": forgotten})
    else:
        say(f"{name}: {len(forgotten)} run(s) erased: journals, frozen input, work tables. The output table stays.")


def forget_runs(name: str) -> list[str]:
    """Erase every run of a job, newest last; the ids. Raises `SliceBusy` while a process works on one of them."""
    from batch_llm.wiring import answer_index

    store = open_home()
    answers = answer_index(store.settings, "", tell)  # a run is forgotten whoever's it is
    with closing(answers), ExitStack() as alone:
        alone.enter_context(store.runs.starting(name))
        runs = [record.run_id for record in reversed(store.runs.all(name))]
        for run_id in runs:  # all of them before the first is erased
            alone.enter_context(store.runs.alone(run_id))
        for run_id in runs:
            answers.forget(run_id)
            store.warehouse.forget(run_id)  # first: the record that leads here goes last
            store.runs.delete(run_id)
    return runs


def _ask(name: str, count: int) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(
            f"this erases {count} run(s) of {name} for good; without a terminal to ask in, add --yes"
        )
    if not typer.confirm(f"Erase {count} run(s) of {name} with all raw answers, for good?", err=True):
        raise Cancelled("nothing was erased")
